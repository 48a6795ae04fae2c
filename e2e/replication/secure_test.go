//go:build replication

package replication

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// Servers that require TLS: sidecars, backups and replication can log in; on this host also if a
// server has a certificate that is not ours.
func TestSecureTransport(t *testing.T) {
	t.Parallel()
	onBoth(t, secureTransport)
}

const secure = "[mysqld]\nrequire_secure_transport = ON"

func secureTransport(t *testing.T, in testserver.Installation) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), playTimeout)
	defer cancel()
	f := newFixture(t, in)
	f.UseTLS()
	t.Cleanup(func() {
		if t.Failed() {
			f.show(t)
		}
	})
	for _, m := range []*set.Member{f.p, f.r1} {
		if err := m.MakeDirs(); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(m.Config, "common.cnf"), secure)
		if err := m.Up(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if on := f.ask(ctx, t, f.p, "SELECT @@require_secure_transport"); on != "1" {
		t.Fatalf("require_secure_transport is %s", on)
	}
	const strange = "does not present the member's certificate"
	for _, m := range []*set.Member{f.p, f.r1} {
		f.rests(ctx, t, m)
		if bytes.Contains(f.log(t, m), []byte(strange)) {
			t.Errorf("%s does not verify its own server", m.Name())
		}
	}
	f.run(ctx, t, f.p, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
	f.arrives(ctx, t, f.r1, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'd'", "1")

	cert, key, err := selfSigned(f.r1.Host)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(f.r1.Dir, "cert.pem"), filepath.Join(f.r1.Dir, "key.pem")
	put(t, certFile, string(cert))
	put(t, keyFile, string(key))
	put(t, filepath.Join(f.r1.Config, "zz.cnf"), "[mysqld]\nssl_cert = "+certFile+"\nssl_key = "+keyFile)
	if err := f.r1.StopServer(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.r1.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	f.says(ctx, t, f.r1, strange)
	f.does(ctx, t, f.r1, "start replication")
	f.reports(ctx, t, f.r1, "ssl_cert is")
}
