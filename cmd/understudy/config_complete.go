package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"understudy/clone/volume"
	"understudy/replicate"
	"understudy/replicate/flavor"
)

// completeConfig adds to the configuration that init wrote what it leaves out while the server's
// image is to make the data directory, see replicate.Settings.Initialising. The server's next start
// reads it.
func completeConfig(dir string) (changed bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("complete the server's configuration: %w", err)
		}
	}()
	path := filepath.Join(dir, configFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) { // not init's
		return false, nil
	}
	if err != nil {
		return false, err
	}
	lacks := replicate.LacksWhileInitialising()
	has := parseFiles(map[string][]byte{configFile: text})
	if _, ok := has[lacks.Name]; ok {
		return false, nil
	}
	next := path + ".next"                                                                                   // no option file by its name
	if err := os.WriteFile(next, fmt.Appendf(text, "%s=%s\n", lacks.Name, lacks.Value), 0o644); err != nil { //nolint:gosec // the server may run as another user
		return false, err
	}
	return true, os.Rename(next, path)
}

// keepConfigComplete completes the configuration when the server's image is done.
func (s *sidecar) keepConfigComplete(ctx context.Context) {
	if s.Flavor != flavor.MySQL || s.configDir == "" {
		return
	}
	for told := false; ; {
		if s.record.Phase() != volume.Initialising {
			changed, err := completeConfig(s.configDir)
			if err == nil {
				if changed {
					s.Log.Info("the server's configuration is complete", "dir", s.configDir)
				}
				return
			}
			if !told {
				s.Log.Warn("will retry", "error", err)
				told = true
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.interval):
		}
	}
}
