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

// ServerCertificate is what a member's database server proves itself with to replicas that
// follow it, and what its own replication accepts, all in PEM.
type ServerCertificate struct {
	// Cert is the certificate, and intermediate ones after it.
	Cert []byte
	// Key is its private key.
	Key []byte
	// CA are the authorities of which a source's certificate must be.
	CA []byte
}

// ServerCertificate is that of the member whose server is reached at host, a name or an IP
// address. The same files give the same bytes.
//
// From a secret, HKDF derives an authority's key, and the key of each host's server: whoever
// holds the secret is a member anyway. Both are ECDSA keys on P-256, for the sake of the
// servers' other clients, of which some know no Ed25519.
//
// While the secret is rotated, the certificate is of the current secret's authority, and
// comes with a certificate of that authority by the previous one's; both are accepted. So
// whoever knows either secret takes it, and as with clones any two members that have a
// secret in common trust one another, at each step of a rotation.
//
// Of members with certificates of their own these are the very files.
func (id *Identity) ServerCertificate(host string) (ServerCertificate, error) {
	return id.now().server(host)
}

// Check says whether servers that follow the one at host take the certificate: an error of
// hostcheck.Check tells why not. It can come only of certificates of one's own. The port of
// clones takes more, for both its ends are ours, and check names as Go does.
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

// issuer signs the certificates of one secret's servers.
type issuer struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	// cross is the same by the authority of another secret, in DER; nil without one.
	cross []byte
	// secret and info are what the servers' keys are derived from.
	secret []byte
	info   string
}

func newIssuer(namespace, set string, secret []byte) (*issuer, error) {
	a := &issuer{info: "understudy/v1/servers/" + namespace + "/" + set, secret: secret}
	var err error
	if a.key, err = deriveECDSA(secret, a.info); err != nil {
		return nil, err
	}
	// Without randomness the signature depends on nothing but what is signed (RFC 6979).
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

// vouchFor has whoever trusts a trust the other, too.
func (a *issuer) vouchFor(other *issuer) (err error) {
	other.cross, err = x509.CreateCertificate(nil, other.template(), a.cert, other.key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("vouch for the servers' new authority: %w", err)
	}
	return nil
}

// fingerprint tells keys apart.
func fingerprint(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err) // P-256 can be marshalled
	}
	sum := sha256.Sum256(der)
	return sum[:8]
}

// serverTemplate has dates as wide as OpenSSL takes: they must not end a set.
func serverTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
}

// maxCommonName is X.520's bound.
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
		template.Subject.CommonName = host // MySQL 5.7 looks at no other name
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

// deriveECDSA derives a private key of P-256: a number from 1 to N - 1, from 64 bits more
// than it has, so that no number is likelier than another (FIPS 186-5, A.2.1).
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
