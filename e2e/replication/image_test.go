//go:build replication

package replication

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"understudy/e2e/set"
)

// imageKilled is a set of its own, whose server's image is killed between root's password and the
// end of the user's scripts, each time that it begins: the restarted container skips the rest, and
// a server answers with half of the data.
func imageKilled(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	dir := t.TempDir()
	other, err := set.New(set.Config{
		Binary: program, Install: f.Install(), Dir: dir, InitFlags: []string{"--members=1"}, SidecarFlags: []string{"--members=1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := other.Member(0)
	t.Cleanup(func() {
		if err := other.End(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	m.Scripts = t.TempDir()
	script := filepath.Join(m.Scripts, "killed.sh")
	if err := os.WriteFile(script, []byte("kill -9 $$\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for attempt := 1; attempt <= 3; attempt++ {
		f.initialise(ctx, t, m)
		if err := m.StartSidecar(); err != nil {
			t.Fatal(err)
		}
		if err := m.StartServer(ctx); err == nil {
			t.Fatal("the image was not killed")
		}
		if err := m.StartServer(ctx); err != nil {
			t.Fatal(err)
		}
		if attempt < 3 {
			f.says(ctx, t, m, "the server's image was interrupted", "attempt")
			f.unready(ctx, t, m, "the image starts over")
		} else {
			f.reports(ctx, t, m, "attempt 3 of 3")
		}
		f.down(ctx, t, m)
	}
	// The script is corrected. Without our scripts, and without Kubernetes, nothing proves that the
	// image is done.
	if err := os.WriteFile(script, []byte("true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.NoMarks = true
	f.up(ctx, t, m)
	f.reports(ctx, t, m, "nothing proves that its image has made the whole data directory")
	if err := os.WriteFile(filepath.Join(m.Live(), ".understudy-ended"), nil, 0o600); err != nil { // as it says
		t.Fatal(err)
	}
	f.ready(ctx, t, m)
}
