package replicate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/replicate/hostcheck"
)

// pki makes certificates for tests.
type pki struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newPKI(t *testing.T) pki {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := pki{t: t, key: key}
	p.cert = p.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return p
}

// sign makes a certificate of the same key: of the authority itself when there is none yet.
func (p pki) sign(template *x509.Certificate) *x509.Certificate {
	p.t.Helper()
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := p.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, p.key.Public(), p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	return cert
}

func (p pki) server(names ...string) *x509.Certificate {
	p.t.Helper()
	return p.sign(&x509.Certificate{DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
}

// A source is verified as our server does it, or a channel would be pointed at one that the server
// then refuses.
func TestVerifySource(t *testing.T) {
	ours, other := newPKI(t), newPKI(t)
	s := Source{Host: "db-0.db", CA: filepath.Join(t.TempDir(), "ca.pem")}
	if err := os.WriteFile(s.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ours.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := s.clientTLS()
	if err != nil {
		t.Fatal(err)
	}
	anything := errors.New("any")
	for name, tt := range map[string]struct {
		cert *x509.Certificate
		want error
	}{
		"its name":             {ours.server("db-0.db"), nil},
		"another name":         {ours.server("db-1.db"), hostcheck.ErrHost},
		"a star that Go takes": {ours.server("*.db"), hostcheck.ErrHost},
		"of another authority": {other.server("db-0.db"), anything},
		"for clients":          {ours.sign(&x509.Certificate{DNSNames: []string{"db-0.db"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), anything},
		"none":                 {nil, anything},
	} {
		t.Run(name, func(t *testing.T) {
			var peer tls.ConnectionState
			if tt.cert != nil {
				peer.PeerCertificates = []*x509.Certificate{tt.cert}
			}
			err := config.VerifyConnection(peer)
			if (err == nil) != (tt.want == nil) || tt.want != nil && !errors.Is(tt.want, anything) && !errors.Is(err, tt.want) {
				t.Error(err)
			}
		})
	}
}
