package clone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/replicate/flavor"
)

// tablespacesName is a file that XtraBackup 8 writes. Without it the prepare assumes that no
// tablespace lies outside of the data directory.
const tablespacesName = "xtrabackup_tablespaces"

var checkpointsNames = []string{"mariadb_backup_checkpoints", "xtrabackup_checkpoints", engine.MySQLCloneInfo}

// learn completes the header of a raw stream from its info file, and refuses what this engine
// cannot take. tablespaces says whether tablespacesName came.
func learn(ctx context.Context, h *wire.Header, info string, e Engine, tablespaces bool) error {
	h.Engine = engineOf(volume.InfoValue(info, "tool_name"))
	h.ToolVersion, h.ServerVersion = volume.InfoValue(info, "tool_version"), volume.InfoValue(info, "server_version")
	if h.Engine != e.Name() {
		return fmt.Errorf("%w: the donor streamed with %q, this member unpacks %q", ErrRefused, h.Engine, e.Name())
	}
	server, err := flavor.ParseServer(h.ServerVersion)
	if err != nil {
		return fmt.Errorf("%w: the info file's server_version: %w", ErrBroken, err)
	}
	tool, err := e.Version(ctx)
	if err != nil {
		return err
	}
	if err := e.CheckPairing(tool, server); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if h.Engine != engine.XtraBackupName {
		return nil
	}
	theirs, err := flavor.ParseServer(h.ToolVersion)
	if err != nil {
		return fmt.Errorf("%w: the info file's tool_version: %w", ErrBroken, err)
	}
	if theirs.AtLeast(8, 0, 0) && !tablespaces {
		return fmt.Errorf("%w: %s did not come", ErrBroken, tablespacesName)
	}
	return nil
}

// learnFrom is learn for an unpacked clone.
func learnFrom(ctx context.Context, root *os.Root, h *wire.Header, e Engine) error {
	there := in(root)
	info := e.InfoFiles()[slices.IndexFunc(e.InfoFiles(), there)]
	text, err := root.ReadFile(info)
	if err != nil {
		return fmt.Errorf("read %s: %w", info, err)
	}
	if err := learn(ctx, h, string(text), e, there(tablespacesName)); err != nil {
		return err
	}
	// The prepare would follow a pointer to a file elsewhere, which has not come.
	data, err := engine.MeasureData(ctx, root.Name())
	if err != nil {
		return err
	}
	external, err := externalTablespaces(root)
	if err != nil {
		return err
	}
	if elsewhere := append(data.Elsewhere, external...); len(elsewhere) > 0 {
		return fmt.Errorf("%w: a physical copy would not be whole: %s", ErrRefused, strings.Join(elsewhere, ", "))
	}
	return nil
}

// externalTablespaces are sentences about tables in tablespacesName whose data lie outside of the
// donor's data directory. The file also lists undo tablespaces, which XtraBackup does copy.
func externalTablespaces(root *os.Root) ([]string, error) {
	text, err := root.ReadFile(tablespacesName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list struct {
		External []struct {
			File string `json:"file_name"`
			Name string `json:"tablespace_name"`
			Type string `json:"tablespace_type"`
		} `json:"external_tablespaces"`
	}
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", ErrBroken, tablespacesName, err)
	}
	var all []string
	for _, t := range list.External {
		if t.Type == "TABLESPACE" {
			all = append(all, fmt.Sprintf("the tablespace %s lies outside of the donor's data directory, in %s", t.Name, t.File))
		}
	}
	return all, nil
}

// engineOf returns the engine of a tool, by all names that the tool has had.
func engineOf(tool string) string {
	has := func(name string) bool { return strings.Contains(tool, name) }
	switch {
	case slices.ContainsFunc([]string{"mariadb-backup", "mariabackup"}, has):
		return engine.MariaDBBackupName
	case slices.ContainsFunc([]string{"xtrabackup", "innobackupex"}, has):
		return engine.XtraBackupName
	case tool == "understudy":
		return engine.MySQLCloneName
	}
	return tool
}
