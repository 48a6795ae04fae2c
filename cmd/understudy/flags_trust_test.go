package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/clone/trust"
	"understudy/cmd/understudy/internal/member"
)

// write makes a file below a fresh directory and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificate makes one that is its own authority.
func certificate(t *testing.T, names ...string) trust.CertificateFiles {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := write(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return trust.CertificateFiles{Cert: cert, Key: write(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))), CA: cert}
}

// The flags reach the handshake, here between a donor and a joiner of the set db in prod.
func TestTrustFlags(t *testing.T) {
	a, b, none := write(t, strings.Repeat("a", trust.MinSecret)), write(t, strings.Repeat("b", trust.MinSecret)), write(t, "")
	certs := certificate(t, "*.db.prod.svc", "*.other")
	certified := trustFlags{certificate: certs, name: "*.{set}.{namespace}.svc"}
	tests := []struct {
		name          string
		donor, joiner trustFlags
		host          string
		want          bool
	}{
		{"a secret", trustFlags{secretFile: a}, trustFlags{secretFile: a}, "db-0.db", true},
		{"another secret", trustFlags{secretFile: a}, trustFlags{secretFile: b}, "db-0.db", false},
		{"the donor is rotated first", trustFlags{secretFile: b, secretFilePrevious: a}, trustFlags{secretFile: a, secretFilePrevious: none}, "db-0.db", true},
		{"the joiner is rotated first", trustFlags{secretFile: a, secretFilePrevious: none}, trustFlags{secretFile: b, secretFilePrevious: a}, "db-0.db", true},
		{"certificates", certified, certified, "db-0.db.prod.svc", true},
		{"a host of another name", certified, certified, "db-0.db", false},
		{"a name of one's own", trustFlags{certificate: certs, name: "*.other"}, certified, "db-0.other", true},
		{"a secret and a certificate", trustFlags{secretFile: a}, certified, "db-0.db.prod.svc", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			donor, joiner := configOf(t, tt.donor).Server, configOf(t, tt.joiner).Client
			l, err := tls.Listen("tcp", "127.0.0.1:0", donor)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			given := make(chan error, 1)
			go func() {
				c, err := l.Accept()
				if err == nil {
					err = errors.Join(c.(*tls.Conn).HandshakeContext(t.Context()), c.Close())
				}
				given <- err
			}()
			d := tls.Dialer{Config: trust.ForAddr(joiner, net.JoinHostPort(tt.host, "3307"))}
			c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
			if err == nil {
				defer func() { _ = c.Close() }()
			}
			if donorErr := <-given; (err == nil && donorErr == nil) != tt.want {
				t.Errorf("joiner: %v; donor: %v", err, donorErr)
			}
		})
	}
	if _, err := certified.config("prod", "db2", slog.New(slog.DiscardHandler)); !errors.Is(err, trust.ErrCertificate) {
		t.Errorf("the certificate of another set: %v", err)
	}
}

func configOf(t *testing.T, flags trustFlags) member.TLS {
	t.Helper()
	if err := flags.validate(); err != nil {
		t.Fatal(err)
	}
	pair, err := flags.config("prod", "db", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}
