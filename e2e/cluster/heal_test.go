package cluster

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// firstVolumeLost: the first ordinal comes back from the most advanced member, with all that had
// reached it.
func firstVolumeLost(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	// What was acknowledged a moment ago may be on no replica yet, and would be lost: see README.
	goOn := s.pause(ctx, t)
	defer goOn()
	position := s.sql(ctx, t, "db-0", s.position)
	for i := 1; i < members; i++ {
		if out := s.sql(ctx, t, name(i), fmt.Sprintf(s.reached, position)); out != "0" {
			t.Errorf("%s has not come to %s within a minute", name(i), position)
		}
	}
	s.loseVolume(ctx, t, 0)
	check(t, s.WaitPodReady(ctx, "db-0"))
	goOn()
	log, err := s.Logs(ctx, "db-0", "init")
	if check(t, err); !strings.Contains(log, "the first ordinal comes back from the most advanced member") {
		t.Errorf("db-0 did not come back from a member:\n%s", log)
	}
	s.progress(ctx, t)
}

// reseeded: a replica with an errant transaction is reseeded on request, by an eviction of its pod.
func reseeded(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	s.sql(ctx, t, "db-2", "STOP REPLICA; SET GLOBAL read_only = OFF; CREATE DATABASE errant;")
	s.told(ctx, t, "db-2", "NeedsHelp", "reseed")
	check(t, s.wait(ctx, "db-2 to be unready", func(ctx context.Context) error {
		out, err := s.Kubectl(ctx, "get", "pod", "db-2", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && out != "False" {
			err = fmt.Errorf("ready: %s", out)
		}
		return err
	}))
	uid := s.uid(ctx, t, "db-2")
	_, err := s.Exec(ctx, "db-2", "sidecar", "understudy", "reseed", "--reason=the row of the table")
	check(t, err)
	s.gone(ctx, t, "db-2", uid)
	check(t, s.WaitPodReady(ctx, "db-2"))
	if out := s.sql(ctx, t, "db-2", "SHOW DATABASES LIKE 'errant'"); out != "" {
		t.Errorf("db-2 still has %s", out)
	}
	path, err := s.VolumePath(ctx, "data-db-2")
	check(t, err)
	reasons, err := filepath.Glob(filepath.Join(path, ".understudy", "replaced-*.json"))
	if err != nil || len(reasons) != 1 {
		t.Fatalf("what was replaced is explained in %q (%v)", reasons, err)
	}
	text, err := os.ReadFile(reasons[0])
	if err != nil || !strings.Contains(string(text), "the row of the table") {
		t.Errorf("%s says %s (%v)", reasons[0], text, err)
	}
	if _, err := os.Stat(filepath.Join(strings.TrimSuffix(reasons[0], ".json"), "ibdata1")); err != nil {
		t.Errorf("the old data are gone: %v", err)
	}
}

// secretsRotated: all at once, under load, as README says.
func secretsRotated(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	before := s.secrets(ctx, t)
	next := map[string]any{}
	ended := map[string]any{}
	for _, key := range secretKeys {
		b := make([]byte, 24)
		_, _ = rand.Read(b)
		next[key] = base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString(b)))
		next[key+"-previous"] = before[key]
		ended[key+"-previous"] = nil
	}
	s.patchSecret(ctx, t, next)
	for i := range members {
		check(t, s.wait(ctx, name(i)+" to have the new Secret", func(ctx context.Context) error {
			s.hurry(ctx, t, name(i))
			out, err := s.Exec(ctx, name(i), "server", "cat", "/secret/root-password") // our own container may have no cat
			if err == nil && strings.TrimSpace(out) != plain(t, next["root-password"]) {
				err = errors.New("it has the old one")
			}
			return err
		}))
	}
	s.progress(ctx, t)
	s.loseVolume(ctx, t, 2) // a clone, and a login with the new password, while there are two
	check(t, s.WaitPodReady(ctx, "db-2"))

	s.patchSecret(ctx, t, ended)
	check(t, s.wait(ctx, "the old password of root to be refused", func(ctx context.Context) error {
		s.hurry(ctx, t, "db-0")
		out, err := s.Exec(ctx, "db-0", "server", "env", "MYSQL_PWD="+plain(t, before["root-password"]), s.client, "-h127.0.0.1", "-uroot", "-e", "SELECT 1")
		if err == nil {
			return fmt.Errorf("it is taken: %s", out)
		}
		return nil
	}))
	s.loseVolume(ctx, t, 1) // the same with the new ones alone
	check(t, s.WaitPodReady(ctx, "db-1"))
	s.progress(ctx, t)
}

// secrets are the Secret's values, in base64.
func (s *set) secrets(ctx context.Context, t *testing.T) map[string]string {
	t.Helper()
	out, err := s.Kubectl(ctx, "get", "secret", "db-secrets", "-o", "jsonpath={.data}")
	check(t, err)
	data := map[string]string{}
	check(t, json.Unmarshal([]byte(out), &data))
	return data
}

func plain(t *testing.T, encoded any) string {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(fmt.Sprint(encoded))
	check(t, err)
	return string(text)
}

// patchSecret changes the Secret.
func (s *set) patchSecret(ctx context.Context, t *testing.T, data map[string]any) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"data": data})
	check(t, err)
	_, err = s.Kubectl(ctx, "patch", "secret", "db-secrets", "--type=merge", "-p", string(patch))
	check(t, err)
}

// hurry makes the kubelet look at a pod, and at the Secrets in it, now instead of within a minute
// or two.
func (s *set) hurry(ctx context.Context, t *testing.T, pod string) {
	t.Helper()
	_, err := s.Kubectl(ctx, "annotate", "pod", pod, "--overwrite", fmt.Sprintf("test/looked-at=%d", time.Now().UnixNano()))
	check(t, err)
}
