//go:build full

package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// All secrets of a set are rotated under a writer, and back again, by replacing files only. Every
// member gets the new files at another time.
func TestPasswordsRotated(t *testing.T) {
	flavours(t, rotateAll)
}

func rotateAll(t *testing.T, in testserver.Installation) {
	t.Helper()
	dir := ""
	ctx, s := newSet(t, in, func(c *set.Config) { dir = c.Dir })
	p0, p1, p2 := newPod(t, s, 0), newPod(t, s, 1), newPod(t, s, 2)
	p0.knows(t, "a", "")
	p0.up(ctx, t)
	if err := load.Create(ctx, p0.Server.DB()); err != nil {
		t.Fatal(err)
	}
	execute(ctx, t, p0.Member, "CREATE USER probe@'%' IDENTIFIED BY 'probe'", "GRANT ALL ON *.* TO probe@'%'")
	w, finish := write(ctx, t, p0.Member)
	p1.knows(t, "a", "")
	p1.up(ctx, t)

	// A replica gets the new files first, then the primary. The joiner has the old ones.
	p1.knows(t, "b", "a")
	p1.reconnects(ctx, t, w)
	p0.knows(t, "b", "a")
	p0.admits(ctx, t, map[string]bool{"b": true, "a": true})
	p2.knows(t, "a", "")
	p2.up(ctx, t)
	p2.restarts(ctx, t, w)
	p1.reconnects(ctx, t, w)

	// The rotation ends too early: a member that has only the old files is locked out until it gets
	// the new ones.
	p0.knows(t, "b", "")
	p0.admits(ctx, t, map[string]bool{"b": true, "a": false})
	p2.admits(ctx, t, map[string]bool{"b": true, "a": false}) // by replication
	p2.threads(ctx, t)
	if err := p2.StopSidecar(ctx); err != nil {
		t.Fatal(err)
	}
	p2.starts(t)
	eventually(t, time.Minute, "db-2 says what is wrong", func() bool {
		_, body, err := p2.Get(ctx, "/readyz")
		return err == nil && strings.Contains(body, "--admin-password-file")
	})
	p2.knows(t, "b", "a")
	p2.catchesUp(ctx, t, w)
	p2.knows(t, "b", "")
	p1.knows(t, "b", "")
	for _, p := range []*pod{p1, p2} {
		p.reconnects(ctx, t, w)
	}

	// Back to the old secrets, the primary first.
	p0.knows(t, "a", "b")
	p0.admits(ctx, t, map[string]bool{"b": true, "a": true})
	p1.reconnects(ctx, t, w)
	p2.knows(t, "a", "b")
	p2.reconnects(ctx, t, w)
	p1.knows(t, "a", "b")
	p1.reconnects(ctx, t, w)
	p2.knows(t, "a", "")
	p0.knows(t, "a", "")
	p0.admits(ctx, t, map[string]bool{"b": false, "a": true})
	for _, p := range []*pod{p2, p1} {
		p.knows(t, "a", "")
		p.reconnects(ctx, t, w)
	}
	finish(p1.Member, p2.Member)
	notInLogs(t, dir)
}

// pod is a member with secrets of its own.
type pod struct {
	*set.Member

	set *set.Set
	dir string
}

func newPod(t *testing.T, s *set.Set, ordinal int) *pod {
	t.Helper()
	return &pod{Member: s.Member(ordinal), set: s, dir: t.TempDir()}
}

const generationOf = "-of-generation-" // no such text is in a log

// generation is a secret of one generation. The first one of root is what the image makes.
func (p *pod) generation(kind, g string) string {
	switch {
	case kind == "root" && g == "a":
		return p.set.RootPassword()
	case kind == "secret":
		return kind + generationOf + strings.Repeat(g, 32)
	}
	return kind + generationOf + g
}

