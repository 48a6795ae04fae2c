package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"

	"understudy/e2e/apiserver"
	"understudy/e2e/set"
)

// Who the primary is.
const (
	ordinal = "ordinal"
	lease   = "lease"
)

// byLease starts an API server with a Lease and the members' pods, and has the set's primary be the
// member that the Lease names. stop ends the API server.
func byLease(ctx context.Context, cfg *set.Config) (stop func(), err error) {
	dir := filepath.Join(cfg.Dir, "api")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	api, err := apiserver.Start(ctx, dir)
	if err != nil {
		return nil, err
	}
	const namespace = "/namespaces/default/"
	_, err = api.Do(ctx, http.MethodPost, "/apis/coordination.k8s.io/v1"+namespace+"leases", "application/json",
		`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"db"}}`)
	uids := map[string]string{}
	for o := range members {
		text, podErr := api.Do(ctx, http.MethodPost, "/api/v1"+namespace+"pods", "application/json", fmt.Sprintf(
			`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"db-%d","labels":{"app":"db"}},"spec":{"containers":[{"name":"server","image":"none"}]}}`, o))
		var pod struct {
			Metadata struct{ Name, UID string } `json:"metadata"`
		}
		if podErr == nil {
			podErr = json.Unmarshal([]byte(text), &pod)
		}
		uids["--pod-name="+pod.Metadata.Name] = pod.Metadata.UID
		err = errors.Join(err, podErr)
	}
	if err != nil {
		api.Stop()
		return nil, err
	}
	cfg.Command = func(program string, args ...string) *exec.Cmd {
		cmd := api.Command(program, args...)
		for _, arg := range args {
			if uid := uids[arg]; uid != "" {
				cmd.Env = append(cmd.Env, "UNDERSTUDY_POD_UID="+uid)
			}
		}
		return cmd
	}
	cfg.InitFlags = []string{"--kube=on", "--namespace=default", "--primary=lease", fmt.Sprintf("--members=%d", members), "--semi-sync=required"}
	cfg.SidecarFlags = cfg.InitFlags
	return api.Stop, nil
}
