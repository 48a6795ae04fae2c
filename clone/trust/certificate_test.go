package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// authority is a certificate that signs others.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// above are the PEM texts of the authorities between this one and the root.
	above string
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// sign makes a certificate; without an authority it signs itself.
func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	template.NotBefore = template.NotAfter.Add(-48 * time.Hour)
	parent, signer := template, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) authority(t *testing.T) *authority {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	sub := &authority{cert: cert, key: key}
	if a != nil {
		sub.above = pemOf("CERTIFICATE", cert.Raw) + a.above
	}
	return sub
}

func (a *authority) pem() string { return pemOf("CERTIFICATE", a.cert.Raw) }

var both = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}

// named is a certificate of the set db in the namespace prod, as README shows it.
func named(names ...string) *x509.Certificate {
	return &x509.Certificate{DNSNames: names, ExtKeyUsage: both}
}

// files are what cert-manager would write.
func (a *authority) files(t *testing.T, template *x509.Certificate, roots ...*authority) map[string]string {
	t.Helper()
	cert, key := a.sign(t, template)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ca := "# what we trust\n"
	for _, root := range roots {
		ca += root.pem()
	}
	return map[string]string{"tls.crt": pemOf("CERTIFICATE", cert.Raw) + a.above, "tls.key": pemOf("PRIVATE KEY", der), "ca.crt": ca}
}

const setName = "*.db.prod.svc"

func of(v volume) CertificateFiles {
	return CertificateFiles{v.path("tls.crt"), v.path("tls.key"), v.path("ca.crt")}
}

func certified(t *testing.T, name string, files map[string]string) *Identity {
	t.Helper()
	id, err := FromCertificates(of(newVolume(t, files)), name, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestCertificates(t *testing.T) {
	root, foreign := (*authority)(nil).authority(t), (*authority)(nil).authority(t)
	sub := root.authority(t)
	us := certified(t, setName, root.files(t, named(setName, "*.db"), root))
	with := func(change func(*x509.Certificate)) *x509.Certificate {
		c := named(setName, "*.db")
		change(c)
		return c
	}
	of := func(set string, a *authority, c *x509.Certificate, roots ...*authority) *Identity {
		return certified(t, set, a.files(t, c, roots...))
	}
	tests := []struct {
		name string
		peer *Identity
		// what the donor says of it as a joiner, and a joiner as a donor; empty: welcome
		asJoiner, asDonor string
	}{
		{"one for the set", us, "", ""},
		{"one for each member", of(setName, root, named("db-1.db.prod.svc", "db-1.db"), root), "", ""},
		{"by way of an intermediate", of(setName, sub, named(setName, "*.db"), root), "", ""},
		{"other case", of("*.DB.prod.svc", root, named("*.Db.Prod.svc", "*.DB"), root), "", ""},
		{"without usages", of(setName, root, with(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), root), "", ""},
		{"without the name that is dialled", of(setName, root, named(setName), root), "", "for another name: x509: certificate is valid for *.db.prod.svc, not db-1.db"},
		{"of another authority", of(setName, foreign, named(setName, "*.db"), root, foreign), "none of the authorities given", "none of the authorities given"},
		{"expired", of(setName, root, with(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }), root), "not valid at this time: x509: certificate has expired", "not valid at this time"},
		{"of the future", of(setName, root, with(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(100 * time.Hour) }), root), "not valid at this time", "is before"},
		{"another workload", of("web.prod.svc", root, named("web.prod.svc", "*.db"), root), `of another set or workload: it carries the names ["web.prod.svc" "*.db"], and not *.db.prod.svc`, "another set or workload"},
		{"another set", of("*.db2.prod.svc", root, named("*.db2.prod.svc", "*.db"), root), "another set or workload", "another set or workload"},
		{"another namespace", of("*.db.test.svc", root, named("*.db.test.svc", "*.db"), root), "another set or workload", "another set or workload"},
		{"the whole namespace's", of("*.prod.svc", root, named("*.prod.svc", "*.db"), root), "another set or workload", "another set or workload"},
		{"below a member", of("a.db-1.db.prod.svc", root, named("a.db-1.db.prod.svc", "*.db"), root), "another set or workload", "another set or workload"},
		{"the bare service", of("db.prod.svc", root, named("db.prod.svc", "*.db"), root), "another set or workload", "another set or workload"},
		{"a member with a secret", identity(t, "prod", "db", secret('a')), "none of the authorities given", "none of the authorities given"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			serverErr, clientErr := shake(t.Context(), us.Server(), blind(tt.peer.Client()))
			expect(t, "as a joiner", serverErr, clientErr, tt.asJoiner)
			serverErr, clientErr = shake(t.Context(), blind(tt.peer.Server()), ForAddr(us.Client(), "db-1.db.:3307"))
			expect(t, "as a donor", clientErr, serverErr, tt.asDonor)
		})
	}
}