// knows replaces the pod's files. Without a previous generation the files of the previous secrets
// are missing.
func (p *pod) knows(t *testing.T, current, previous string) {
	t.Helper()
	put := func(name, text string) {
		path := filepath.Join(p.dir, name)
		if err := errors.Join(os.WriteFile(path+".new", []byte(text+"\n"), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{"secret", "root", "replication", "sidecar", "clone"} {
		if previous != "" {
			put(kind+"-previous", p.generation(kind, previous))
		} else if err := os.Remove(filepath.Join(p.dir, kind+"-previous")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		put(kind, p.generation(kind, current))
	}
}

// up is set.Member's, with the pod's own files.
func (p *pod) up(ctx context.Context, t *testing.T) {
	t.Helper()
	initCode(ctx, t, p.Member, 0, p.trust()...)
	p.starts(t)
	if err := p.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

func (p *pod) file(name string) string { return filepath.Join(p.dir, name) }

func (p *pod) trust() []string {
	return []string{"--secret-file=" + p.file("secret"), "--secret-file-previous=" + p.file("secret-previous")}
}

func (p *pod) starts(t *testing.T) {
	t.Helper()
	err := p.StartSidecar(append(
		p.trust(), "--admin-password-file="+p.file("root"), "--admin-password-file-previous="+p.file("root-previous"),
		"--replication-password-file="+p.file("replication"), "--replication-password-file-previous="+p.file("replication-previous"),
		"--sidecar-password-file="+p.file("sidecar"), "--sidecar-password-file-previous="+p.file("sidecar-previous"),
		"--clone-password-file="+p.file("clone"), "--clone-password-file-previous="+p.file("clone-previous"),
	)...)
	if err != nil {
		t.Fatal(err)
	}
}

// probe asks the pod's server with an account that understudy does not know.
func (p *pod) probe(t *testing.T, use func(*sql.DB) error) {
	t.Helper()
	db, err := p.Server.Open("probe", "probe")
	if err == nil {
		err = errors.Join(use(db), db.Close())
	}
	if err != nil {
		t.Fatalf("%s: %v", p.Name(), err)
	}
}

// threads makes the receiver log in again.
func (p *pod) threads(ctx context.Context, t *testing.T) {
	t.Helper()
	p.probe(t, func(db *sql.DB) error {
		_, stop := db.ExecContext(ctx, "STOP REPLICA")
		_, start := db.ExecContext(ctx, "START REPLICA")
		return errors.Join(stop, start)
	})
}

// reconnects makes the receiver log in again, and waits until it has the row that is written now.
func (p *pod) reconnects(ctx context.Context, t *testing.T, w *load.Load) {
	t.Helper()
	p.threads(ctx, t)
	p.catchesUp(ctx, t, w)
}

// restarts kills server and sidecar and starts them again.
func (p *pod) restarts(ctx context.Context, t *testing.T, w *load.Load) {
	t.Helper()
	p.KillSidecar()
	p.Server.Kill()
	p.up(ctx, t)
	p.catchesUp(ctx, t, w)
}

func (p *pod) catchesUp(ctx context.Context, t *testing.T, w *load.Load) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	p.probe(t, func(db *sql.DB) error { return load.WaitGTID(ctx, db, w.LastGTID()) })
	if err := p.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// admits waits until all accounts can log in with a generation's passwords, or none can.
func (p *pod) admits(ctx context.Context, t *testing.T, want map[string]bool) {
	t.Helper()
	kinds := map[string]string{"root": "root", "understudy_replication": "replication", "understudy_sidecar": "sidecar", "understudy_clone": "clone"}
	for user, kind := range kinds {
		for g, in := range want {
			db, err := p.Server.Open(user, p.generation(kind, g))
			if err != nil {
				t.Fatal(err)
			}
			db.SetMaxIdleConns(-1)
			eventually(t, time.Minute, user+" of generation "+g, func() bool { return (db.PingContext(ctx) == nil) == in })
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func notInLogs(t *testing.T, dir string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "*", "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	for _, path := range logs {
		if text, err := os.ReadFile(path); err != nil || bytes.Contains(text, []byte(generationOf)) {
			t.Errorf("a secret is in %s (%v)", path, err)
		}
	}
}
