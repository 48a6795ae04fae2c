package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"

	"understudy/replicate/hostcheck"
)

// ServerCertificate is the certificate with which a member's database server proves itself to
// replicas, and what its own replication accepts, all in PEM.
type ServerCertificate struct {
	// Cert is the certificate, followed by intermediate ones.
	Cert []byte
	// Key is its private key.
	Key []byte
	// CA are the authorities that may issue a source's certificate.
	CA []byte
}

// ServerCertificate returns the certificate of the server at host, a name or an IP address. The
// same files give the same bytes.
//
// HKDF derives the authority's key and the key of each host's server from a secret: whoever has the
// secret is a member anyway. Both are ECDSA keys on P-256, because some clients of database servers
// do not support Ed25519.
//
// During a rotation, the current secret's authority issues the certificate, which comes with a
// certificate of that authority by the previous one. Both authorities are accepted. So whoever
// knows either secret accepts the certificate, and any two members with a common secret trust one
// another at each step of a rotation, as with clones.
//
// For members with their own certificates, these are the files themselves.
func (id *Identity) ServerCertificate(host string) (ServerCertificate, error) {
	return id.now().server(host)
}

// Check says whether servers that replicate from host accept the certificate. It returns an error
// of hostcheck.Check if not, which happens only with the user's own certificates. The port for
// clones accepts more, because both ends are ours and check names as Go does.
func (c ServerCertificate) Check(host string) error {
	block, _ := pem.Decode(c.Cert)
	if block == nil {
		return fmt.Errorf("%w: the server's has no PEM", ErrCertificate)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("%w: the server's: %w", ErrCertificate, err)
	}
	return hostcheck.Check(cert, host)
}

// issuer is the authority of one secret for servers.
type issuer struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	// cross is its certificate by the authority of another secret, in DER; nil without one.
	cross []byte
	// secret and info are the input for the servers' keys.
	secret []byte
	info   string
}

func newIssuer(namespace, set string, secret []byte) (*issuer, error) {
	a := &issuer{info: "understudy/v1/servers/" + namespace + "/" + set, secret: secret}
	var err error
	if a.key, err = deriveECDSA(secret, a.info); err != nil {
		return nil, err
	}
	// Without randomness the signature depends only on what is signed (RFC 6979).
	der, err := x509.CreateCertificate(nil, a.template(), a.template(), a.key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("make the servers' authority: %w", err)
	}
	a.cert, err = x509.ParseCertificate(der)
	return a, err
}

func (a *issuer) template() *x509.Certificate {
	t := serverTemplate(fmt.Sprintf("understudy %x", fingerprint(a.key)))
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	return t
}

// vouchFor makes whoever trusts a trust the other, too.
func (a *issuer) vouchFor(other *issuer) (err error) {
	other.cross, err = x509.CreateCertificate(nil, other.template(), a.cert, other.key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("vouch for the servers' new authority: %w", err)
	}
	return nil
}

// fingerprint identifies a key.
func fingerprint(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err) // P-256 can always be marshalled
	}
	sum := sha256.Sum256(der)
	return sum[:8]
}

// serverTemplate has dates as wide as OpenSSL accepts, so that they never end a set.
func serverTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
}

// maxCommonName is the bound of X.520.
const maxCommonName = 64

// certify makes the certificate of the server at host.
func (a *issuer) certify(host string) (ServerCertificate, error) {
	var c ServerCertificate
	key, err := deriveECDSA(a.secret, a.info+"/"+host)
	if err != nil {
		return c, err
	}
	template := serverTemplate("")
	if len(host) <= maxCommonName {
		template.Subject.CommonName = host // MySQL 5.7 checks only this name
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.SerialNumber = new(big.Int).SetBytes(fingerprint(key))
	der, err := x509.CreateCertificate(nil, template, a.cert, key.Public(), a.key)
	if err != nil {
		return c, fmt.Errorf("make the certificate of %s: %w", host, err)
	}
	c.Cert = pemCertificates(der)
	if a.cross != nil {
		c.Cert = pemCertificates(der, a.cross)
	}
	c.Key, err = pemKey(key)
	return c, err
}

func pemKey(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// deriveECDSA derives a private key of P-256: a number from 1 to N - 1, from 64 more bits than N
// has, so that all numbers are equally likely (FIPS 186-5, A.2.1).
func deriveECDSA(secret []byte, info string) (*ecdsa.PrivateKey, error) {
	const size = 32
	text, err := hkdf.Key(sha256.New, secret, nil, info, size+8)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	one := big.NewInt(1)
	d := new(big.Int).SetBytes(text)
	d.Mod(d, new(big.Int).Sub(elliptic.P256().Params().N, one)).Add(d, one)
	return ecdsa.ParseRawPrivateKey(elliptic.P256(), d.FillBytes(make([]byte, size)))
}

func (k *keys) server(host string) (ServerCertificate, error) {
	c, err := k.issuers[0].certify(host)
	for _, a := range k.issuers {
		c.CA = append(c.CA, pemCertificates(a.cert.Raw)...)
	}
	return c, err
}

func (c *chain) server(string) (ServerCertificate, error) {
	key, err := pemKey(c.cert.PrivateKey)
	return ServerCertificate{Cert: pemCertificates(c.cert.Certificate...), Key: key, CA: c.ca}, err
}

func pemCertificates(all ...[]byte) []byte {
	var text []byte
	for _, der := range all {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text
}
