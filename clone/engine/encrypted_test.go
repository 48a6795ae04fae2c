package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/e2e/testserver"

	"understudy/clone/mysqlwire"
)

const keyringComponent = "component_keyring_file"

// withKeyring is an installation whose server has a keyring in a file. It loads what is named beside
// its program, and finds the component's settings beside the component.
//
// https://dev.mysql.com/doc/refman/9.4/en/keyring-component-installation.html
func withKeyring(t *testing.T, in testserver.Installation) testserver.Installation {
	t.Helper()
	dir := t.TempDir()
	const programs = "root/usr/sbin"
	plugins := filepath.Join(dir, "plugin")
	mirror(t, filepath.Dir(in.BaseDir), filepath.Join(dir, "root"), "usr", "sbin")
	mirror(t, filepath.Join(in.BaseDir, "lib", "mysql", "plugin"), plugins)
	script, err := os.ReadFile(in.Server)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		programs + "/mysqld.my":               `{"components": "file://` + keyringComponent + `"}`,
		"plugin/" + keyringComponent + ".cnf": `{"path": "` + filepath.Join(dir, "keyring") + `", "read_only": false}`,
		"bin/mysqld":                          string(script),
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o700)); err != nil { //nolint:gosec // one of them is a program
			t.Fatal(err)
		}
	}
	in.Server = filepath.Join(dir, "bin", "mysqld")
	return withOptions(t, in, "--plugin-dir="+plugins)
}

