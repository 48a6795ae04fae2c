package cluster

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tutorial is a set that was made as in the Kubernetes tutorial, in a namespace of its own.
type tutorial struct {
	*set

	rows int // of shop.ledger, so far
}

const (
	tutorialNamespace = "tutorial"
	// statement runs SQL on a member's own server. The tutorial's root has no password.
	statement = `exec mariadb -h127.0.0.1 -uroot -N -B`
)

// fromTutorial does what manifests/from-tutorial/README.md says, step by step.
func fromTutorial(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	own := *s.Cluster
	own.Namespace = tutorialNamespace
	k := &tutorial{set: &set{Cluster: &own}}
	defer func() {
		if t.Failed() {
			own.Dump(ctx, t)
		}
	}()
	k.old(ctx, t)
	k.insert(ctx, t, "mysql")
	var before []string
	for i := range members {
		k.has(ctx, t, i, "mysql")
		before = append(before, k.identity(ctx, t, i, "mysql"))
	}
	k.accounts(ctx, t)
	_, err := k.Kubectl(ctx, "delete", "statefulset", "mysql", "--cascade=orphan")
	check(t, err)
	check(t, k.Apply(ctx, "testdata/from-tutorial"))
	for i := members - 1; i >= 0; i-- {
		k.insert(ctx, t, "mysql") // mysql-0 moves last
		k.move(ctx, t, i)
		k.has(ctx, t, i, "server")
	}
	k.insert(ctx, t, "server")
	for i := range members {
		k.has(ctx, t, i, "server")
		if now := k.identity(ctx, t, i, "server"); now != before[i] {
			t.Errorf("mysql-%d was %q, and is %q", i, before[i], now)
		}
		k.adopted(ctx, t, i)
	}
}

// old brings the tutorial's own set up.
func (k *tutorial) old(ctx context.Context, t *testing.T) {
	t.Helper()
	_, err := k.Kubectl(ctx, "create", "namespace", tutorialNamespace)
	check(t, err)
	check(t, k.AddVolumes(ctx, "w0", "w1", "w2"))
	_, err = k.Kubectl(ctx, "apply", "-f", "testdata/tutorial/set.yaml")
	check(t, err)
	for i := range members {
		check(t, k.WaitPodReady(ctx, member(i)))
	}
}

func member(ordinal int) string { return fmt.Sprintf("mysql-%d", ordinal) }

func (k *tutorial) ask(ctx context.Context, ordinal int, container, statements string) (string, error) {
	out, err := k.ExecInput(ctx, strings.NewReader(statements), member(ordinal), container, "sh", "-c", statement)
	return strings.TrimSpace(out), err
}

// insert adds rows at the primary.
func (k *tutorial) insert(ctx context.Context, t *testing.T, container string) {
	t.Helper()
	const more = 100
	_, err := k.ask(ctx, 0, container, fmt.Sprintf(`CREATE DATABASE IF NOT EXISTS shop; CREATE TABLE IF NOT EXISTS shop.ledger (n INT PRIMARY KEY);
		INSERT INTO shop.ledger SELECT seq FROM shop.seq_%d_to_%d;`, k.rows+1, k.rows+more))
	check(t, err)
	k.rows += more
}

// has waits until a member holds all rows.
func (k *tutorial) has(ctx context.Context, t *testing.T, ordinal int, container string) {
	t.Helper()
	check(t, k.wait(ctx, fmt.Sprintf("%d rows on %s", k.rows, member(ordinal)), func(ctx context.Context) error {
		out, err := k.ask(ctx, ordinal, container, "SELECT CONCAT(COUNT(*), ' up to ', MAX(n)) FROM shop.ledger")
		if want := fmt.Sprintf("%d up to %d", k.rows, k.rows); err == nil && out != want {
			err = fmt.Errorf("%s has %s, not %s", member(ordinal), out, want)
		}
		return err
	}))
}

// identity is what a member keeps: its server id, the name of its binary logs where it
// has some already, and whether it replicates by position.
func (k *tutorial) identity(ctx context.Context, t *testing.T, ordinal int, container string) string {
	t.Helper()
	ask := "SELECT @@server_id, IF(@@server_id = 100, @@log_bin_basename, '');"
	out, err := k.ask(ctx, ordinal, container, ask)
	check(t, err)
	status, err := k.ask(ctx, ordinal, container, "SHOW ALL SLAVES STATUS\\G")
	check(t, err)
	for line := range strings.Lines(status) {
		if mode := strings.TrimSpace(line); strings.HasPrefix(mode, "Using_Gtid:") {
			out += ", " + mode
		}
	}
	return out
}

// accounts makes the Secret and the accounts.
func (k *tutorial) accounts(ctx context.Context, t *testing.T) {
	t.Helper()
	k.secret(ctx, t)
	password := func(key string) string {
		out, err := k.Kubectl(ctx, "get", "secret", "db-secrets", "-o", "jsonpath={.data."+key+"}")
		check(t, err)
		text, err := base64.StdEncoding.DecodeString(out)
		check(t, err)
		return string(text)
	}
	_, err := k.ask(ctx, 0, "mysql", fmt.Sprintf(`CREATE USER understudy@127.0.0.1 IDENTIFIED BY '%s';
		GRANT ALL PRIVILEGES ON *.* TO understudy@127.0.0.1 WITH GRANT OPTION;
		CREATE USER understudy_replication@'%%' IDENTIFIED BY '%s';
		GRANT REPLICATION SLAVE ON *.* TO understudy_replication@'%%';`, password("root-password"), password("replication-password")))
	check(t, err)
}

// move lets one pod be replaced.
func (k *tutorial) move(ctx context.Context, t *testing.T, ordinal int) {
	t.Helper()
	uid := k.uid(ctx, t, member(ordinal))
	_, err := k.Kubectl(ctx, "patch", "statefulset", "mysql", "-p",
		fmt.Sprintf(`{"spec": {"updateStrategy": {"rollingUpdate": {"partition": %d}}}}`, ordinal))
	check(t, err)
	k.gone(ctx, t, member(ordinal), uid)
	check(t, k.WaitPodReady(ctx, member(ordinal)))
}

// adopted checks that a member runs on the files that it had.
func (k *tutorial) adopted(ctx context.Context, t *testing.T, ordinal int) {
	t.Helper()
	log, err := k.Logs(ctx, member(ordinal), "init")
	if check(t, err); !strings.Contains(log, `"verdict":"adopt"`) {
		t.Errorf("%s was not adopted:\n%s", member(ordinal), log)
	}
	path, err := k.VolumePath(ctx, "data-"+member(ordinal))
	check(t, err)
	journal, err := os.ReadFile(filepath.Join(path, ".understudy", "journal"))
	if check(t, err); !strings.Contains(string(journal), `"adopted": true`) || !strings.Contains(string(journal), `"attached"`) {
		t.Errorf("the journal of %s: %s", member(ordinal), journal)
	}
}
