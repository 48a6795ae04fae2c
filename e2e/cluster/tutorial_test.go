package cluster

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tutorial is a set that was made as in the Kubernetes tutorial, in a namespace of its own.
type tutorial struct{ *set }

const (
	tutorialNamespace = "tutorial"
	// statement runs SQL on a member's own server. The tutorial's root has no password.
	statement = `exec mariadb -uroot -N -B`
)

// fromTutorial does what manifests/from-tutorial/README.md says, step by step, while a writer does
// not stop.
func fromTutorial(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	own := *s.Cluster
	own.Namespace = tutorialNamespace
	k := &tutorial{set: &set{Cluster: &own, flavour: s.flavour}}
	defer func() {
		if t.Failed() {
			own.Dump(ctx, t)
		}
		_, err := own.Kubectl(ctx, "delete", "namespace", tutorialNamespace, "--ignore-not-found", "--wait=false")
		check(t, err)
	}()
	k.old(ctx, t)
	k.insert(ctx, t)
	before := make([]string, members)
	for i := range members {
		k.has(ctx, t, i, "mysql", nil)
		before[i] = k.identity(ctx, t, i, "mysql")
	}
	k.accounts(ctx, t)
	_, err := k.Kubectl(ctx, "delete", "statefulset", "mysql", "--cascade=orphan")
	check(t, err)
	check(t, k.Apply(ctx, "testdata/from-tutorial"))
	check(t, k.ApplyText(ctx, k.writerPod())) // the service mysql-primary is there, and selects the old mysql-0
	check(t, k.WaitPodReady(ctx, "writer"))
	for i := members - 1; i >= 0; i-- {
		k.progress(ctx, t)
		k.move(ctx, t, i)
	}
	for i := range members {
		if now := k.identity(ctx, t, i, "server"); now != before[i] {
			t.Errorf("%s was %q, and is %q", member(i), before[i], now)
		}
		k.adopted(ctx, t, i)
	}
	k.labelled(ctx, t)
	_, err = k.ask(ctx, 0, "server", "DROP USER root@'%'") // nothing needs it any more
	check(t, err)
	k.progress(ctx, t)
	written := k.acknowledged(ctx, t)
	for i := range members {
		k.has(ctx, t, i, "server", written)
	}
	t.Logf("%d commits were acknowledged, and are on all members", len(written))
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

// already is how many rows there are before the writer starts. They are -1, -2 and so on; the
// writer begins at 1.
const already = 100

// insert makes the table of the writer, and the first rows.
func (k *tutorial) insert(ctx context.Context, t *testing.T) {
	t.Helper()
	_, err := k.ask(ctx, 0, "mysql", fmt.Sprintf(`CREATE DATABASE shop; CREATE TABLE shop.ledger (n INT PRIMARY KEY);
		INSERT INTO shop.ledger SELECT -seq FROM shop.seq_1_to_%d;
		CREATE USER writer@'%%' IDENTIFIED BY 'writer'; GRANT SELECT, INSERT ON shop.* TO writer@'%%';`, already))
	check(t, err)
}

// has waits until a member holds the first rows and those that were written.
func (k *tutorial) has(ctx context.Context, t *testing.T, ordinal int, container string, written []int) {
	t.Helper()
	check(t, k.wait(ctx, "all rows on "+member(ordinal), func(ctx context.Context) error {
		out, err := k.ask(ctx, ordinal, container, "SELECT n FROM shop.ledger ORDER BY n")
		if err != nil {
			return err
		}
		rows := numbers(t, out)
		if len(rows) < already || rows[already-1] != -1 {
			return fmt.Errorf("of %d first rows some are missing: %v", already, rows)
		}
		for _, n := range written {
			if _, found := slices.BinarySearch(rows, n); !found {
				return fmt.Errorf("commit %d was acknowledged, and %s does not have it", n, member(ordinal))
			}
		}
		return nil
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

// move lets one pod be replaced, and tells how long that took.
func (k *tutorial) move(ctx context.Context, t *testing.T, ordinal int) {
	t.Helper()
	begun := time.Now()
	uid := k.uid(ctx, t, member(ordinal))
	_, err := k.Kubectl(ctx, "patch", "statefulset", "mysql", "-p",
		fmt.Sprintf(`{"spec":{"updateStrategy":{"rollingUpdate":{"partition":%d}}}}`, ordinal))
	check(t, err)
	_, err = k.Kubectl(ctx, "rollout", "status", "statefulset", "mysql", "--timeout=300s")
	check(t, err)
	if k.uid(ctx, t, member(ordinal)) == uid {
		t.Errorf("%s did not move", member(ordinal))
	}
	t.Logf("%s moved in %.1f s", member(ordinal), time.Since(begun).Seconds())
}

// labelled waits for the roles, as a person sees them.
func (k *tutorial) labelled(ctx context.Context, t *testing.T) {
	t.Helper()
	const want = "mysql-0=primary mysql-1=replica mysql-2=replica "
	check(t, k.wait(ctx, "role labels", func(ctx context.Context) error {
		out, err := k.Kubectl(ctx, "get", "pods", "-l", "app=mysql", "-o",
			`jsonpath={range .items[*]}{.metadata.name}={.metadata.labels.understudy/role} {end}`)
		if err == nil && out != want {
			err = fmt.Errorf("the labels are %s", out)
		}
		return err
	}))
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
