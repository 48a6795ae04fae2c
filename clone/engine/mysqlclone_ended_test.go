package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/clone/volume"
	"understudy/e2e/testserver"
)

// However a backup ends, neither its snapshot nor its CLONE is left, and the next one works.
func TestMySQLCloneIsEnded(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, cloneOptions...)
	fill(t, s.DB(), 256)
	boom := errors.New("boom")
	begin := func(t *testing.T, ctx context.Context, e *MySQLClone) *Process {
		t.Helper()
		p, err := e.Backup(ctx, account, "backup-1", func(Stage) {})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	written := func(t *testing.T, e *MySQLClone) {
		t.Helper()
		eventually(t, "snapshot", func() bool {
			_, err := os.Stat(filepath.Join(e.Dir, "backup-1", "mysql.ibd"))
			return err == nil
		})
	}
	tests := []struct {
		name string
		run  func(t *testing.T, e *MySQLClone) error
		want error
	}{
		{"cancelled while it is made", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			ctx, cancel := context.WithCancelCause(t.Context())
			p := begin(t, ctx, e)
			written(t, e)
			cancel(boom)
			_, _ = io.Copy(io.Discard, p.Stdout)
			return p.Wait()
		}, boom},
		{"cancelled while it is streamed", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			ctx, cancel := context.WithCancelCause(t.Context())
			p := begin(t, ctx, e)
			_, _ = io.CopyN(io.Discard, p.Stdout, 1<<20)
			cancel(boom)
			_, _ = io.Copy(io.Discard, p.Stdout)
			return p.Wait()
		}, boom},
		{"the reader leaves", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			p := begin(t, t.Context(), e)
			_, _ = io.CopyN(io.Discard, p.Stdout, 1<<20)
			_ = p.Stdout.Close()
			return p.Wait()
		}, io.ErrClosedPipe},
		{"the volume fills up", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			free, err := volume.FreeSpace(e.Dir)
			if err != nil {
				t.Fatal(err)
			}
			e.MinFree = free.Bytes - 100<<20 // less than the snapshot takes
			p := begin(t, t.Context(), e)
			_, _ = io.Copy(io.Discard, p.Stdout)
			return p.Wait()
		}, ErrNoRoom},
		{"another CLONE runs", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			other := newClone(t)
			p := begin(t, t.Context(), other)
			written(t, other)
			mine := begin(t, t.Context(), e)
			n, _ := io.Copy(io.Discard, mine.Stdout)
			if n > 0 {
				t.Errorf("%d bytes came", n)
			}
			_, _ = io.Copy(io.Discard, p.Stdout)
			return errors.Join(mine.Wait(), p.Wait())
		}, ErrBusy},
		{"another backup runs", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			p := begin(t, t.Context(), e)
			_, err := e.Backup(t.Context(), account, "backup-2", func(Stage) {})
			_, _ = io.Copy(io.Discard, p.Stdout)
			return errors.Join(err, p.Wait())
		}, ErrBusy},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newClone(t)
			if err := tt.run(t, e); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			wantEmpty(t, e.Dir)
			if n := query[int](t, s.DB(), "SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_info LIKE 'CLONE%'"); n != 0 {
				t.Errorf("%d CLONEs go on", n)
			}
			e.MinFree = 0
			extracted(t, e, account, func(Stage) {})
		})
	}
}

// A process that was killed leaves a CLONE in the server, which goes on.
func TestMySQLCloneRecovers(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, cloneOptions...)
	fill(t, s.DB(), 256)
	e := newClone(t)
	ended := make(chan error, 1)
	go func() {
		_, err := s.DB().ExecContext(context.WithoutCancel(t.Context()), statementClone+"'"+filepath.Join(e.Dir, "orphan")+"'")
		ended <- err
	}()
	eventually(t, "CLONE", func() bool {
		_, err := os.Stat(filepath.Join(e.Dir, "orphan", "mysql.ibd"))
		return err == nil
	})
	if err := e.Recover(t.Context(), account); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("it was over already")
	}
	wantEmpty(t, e.Dir)
}