// expect looks at both ends of a handshake: what the one that judges says, and, if it
// is nothing, the other.
func expect(t *testing.T, what string, judge, judged error, want string) {
	t.Helper()
	if want == "" {
		if judge != nil || judged != nil {
			t.Errorf("%s: %v, %v", what, judge, judged)
		}
		return
	}
	if !errors.Is(judge, ErrUntrusted) || !strings.Contains(judge.Error(), want) || judged == nil {
		t.Errorf("%s: %v, want %q in it; the peer: %v", what, judge, want, judged)
	}
}

// A certificate for one use only opens nothing that needs the other.
func TestUsages(t *testing.T) {
	root := (*authority)(nil).authority(t)
	us := certified(t, setName, root.files(t, named(setName, "*.db"), root))
	for _, use := range both {
		files := root.files(t, &x509.Certificate{DNSNames: []string{setName, "*.db"}, ExtKeyUsage: []x509.ExtKeyUsage{use}}, root)
		const want = "needs the usages server auth and client auth"
		if _, err := FromCertificates(of(newVolume(t, files)), setName, quiet()); !errors.Is(err, ErrCertificate) || !strings.Contains(err.Error(), want) {
			t.Errorf("our own: %v", err)
		}
		// A peer is not as strict with itself.
		cert, err := tls.X509KeyPair([]byte(files["tls.crt"]), []byte(files["tls.key"]))
		if err != nil {
			t.Fatal(err)
		}
		peer := &Identity{now: func() proof { return &chain{cert: cert} }}
		wants := map[x509.ExtKeyUsage]string{use: ""}
		for _, other := range both {
			if other != use {
				wants[other] = want
			}
		}
		serverErr, clientErr := shake(t.Context(), us.Server(), blind(peer.Client()))
		expect(t, "as a joiner", serverErr, clientErr, wants[x509.ExtKeyUsageClientAuth])
		serverErr, clientErr = shake(t.Context(), blind(peer.Server()), ForAddr(us.Client(), "db-1.db:3307"))
		expect(t, "as a donor", clientErr, serverErr, wants[x509.ExtKeyUsageServerAuth])
	}
}

func TestHosts(t *testing.T) {
	root := (*authority)(nil).authority(t)
	c := named(setName, "*.db", "db-0.other")
	c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 7), net.ParseIP("fd00::7")}
	us := certified(t, setName, root.files(t, c, root))
	for host, want := range map[string]string{
		"db-0.db": "", "DB-0.db.": "", "db-0.other": "", "db-0.db.prod.svc": "", "10.0.0.7": "", "fd00::7": "", "fd00::7%eth0": "",
		"10.0.0.8":   "certificate is valid for 10.0.0.7, fd00::7, not 10.0.0.8",
		"db-1.other": "not db-1.other", "a.db-0.db": "not a.db-0.db",
		"": "the name that was dialled is not known",
	} {
		t.Run(host, func(t *testing.T) {
			serverErr, clientErr := shake(t.Context(), us.Server(), ForAddr(us.Client(), net.JoinHostPort(host, "3307")))
			expect(t, "dialled", clientErr, serverErr, want)
		})
	}
	t.Run("by the standard field", func(t *testing.T) {
		for host, want := range map[string]string{"db-0.db": "", "db-1.other": "not db-1.other", "10.0.0.7": "not known"} {
			client := us.Client()
			client.ServerName = host
			serverErr, clientErr := shake(t.Context(), us.Server(), client)
			expect(t, host, clientErr, serverErr, want)
		}
	})
	if ForAddr(nil, "db-0.db:3307") != nil {
		t.Error("no TLS became some")
	}
}

