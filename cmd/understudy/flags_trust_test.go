package main

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"

	"understudy/clone/trust"
	"understudy/clone/trust/trusttest"
	"understudy/cmd/understudy/internal/member"
)

// The flags reach the handshake, here between a donor and a joiner of the set db in prod.
func TestTrustFlags(t *testing.T) {
	a, b, none := trusttest.File(t, strings.Repeat("a", trust.MinSecret)), trusttest.File(t, strings.Repeat("b", trust.MinSecret)), trusttest.File(t, "")
	certs := trusttest.SelfSigned(t, "*.db.prod.svc", "*.other")
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