// A server that dies takes its CLONE with it, and leaves the files.
func TestMySQLCloneOfAServerThatDies(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, cloneOptions...)
	fill(t, s.DB(), 256)
	e := newClone(t)
	p, err := e.Backup(t.Context(), account, "backup-1", func(Stage) {})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "snapshot", func() bool {
		_, err := os.Stat(filepath.Join(e.Dir, "backup-1", "mysql.ibd"))
		return err == nil
	})
	s.Kill()
	_, _ = io.Copy(io.Discard, p.Stdout)
	if err := p.Wait(); !errors.Is(err, ErrSnapshot) {
		t.Errorf("error %v", err)
	}
	wantEmpty(t, e.Dir)
}

// What is missing is said, before the first byte.
func TestMySQLCloneRefuses(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, cloneOptions...)
	execute(t, s.DB(), "CREATE USER least@'%' IDENTIFIED BY 'p'", "GRANT PROCESS ON *.* TO least@'%'")
	for _, table := range []string{"clone_progress", "clone_status", "threads", "metadata_locks", "replication_connection_configuration", "keyring_component_status"} {
		execute(t, s.DB(), "GRANT SELECT ON performance_schema."+table+" TO least@'%'")
	}
	least := account
	least.User, least.Password = "least", "p"
	tests := []struct {
		name    string
		account Account
		spoil   func(t *testing.T, e *MySQLClone)
		want    string
	}{
		{"privilege", least, func(*testing.T, *MySQLClone) {}, "GRANT BACKUP_ADMIN"},
		{"plugin", account, func(t *testing.T, _ *MySQLClone) {
			t.Helper()
			execute(t, s.DB(), "UNINSTALL PLUGIN clone")
		}, "plugin-load-add=mysql_clone.so"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newClone(t)
			tt.spoil(t, e)
			for _, backup := range []backupOf{e.Backup, e.BackupDirect} {
				p, err := backup(t.Context(), tt.account, "backup-1", func(Stage) {})
				if err == nil {
					n, _ := io.Copy(io.Discard, p.Stdout)
					if err = p.Wait(); n > 0 {
						t.Errorf("%d bytes came", n)
					}
				}
				if !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%q is not in: %v", tt.want, err)
				}
			}
			wantEmpty(t, e.Dir)
			if tt.account == least {
				leastSuffices(t, s, least)
			}
		})
	}
}

// leastSuffices gives an account what the refusal asked for.
func leastSuffices(t *testing.T, s *testserver.Server, least Account) {
	t.Helper()
	execute(t, s.DB(), "GRANT BACKUP_ADMIN ON *.* TO least@'%'")
	e := newClone(t)
	if inv, err := e.Inventory(t.Context(), least, s.Config().DataDir); err != nil || inv.StreamBytes() == 0 {
		t.Errorf("inventory %+v, %v", inv, err)
	}
	extracted(t, e, least, func(Stage) {})
	handedOver(t, e, least, func(Stage) {})
}

// A server that has another file system where its snapshots shall be is found out soon.
func TestMySQLCloneElsewhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system for the server alone")
	}
	in := mysql97(t)
	e := newClone(t)
	script := "#!/bin/sh\nexec unshare --mount sh -c 'mount -t tmpfs none " + e.Dir + " && exec \"$0\" \"$@\"' " + in.Server + " \"$@\"\n"
	in.Server = filepath.Join(t.TempDir(), "mysqld")
	if err := os.WriteFile(in.Server, []byte(script), 0o700); err != nil { //nolint:gosec // it has to be executable
		t.Fatal(err)
	}
	_, account := startInstallation(t, in, cloneOptions...)
	p, err := e.Backup(t.Context(), account, "backup-1", func(Stage) {})
	if err != nil {
		t.Fatal(err)
	}
	n, _ := io.Copy(io.Discard, p.Stdout)
	if err := p.Wait(); n > 0 || !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), "mount the volume's sub-path .understudy/snapshot into the server's container, at "+e.Dir) {
		t.Errorf("%d bytes, error %v", n, err)
	}
}