// mirror makes a directory of links to what is in another one, and one of the same kind below it
// for each further name.
func mirror(t *testing.T, from, to string, deeper ...string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err = errors.Join(err, os.Mkdir(to, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		source, target := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		if len(deeper) > 0 && e.Name() == deeper[0] {
			mirror(t, source, target, deeper[1:]...)
			continue
		}
		if err := os.Symlink(source, target); err != nil {
			t.Fatal(err)
		}
	}
}

// startWithKeyring starts a server that can encrypt, with so many MiB, and something of each kind to
// encrypt.
func startWithKeyring(t *testing.T, mib int) (in testserver.Installation, s *testserver.Server, a Account) {
	t.Helper()
	in = mysql97(t)
	s, a = startInstallation(t, withKeyring(t, in), append(cloneOptions, "--server-id=1")...)
	if got := query[string](t, s.DB(), "SELECT status_value FROM performance_schema.keyring_component_status WHERE status_key = 'Component_name'"); got != keyringComponent {
		t.Fatalf("the keyring is %q", got)
	}
	fill(t, s.DB(), mib)
	execute(t, s.DB(), "CREATE TABLE shop.secret (id INT PRIMARY KEY)", "INSERT INTO shop.secret VALUES (1)",
		"CREATE USER strict IDENTIFIED BY '"+rootPassword+"' REQUIRE SSL", "GRANT ALL ON *.* TO strict",
		"CREATE TABLESPACE vault ADD DATAFILE 'vault.ibd'", "CREATE TABLE shop.kept (id INT PRIMARY KEY) TABLESPACE vault")
	return in, s, a
}

// overTLS is an account that the server lets in with TLS only. Over TLS it hands over its keys, and
// without it says that it does not.
func overTLS(a Account) Account {
	a.User, a.TLS = "strict", &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a server of the test's
	return a
}

// unasked is a clone without the question before it: what the server itself tells.
func unasked(ctx context.Context, t *testing.T, e *MySQLClone, a Account) *Process {
	t.Helper()
	s := &snapshot{dir: e.Dir, holding: &e.holding, reached: func(Stage) {}, log: e.Log}
	if err := errors.Join(s.open(ctx, a), s.ask(ctx)); err != nil {
		t.Fatal(err)
	}
	return newProcess(func(w io.Writer) error { return errors.Join(s.hand(ctx, a, 1, w), s.close()) })
}

// What would be encrypted in the copy is refused by its name, before the first byte. What has been
// decrypted is copied, to a server without keys.
func TestMySQLDirectRefusesEncryption(t *testing.T) {
	in, s, account := startWithKeyring(t, 8)
	db := s.DB()
	type encryption struct {
		name    string
		encrypt []string
		want    string // empty: nothing that is copied is encrypted
		decrypt []string
	}
	tests := []encryption{
		{"nothing", nil, "", nil},
		{
			"table",
			[]string{"ALTER TABLE shop.secret ENCRYPTION = 'Y'"},
			"shop/secret",
			[]string{"ALTER TABLE shop.secret ENCRYPTION = 'N'"},
		},
		{
			"general tablespace",
			[]string{"ALTER TABLESPACE vault ENCRYPTION = 'Y'"},
			"vault",
			[]string{"ALTER TABLESPACE vault ENCRYPTION = 'N'"},
		},
		{
			"the server's own tables",
			[]string{"ALTER TABLESPACE mysql ENCRYPTION = 'Y'"},
			"mysql",
			[]string{"ALTER TABLESPACE mysql ENCRYPTION = 'N'"},
		},
		{
			"default",
			[]string{"SET GLOBAL default_table_encryption = ON"},
			"",
			[]string{"SET GLOBAL default_table_encryption = OFF"},
		},
		{
			"table by default",
			[]string{"CREATE DATABASE safe DEFAULT ENCRYPTION = 'Y'", "CREATE TABLE safe.t (id INT PRIMARY KEY)"},
			"safe/t",
			[]string{"DROP DATABASE safe"},
		},
		{"binary log", []string{"SET GLOBAL binlog_encryption = ON"}, "", []string{"SET GLOBAL binlog_encryption = OFF"}},
	}
	undo := []string{"SET GLOBAL innodb_undo_log_encrypt = OFF", "CREATE UNDO TABLESPACE spare ADD DATAFILE 'spare.ibu'"}
	for _, name := range []string{"innodb_undo_001", "innodb_undo_002"} {
		undo = append(undo, "ALTER UNDO TABLESPACE "+name+" SET INACTIVE", "DO SLEEP(1)", "ALTER UNDO TABLESPACE "+name+" SET ACTIVE")
	}
	tests = append(tests, encryption{"undo log", []string{"SET GLOBAL innodb_undo_log_encrypt = ON"}, "innodb_undo_log_encrypt", undo},
		encryption{"redo log", []string{"SET GLOBAL innodb_redo_log_encrypt = ON"}, "innodb_redo_log_encrypt", nil})
	execute(t, db, "SET GLOBAL innodb_purge_rseg_truncate_frequency = 1")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newClone(t)
			execute(t, db, tt.encrypt...)
			if tt.want != "" {
				wantEncrypted(t, e, account, s.Config().DataDir, tt.want)
				for _, a := range []Account{account, overTLS(account)} {
					p := unasked(t.Context(), t, e, a)
					n, _ := io.Copy(io.Discard, p.Stdout)
					// Over TLS the server tells of the redo log when that comes, which is last.
					late := tt.name == "redo log" && a.TLS != nil
					if err := p.Wait(); (n > 0) != late || !errors.Is(err, ErrUnable) || !strings.Contains(err.Error(), tt.want) {
						t.Errorf("TLS %v: %d bytes, error %v", a.TLS != nil, n, err)
					}
				}
				execute(t, db, tt.decrypt...)
			}
			if tt.want != "" && tt.decrypt == nil {
				return
			}
			if inv, err := e.Inventory(t.Context(), account, s.Config().DataDir); err != nil || inv.Encryption != "" || inv.Unable != nil {
				t.Errorf("decrypted: %q, %v, %v", inv.Encryption, inv.Unable, err)
			}
			dir := handedOver(t, e, account, func(Stage) {})
			prepared(t, e, dir)
			copied := boot(t, in, dir, append(cloneOptions, "--server-id=2")...)
			wantSame(t, db, copied)
			if tt.want == "" {
				execute(t, db, "INSERT INTO shop.orders (filler) VALUES ('"+tt.name+"')")
				follow(t, copied, s, "SOURCE_AUTO_POSITION=1")
				if query[int](t, copied, "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 60)", query[string](t, db, "SELECT @@GLOBAL.gtid_executed")) != 0 {
					t.Error("the copy does not replicate")
				}
				execute(t, db, tt.decrypt...)
			}
		})
	}
}

