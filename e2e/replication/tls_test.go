//go:build replication

package replication

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/e2e/set"
)

// unverified makes a replica accept any certificate.
func unverified(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.r1, f.stop, f.to("%_SSL_VERIFY_SERVER_CERT = 0"))
	f.says(ctx, t, f.r1, "step done", "repoint replication", "whose certificate it does not verify")
	f.rests(ctx, t, f.r1)
}

// unproven makes a replica accept any certificate, as an adopted one does, while the primary has a
// stranger's. It replicates unverified until the primary has its own certificate again.
func unproven(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.anotherCertificate(ctx, t, func() (cert, key []byte, err error) { return selfSigned(f.p.Host) })
	f.run(ctx, t, f.r1, f.stop, f.to("%_SSL_CA = '', %_SSL_VERIFY_SERVER_CERT = 0, %_USER = 'somebody'"), f.start)
	f.does(ctx, t, f.r1, "repoint replication")
	f.says(ctx, t, f.r1, "waiting", "its source is not verified until it can prove its identity")
	if err := f.p.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	f.says(ctx, t, f.r1, "step done", "repoint replication", "whose certificate it does not verify")
	f.rests(ctx, t, f.r1)
}

// detour makes a replica follow another replica while the primary has a stranger's certificate: a
// channel that works is kept.
func detour(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.anotherCertificate(ctx, t, func() (cert, key []byte, err error) { return selfSigned(f.p.Host) })
	if err := f.r1.StopSidecar(ctx); err != nil {
		t.Fatal(err)
	}
	f.run(ctx, t, f.r1, f.stop, f.to("%_HOST = '"+f.r2.Host+"'"), f.start)
	f.run(ctx, t, f.p, "CREATE TABLE shop.detour (a INT PRIMARY KEY)")
	f.arrives(ctx, t, f.r1, "SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'detour'", "1")
	if err := f.r1.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	f.says(ctx, t, f.r1, "waiting", "stays so", "cannot prove its identity", "signed by unknown authority")
	f.run(ctx, t, f.p, "DROP TABLE shop.detour")
	f.arrives(ctx, t, f.r1, "SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'detour'", "0")
	if err := f.p.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	f.does(ctx, t, f.r1, "repoint replication")
	f.rests(ctx, t, f.r1)
}

// reconnects makes the replicas log in to their source again.
func (f *fixture) reconnects(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, r := range []*set.Member{f.r1, f.r2} {
		f.run(ctx, t, r, f.stopReceiver)
		f.does(ctx, t, r, "start replication")
		f.rests(ctx, t, r)
	}
}

// anotherCertificate puts another certificate in the place of the primary's, whose sidecar is away.
func (f *fixture) anotherCertificate(ctx context.Context, t *testing.T, other func() (cert, key []byte, err error)) {
	t.Helper()
	if err := f.p.StopSidecar(ctx); err != nil {
		t.Fatal(err)
	}
	cert, key, err := other()
	certFile, keyFile := certificate(f.p)
	if err := errors.Join(err, os.WriteFile(certFile, cert, 0o600), os.WriteFile(keyFile, key, 0o600)); err != nil {
		t.Fatal(err)
	}
	f.run(ctx, t, f.p, f.reloadTLS)
}

// certificate is where a member's server has its own.
func certificate(m *set.Member) (cert, key string) {
	dir := filepath.Join(m.Config, "tls")
	return filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
}

// refused gives the primary another member's certificate, and then a stranger's.
func refused(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	member := func() (cert, key []byte, err error) {
		certFile, keyFile := certificate(f.r2)
		if cert, err = os.ReadFile(certFile); err == nil {
			key, err = os.ReadFile(keyFile)
		}
		return cert, key, err
	}
	stranger := func() (cert, key []byte, err error) { return selfSigned(f.p.Host) }
	for _, other := range []func() (cert, key []byte, err error){member, stranger} {
		f.anotherCertificate(ctx, t, other)
		f.run(ctx, t, f.r1, f.stopReceiver)
		f.says(ctx, t, f.r1, "waiting", "error 2026", "the source cannot prove its identity")
		if err := f.p.StartSidecar(); err != nil {
			t.Fatal(err)
		}
		f.says(ctx, t, f.p, "the server's certificate has changed")
		f.rests(ctx, t, f.r1)
	}
}

// selfSigned is a certificate whose only fault is its issuer.
func selfSigned(ip string) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(ip)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}), err
}

// secretRotated rotates the set's secret in its two steps, and makes the replicas log in again
// after each.
func secretRotated(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	previous := filepath.Join(f.dir, "secret-previous")
	for _, m := range f.all() {
		f.restartSidecar(ctx, t, m, "--secret-file-previous="+previous)
	}
	old, err := os.ReadFile(f.SecretFile())
	if err != nil {
		t.Fatal(err)
	}
	steps := []func() error{
		func() error {
			// Each by a rename, as documented: a sidecar that just starts may read it.
			next := f.SecretFile() + ".next"
			return errors.Join(
				os.WriteFile(previous+".next", old, 0o600), os.Rename(previous+".next", previous),
				os.WriteFile(next, []byte(rand.Text()+rand.Text()+"\n"), 0o600), os.Rename(next, f.SecretFile()),
			)
		},
		func() error { return os.Remove(previous) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		for _, m := range f.all() {
			f.says(ctx, t, m, "the server's certificate has changed")
		}
		f.reconnects(ctx, t)
	}
	for _, m := range f.all() {
		f.restartSidecar(ctx, t, m)
	}
}
