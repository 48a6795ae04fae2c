package trust

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func serverCertificate(t *testing.T, id *Identity, host string) ServerCertificate {
	t.Helper()
	c, err := id.ServerCertificate(host)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// accepts verifies a server's certificate as a replica does.
func (c ServerCertificate) accepts(t *testing.T, server ServerCertificate, host string) error {
	t.Helper()
	pair, err := tls.X509KeyPair(server.Cert, server.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := authorities(c.CA)
	if err != nil {
		t.Fatal(err)
	}
	rest := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		rest.AddCert(cert)
	}
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: rest, DNSName: host, CurrentTime: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)})
	return err
}

func TestServerCertificate(t *testing.T) {
	us := identity(t, "prod", "db", secret('a'))
	const host = "db-0.db.prod.svc"
	server := serverCertificate(t, us, host)
	if err := server.accepts(t, server, host); err != nil {
		t.Error(err)
	}
	for _, ip := range []string{"127.0.1.10", "fd00::1"} {
		if err := server.accepts(t, serverCertificate(t, us, ip), ip); err != nil {
			t.Errorf("%s: %v", ip, err)
		}
	}
	if err := server.accepts(t, server, "db-1.db.prod.svc"); err == nil {
		t.Error("it is taken for another member")
	}
	long := strings.Repeat("x", 60) + "." + host
	if err := server.accepts(t, serverCertificate(t, us, long), long); err != nil {
		t.Errorf("a long name: %v", err)
	}
	if d := cmp.Diff(server, serverCertificate(t, identity(t, "prod", "db", secret('a')), host)); d != "" {
		t.Errorf("the same secret gives another one: %s", d)
	}
	for name, other := range map[string]*Identity{
		"secret": identity(t, "prod", "db", secret('b')), "set": identity(t, "prod", "db2", secret('a')), "namespace": identity(t, "test", "db", secret('a')),
	} {
		if err := server.accepts(t, serverCertificate(t, other, host), host); err == nil {
			t.Errorf("the server of another %s is accepted", name)
		}
	}
}

// Any two members trust one another's servers if and only if they have a secret in common.
func TestServerRotation(t *testing.T) {
	states := []string{"a", "b", "c", "ab", "ba", "ac", "ca", "bc", "cb"}
	of := func(state string) ServerCertificate {
		var secrets [][]byte
		for _, c := range []byte(state) {
			secrets = append(secrets, secret(c))
		}
		return serverCertificate(t, identity(t, "prod", "db", secrets...), "db-0.db")
	}
	for _, replica := range states {
		for _, server := range states {
			want := slices.ContainsFunc([]byte(server), func(c byte) bool { return strings.IndexByte(replica, c) >= 0 })
			if err := of(replica).accepts(t, of(server), "db-0.db"); (err == nil) != want {
				t.Errorf("a replica with %q, a server with %q: %v", replica, server, err)
			}
		}
	}
}