// wantEncrypted looks for a name in what the engine says of a server before it copies it.
func wantEncrypted(t *testing.T, e *MySQLClone, a Account, dataDir, want string) {
	t.Helper()
	inv, err := e.Inventory(t.Context(), a, dataDir)
	if err != nil || !strings.HasPrefix(inv.Encryption, keyringComponent+" for ") || !strings.Contains(inv.Encryption, want) {
		t.Errorf("inventory: %q, %v", inv.Encryption, err)
	}
	if _, err := e.BackupDirect(t.Context(), a, "", func(Stage) {}); !errors.Is(err, ErrUnable) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v", err)
	}
}

// What is encrypted while the clone is under way ends it, by name.
func TestMySQLDirectIsEndedByEncryption(t *testing.T) {
	_, s, account := startWithKeyring(t, 32)
	db := s.DB()
	for i, tt := range []struct{ name, statement, want, undo string }{
		{"table", "ALTER TABLE shop.secret ENCRYPTION = 'Y'", "shop/secret", "ALTER TABLE shop.secret ENCRYPTION = 'N'"},
		{"new table", "CREATE TABLE shop.fresh (id INT PRIMARY KEY) ENCRYPTION = 'Y'", "shop/fresh", "DROP TABLE shop.fresh"},
		{"general tablespace", "ALTER TABLESPACE vault ENCRYPTION = 'Y'", "vault", "ALTER TABLESPACE vault ENCRYPTION = 'N'"},
		{"the server's own tables", "ALTER TABLESPACE mysql ENCRYPTION = 'Y'", "mysql", "ALTER TABLESPACE mysql ENCRYPTION = 'N'"},
		{"undo log", "SET GLOBAL innodb_undo_log_encrypt = ON", "innodb_undo_log_encrypt", "SET GLOBAL innodb_undo_log_encrypt = OFF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if a := account; i%2 == 0 {
				account = overTLS(a)
				defer func() { account = a }()
			}
			done := make(chan struct{})
			begin := sync.OnceFunc(func() {
				go func() {
					defer close(done)
					execute(t, db, tt.statement)
				}()
			})
			p, err := newClone(t).BackupDirect(t.Context(), account, "", func(now Stage) {
				if now == Copying {
					begin()
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			n, _ := io.Copy(io.Discard, &untilReader{Reader: p.Stdout, done: done, slow: 400}) // 8 s for the statement
			err = p.Wait()
			<-done
			if !errors.Is(err, ErrUnable) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("after %d bytes: error %v", n, err)
			}
			execute(t, db, tt.undo)
		})
	}
}

// untilReader reads slowly until something is done, but no more often than so.
type untilReader struct {
	io.Reader

	done <-chan struct{}
	slow int
}

func (r *untilReader) Read(p []byte) (int, error) {
	if r.slow > 0 {
		select {
		case <-r.done:
			r.slow = 0
		case <-time.After(20 * time.Millisecond):
			r.slow--
		}
		p = p[:min(len(p), 64<<10)]
	}
	return r.Reader.Read(p)
}

// A file that the server calls encrypted is refused before anything is written.
func TestMySQLDirectRefusesEncryptedFiles(t *testing.T) {
	redo := mysqlwire.File{Stage: mysqlwire.RedoCopy}
	undo := mysqlFile("undo_001")
	undo.Space = firstLogSpace - 1
	for want, f := range map[string]mysqlwire.File{"shop/secret.ibd": mysqlFile("shop/secret.ibd"), decryptRedo: redo, decryptUndo: undo} {
		d := &direct{files: map[fileID]*directFile{}}
		f.Encrypted = true
		if err := d.File(0, f); !errors.Is(err, ErrUnable) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v", err)
		}
		if d.changes != nil {
			t.Error("it has begun")
		}
	}
}
