//go:build replication

package replication

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

const (
	sidecarAccount = "understudy_sidecar@'127.%'"
	cloneAccount   = "understudy_clone@'127.%'"
)

// put replaces a file as the kubelet does.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+".new", []byte(text+"\n"), 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// ownAccountsChanged drops the accounts of sidecar and clones, or revokes their privileges.
func ownAccountsChanged(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	status := map[string]string{testserver.MariaDB: "SLAVE MONITOR", testserver.MySQL: "REPLICATION CLIENT"}[f.flavour]
	for _, text := range []string{
		"DROP USER " + cloneAccount, "REVOKE PROCESS ON *.* FROM " + cloneAccount, "ALTER USER " + cloneAccount + " IDENTIFIED BY 'by hand'",
		"DROP USER " + sidecarAccount, "REVOKE " + status + " ON *.* FROM " + sidecarAccount,
		"ALTER USER " + sidecarAccount + " IDENTIFIED BY 'by hand'", "REVOKE ALL PRIVILEGES, GRANT OPTION FROM " + sidecarAccount,
	} {
		f.run(ctx, t, f.p, text)
		f.does(ctx, t, f.p, "make the accounts")
		f.rests(ctx, t, f.p)
	}
	for _, m := range f.all() { // so that all log in again
		f.restartSidecar(ctx, t, m)
		f.says(ctx, t, m, "logged in to the server", `"account":"understudy_sidecar"`)
		f.rests(ctx, t, m)
	}
}

// ownPasswordsRotated rotates the passwords and back; the replicas' sidecars have the old ones
// only.
func ownPasswordsRotated(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	var flags []string
	first, files := map[string]string{}, map[string]string{}
	for _, name := range []string{"sidecar", "clone"} {
		text, err := os.ReadFile(filepath.Join(f.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		first[name], files[name] = strings.TrimSpace(string(text)), filepath.Join(f.dir, name+"-rotated")
		flags = append(flags, "--"+name+"-password-file="+files[name], "--"+name+"-password-file-previous="+files[name]+"-previous")
		put(t, files[name]+"-previous", first[name])
		put(t, files[name], "the next of "+name)
	}
	takes := func(name, password string, want bool) {
		t.Helper()
		for _, m := range f.all() { // the replicas get it by replication
			db, err := m.Server.Open("understudy_"+name, password)
			if err != nil {
				t.Fatal(err)
			}
			db.SetMaxIdleConns(-1)
			f.until(ctx, t, name+" logs in to "+m.Name(), func() bool { return (db.PingContext(ctx) == nil) == want })
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	f.restartSidecar(ctx, t, f.p, flags...)
	f.does(ctx, t, f.p, "make the accounts")
	for name := range files {
		takes(name, "the next of "+name, true)
		takes(name, first[name], true)
	}
	f.rests(ctx, t, f.p)
	f.restartSidecar(ctx, t, f.r1) // which knows the old ones only
	f.says(ctx, t, f.r1, "logged in to the server", `"account":"understudy_sidecar"`)
	f.rests(ctx, t, f.r1)
	f.restartSidecar(ctx, t, f.r1, flags...)
	f.says(ctx, t, f.r1, "logged in to the server", `"account":"understudy_sidecar"`)
	f.rests(ctx, t, f.r1)
	for name, path := range files {
		put(t, path+"-previous", "the next of "+name)
		put(t, path, first[name])
	}
	f.rests(ctx, t, f.p)
	for name, path := range files {
		if err := os.Remove(path + "-previous"); err != nil {
			t.Fatal(err)
		}
		takes(name, "the next of "+name, false)
	}
	f.restartSidecar(ctx, t, f.p)
	f.restartSidecar(ctx, t, f.r1)
	f.rests(ctx, t, f.p)
	f.rests(ctx, t, f.r1)
}

// ownAccountsMissing is a set that is older than the accounts; its Secret gets their passwords now.
func ownAccountsMissing(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	var flags []string
	for _, name := range []string{"sidecar", "clone"} {
		flags = append(flags, "--"+name+"-password-file="+filepath.Join(f.dir, name+"-later"))
	}
	for _, m := range f.all() {
		f.restartSidecar(ctx, t, m, flags...)
		f.says(ctx, t, m, "an account has no password yet", "understudy_sidecar")
		f.says(ctx, t, m, "logged in to the server", `"account":"root"`)
		f.rests(ctx, t, m)
	}
	f.run(ctx, t, f.p, "DROP USER "+sidecarAccount, "DROP USER "+cloneAccount)
	for _, name := range []string{"sidecar", "clone"} {
		text, err := os.ReadFile(filepath.Join(f.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(f.dir, name+"-later"), strings.TrimSpace(string(text)))
	}
	before := f.read[f.p]
	f.does(ctx, t, f.p, "make the accounts")
	f.read[f.p] = before // it may log in with the new account before it says that it has made it
	f.says(ctx, t, f.p, "logged in to the server", `"account":"understudy_sidecar"`)
	f.rests(ctx, t, f.p)
	for _, m := range f.all() {
		f.restartSidecar(ctx, t, m)
		f.says(ctx, t, m, "logged in to the server", `"account":"understudy_sidecar"`)
		f.rests(ctx, t, m)
	}
}

// adminUnknown makes the administrator's password unknown to the sidecars. They keep working: they
// restart, servers restart, and a member is cloned.
func adminUnknown(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	file := filepath.Join(f.dir, "administrator")
	put(t, file, "another password")
	for _, m := range []*set.Member{f.p, f.r1} {
		f.restartSidecar(ctx, t, m, "--admin-password-file="+file)
		f.says(ctx, t, m, "logged in to the server", `"account":"understudy_sidecar"`)
		f.rests(ctx, t, m)
	}
	primaryRestarts(ctx, t, f)
	f.reseed(ctx, t, f.r2)
	f.rests(ctx, t, f.r2)

	f.run(ctx, t, f.p, "DROP USER "+cloneAccount)
	f.reports(ctx, t, f.p, "understudy_clone@127.% is missing; and the administrator cannot make it")
	f.ready(ctx, t, f.p)
	if err := f.p.StopServer(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.p.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	f.does(ctx, t, f.p, "open for writes")
	f.ready(ctx, t, f.p)
	put(t, file, f.RootPassword())
	f.does(ctx, t, f.p, "make the accounts")
	f.rests(ctx, t, f.p)
	for _, m := range []*set.Member{f.p, f.r1} {
		f.restartSidecar(ctx, t, m)
		f.rests(ctx, t, m)
	}
}
