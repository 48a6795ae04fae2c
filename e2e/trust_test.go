package e2e

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
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
)

// The set's secret is rotated twice under a running donor, which never restarts. At every step
// joiners that have the change get their clones, and so do those that do not have it yet.
func TestRotation(t *testing.T) {
	t.Parallel()
	var dir string
	ctx, s := newSet(t, install(t), func(c *set.Config) {
		dir = c.Dir
		c.SidecarFlags = []string{"--secret-file-previous=" + filepath.Join(dir, "previous")}
	})
	m0 := primary(ctx, t, s, 0)
	text, err := os.ReadFile(s.SecretFile())
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{string(text), strings.Repeat("n", 32), strings.Repeat("m", 32)}
	// put replaces a file atomically; an empty text removes it.
	put := func(path, text string) {
		t.Helper()
		err := os.WriteFile(path+".new", []byte(text), 0o600)
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err == nil && text == "" {
			err = os.Remove(path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	clones := 0
	// clone takes a clone as a member with these secrets, the current one first.
	clone := func(want int, own ...string) {
		t.Helper()
		clones++
		to := filepath.Join(dir, "clone-"+strconv.Itoa(clones))
		args := []string{"clone-from", m0.Host, "--set=db", "--to", to, "--secret-file=" + to + ".secret", "--secret-file-previous=" + to + ".previous"}
		put(to+".secret", own[0])
		if len(own) > 1 {
			put(to+".previous", own[1])
		}
		r, err := s.Call(ctx, nil, args...)
		if err != nil || r.Code != want || want == 1 && !strings.Contains(r.LastLine(), "does not hold this set's secret") {
			t.Errorf("clone %d: %d, %v: %s", clones, r.Code, err, r.LastLine())
		}
	}
	for i := range 2 {
		old, next := secrets[i], secrets[i+1]
		clone(0, old)
		clone(0, next, old) // the joiner has it first
		clone(1, next)
		put(filepath.Join(dir, "previous"), old)
		put(s.SecretFile(), next)
		clone(0, old) // the donor has it first
		clone(0, next, old)
		clone(0, next) // the joiner has finished first
		put(filepath.Join(dir, "previous"), "")
		clone(0, next, old) // the donor has finished first
		clone(0, next)
		clone(1, old)
	}
}

// authority makes certificates.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate and its key, and returns the flags that name them.
func (a *authority) issue(t *testing.T, file string, template *x509.Certificate) []string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if a.cert == nil {
		a.cert, a.key = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(a.dir, file)
	if err := errors.Join(
		os.WriteFile(path+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	return []string{"--tls-cert=" + path + ".crt", "--tls-key=" + path + ".key", "--tls-ca=" + filepath.Join(a.dir, "ca.crt")}
}

// Certificates replace the secret; they are renewed under a running donor.
func TestCertificates(t *testing.T) {
	t.Parallel()
	pki := &authority{dir: t.TempDir()}
	pki.issue(t, "ca", &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	joiner := pki.issue(t, "joiner", &x509.Certificate{DNSNames: []string{"*.db.default.svc"}, ExtKeyUsage: both})
	stranger := pki.issue(t, "stranger", &x509.Certificate{DNSNames: []string{"*.web.default.svc"}, ExtKeyUsage: both})
	donor := &x509.Certificate{DNSNames: []string{"*.db.default.svc"}, ExtKeyUsage: both}
	ctx, s := newSet(t, install(t), func(c *set.Config) {
		c.InitFlags = append([]string{"--secret-file="}, joiner...)
		c.SidecarFlags = append([]string{"--secret-file="}, pki.issue(t, "donor", donor)...)
	})
	m0 := primary(ctx, t, s, 0)
	clone := func(code int, want string, flags []string, more ...string) {
		t.Helper()
		args := append([]string{"clone-from", m0.Host, "--set=db", "--to", filepath.Join(t.TempDir(), "copy")}, flags...)
		r, err := s.Call(ctx, nil, append(args, more...)...)
		if err != nil || r.Code != code || !strings.Contains(r.Stderr, want) {
			t.Errorf("%v: %d, %v: %s", args, r.Code, err, r.Stderr)
		}
	}
	clone(1, "the peer is not trusted: the certificate is for another name: x509: cannot validate certificate for "+m0.Host, joiner)
	donor.IPAddresses = []net.IP{net.ParseIP(m0.Host)}
	pki.issue(t, "donor", donor)
	clone(0, "", joiner)
	clone(2, "of another set or workload", stranger)
	clone(1, "the peer is not trusted: the certificate is of another set or workload", stranger, "--tls-name=*.web.{namespace}.svc")
	clone(1, "the peer is not trusted", []string{"--secret-file=" + s.SecretFile()})
	m1 := s.Member(1)
	up(ctx, t, m1) // init takes a clone, too
}
