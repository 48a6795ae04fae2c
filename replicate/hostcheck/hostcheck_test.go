package hostcheck

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Every row is held to OpenSSL itself.
func TestCheck(t *testing.T) {
	type names struct {
		dns []string
		ip  string
		cn  string
	}
	dns := func(all ...string) names { return names{dns: all, cn: "db-0.db"} }
	tests := []struct {
		name string
		of   names
		host string
		want bool
	}{
		{"the name", dns("db-0.db"), "db-0.db", true},
		{"in capitals", dns("DB-0.db"), "db-0.DB", true},
		{"one of several", dns("db-1.db", "db-0.db"), "db-0.db", true},
		{"another member's", dns("db-1.db"), "db-0.db", false},
		{"a star and one dot", dns("*.db"), "db-0.db", false},
		{"a star and two dots", dns("*.db.prod"), "db-0.db.prod", true},
		{"the default of manifests/certificates", dns("*.db.database.svc"), "db-0.db.database.svc", true},
		{"a star for a short name", dns("*.db.database.svc"), "db-0.db", false},
		{"a star for two labels", dns("*.database.svc"), "db-0.db.database.svc", false},
		{"a star for none", dns("*.db.database.svc"), "db.database.svc", false},
		{"a star within", dns("db-0.*.database.svc"), "db-0.db.database.svc", false},
		{"two stars", dns("*.*.database.svc"), "db-0.db.database.svc", false},
		{"a star and a label with an underscore", dns("*.my_db.prod"), "db-0.my_db.prod", false},
		{"a name with an underscore", dns("db-0.my_db"), "db-0.my_db", true},
		{"a star for an underscore", dns("*.db.prod"), "my_db-0.db.prod", false},
		{"a star, and labels that begin with a dash", dns("*.-db.prod"), "db-0.-db.prod", false},
		{"a star, and labels that end with a dash", dns("*.db-.prod"), "db-0.db-.prod", false},
		{"a dot at the end of the host", dns("db-0.db"), "db-0.db.", false},
		{"a dot at the end of a pattern", dns("*.db.prod."), "db-0.db.prod.", false},
		{"a star in capitals", dns("*.DB.prod"), "db-0.db.PROD", true},
		{"a common name alone", names{cn: "db-0.db"}, "db-0.db", true},
		{"a common name with a star", names{cn: "*.db.prod"}, "db-0.db.prod", true},
		{"a common name beside another", names{dns: []string{"db-1.db"}, cn: "db-0.db"}, "db-0.db", false},
		{"a common name beside an address", names{ip: "127.0.0.2", cn: "db-0.db"}, "db-0.db", true},
		{"an address", names{ip: "127.0.0.2", cn: "x"}, "127.0.0.2", true},
		{"another address", names{ip: "127.0.0.3", cn: "x"}, "127.0.0.2", false},
		{"an address of version 6", names{ip: "fd00::1", cn: "x"}, "fd00:0::1", true},
		{"an address as a name", dns("127.0.0.2"), "127.0.0.2", true},
		{"an address as a common name", names{cn: "127.0.0.2"}, "127.0.0.2", true},
		{"a star for a part of an address", dns("*.0.0.2"), "127.0.0.2", true},
		{"no name at all", names{}, "db-0.db", false},
	}
	_, noOpenSSL := exec.LookPath("openssl")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cert := certificate(t, tt.of.dns, tt.of.ip, tt.of.cn)
			err := Check(cert, tt.host)
			if (err == nil) != tt.want || err != nil && !errors.Is(err, ErrHost) {
				t.Error(err)
			}
			if noOpenSSL == nil {
				got := openSSL(t, cert, "-checkhost", tt.host)
				if net.ParseIP(tt.host) != nil { // of anything else the program says yes
					got = got || openSSL(t, cert, "-checkip", tt.host)
				}
				if got != tt.want {
					t.Errorf("OpenSSL says %v", got)
				}
			}
		})
	}
	if noOpenSSL != nil {
		t.Skip("not compared with OpenSSL: ", noOpenSSL)
	}
	// The text tells what is special about it.
	err := Check(certificate(t, []string{"*.db"}, "", "x"), "db-0.db")
	if err == nil || !strings.Contains(err.Error(), "two dots") || !strings.Contains(err.Error(), "db-0.db") {
		t.Error(err)
	}
}

// The one difference is to the careful side.
func TestCheckIsCareful(t *testing.T) {
	if err := Check(certificate(t, []string{"db-*.db.prod"}, "", "x"), "db-0.db.prod"); !errors.Is(err, ErrHost) {
		t.Error(err)
	}
}

func certificate(t *testing.T, dns []string, ip, cn string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), Subject: pkix.Name{CommonName: cn}, DNSNames: dns,
	}
	if ip != "" {
		template.IPAddresses = []net.IP{net.ParseIP(ip)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// openSSL asks it, in whose words the answer is.
func openSSL(t *testing.T, cert *x509.Certificate, option, host string) bool {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.CommandContext(t.Context(), "openssl", "x509", "-in", file, "-noout", option, host).CombinedOutput() // later versions exit with 1
	switch text := string(out); {
	case strings.Contains(text, "does match"):
		return true
	case !strings.Contains(text, "NOT match"):
		t.Fatalf("OpenSSL says %q", text)
	}
	return false
}