func TestUnusableCertificates(t *testing.T) {
	root, foreign := (*authority)(nil).authority(t), (*authority)(nil).authority(t)
	good, other := root.files(t, named(setName), root), root.files(t, named(setName), root)
	// with replaces one file; an empty text leaves it away.
	with := func(name, text string) map[string]string {
		files := maps.Clone(good)
		if files[name] = text; text == "" {
			delete(files, name)
		}
		return files
	}
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"no certificate", with("tls.crt", ""), "tls.crt: no such file"},
		{"no key", with("tls.key", ""), "tls.key: no such file"},
		{"no authority", with("ca.crt", ""), "ca.crt: no such file"},
		{"another one's key", with("tls.key", other["tls.key"]), "private key does not match"},
		{"half a certificate", with("tls.crt", good["tls.crt"][:200]), "read certificate and key"},
		{"half an authority", with("ca.crt", root.pem()+foreign.pem()[:200]), "cut short"},
		{"an authority of other bytes", with("ca.crt", pemOf("CERTIFICATE", []byte("x"))), "read the authorities: x509"},
		{"a key among the authorities", with("ca.crt", root.pem()+good["tls.key"]), "holds a PRIVATE KEY"},
		{"text for an authority", with("ca.crt", "none"), "holds no certificate"},
		{"not of the authority", with("ca.crt", foreign.pem()), "our own: the certificate is of none of the authorities"},
		{"another set's", root.files(t, named("*.db2.prod.svc"), root), "our own: the certificate is of another set"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := FromCertificates(of(newVolume(t, tt.files)), setName, quiet())
			if !errors.Is(err, ErrCertificate) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %q in it", err, tt.want)
			}
			// The same at run time is said once, and what was good stays in force.
			v := newVolume(t, good)
			log, lines := journal()
			id, err := FromCertificates(of(v), setName, log)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.swap(tt.files); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				serverErr, clientErr := shake(t.Context(), id.Server(), ForAddr(id.Client(), "db-0.db.prod.svc:3307"))
				expect(t, "to itself", serverErr, clientErr, "")
			}
			if got := lines(); len(got) != 1 || !strings.Contains(got[0], "level=WARN") || !strings.Contains(got[0], "stays in force") {
				t.Errorf("log: %q", got)
			}
		})
	}
}

// Certificate, key and authorities are replaced while the process runs.
func TestCertificatesAreReread(t *testing.T) {
	first, second := (*authority)(nil).authority(t), (*authority)(nil).authority(t)
	before := first.files(t, named(setName), first)
	after := second.files(t, named(setName), second)
	between := maps.Clone(before)
	between["ca.crt"] = first.pem() + second.pem()
	a, b := newVolume(t, before), newVolume(t, before)
	log, lines := journal()
	idA, err := FromCertificates(of(a), setName, log)
	if err != nil {
		t.Fatal(err)
	}
	idB, err := FromCertificates(of(b), setName, quiet())
	if err != nil {
		t.Fatal(err)
	}
	talk := func(want string) {
		t.Helper()
		serverErr, clientErr := shake(t.Context(), idA.Server(), blind(idB.Client()))
		expect(t, "b joins a", serverErr, clientErr, want)
		serverErr, clientErr = shake(t.Context(), idB.Server(), blind(idA.Client()))
		expect(t, "a joins b", serverErr, clientErr, want)
	}
	// An authority is replaced without downtime when both are known for a while.
	talk("")
	for _, files := range []map[string]string{between, second.files(t, named(setName), first, second), after} {
		for _, v := range []volume{b, a} {
			if err := v.swap(files); err != nil {
				t.Fatal(err)
			}
			talk("")
		}
	}
	if got := lines(); len(got) != 3 || strings.Contains(strings.Join(got, ""), "WARN") {
		t.Errorf("log of 3 changes: %q", got)
	}
	// A first authority that was removed opens nothing.
	if err := b.swap(before); err != nil {
		t.Fatal(err)
	}
	talk("none of the authorities")
}

func TestExpiredCertificateIsSaid(t *testing.T) {
	root := (*authority)(nil).authority(t)
	c := named(setName)
	c.NotAfter = time.Now().Add(-time.Minute)
	v := newVolume(t, root.files(t, c, root))
	log, lines := journal()
	id, err := FromCertificates(of(v), setName, log)
	if err != nil {
		t.Fatalf("a member that needs no clone must start: %v", err)
	}
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], "our certificate is not valid now") {
		t.Errorf("log: %q", got)
	}
	if err := v.swap(root.files(t, named(setName), root)); err != nil {
		t.Fatal(err)
	}
	serverErr, clientErr := shake(t.Context(), id.Server(), ForAddr(id.Client(), "db-0.db.prod.svc:3307"))
	expect(t, "renewed", serverErr, clientErr, "")
	if got := lines(); len(got) != 1 || bytes.Contains([]byte(got[0]), []byte("WARN")) {
		t.Errorf("log: %q", got)
	}
}
