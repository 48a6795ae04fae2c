package trust

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// CertificateFiles are PEM files, as cert-manager writes them: tls.crt, tls.key and
// ca.crt.
type CertificateFiles struct {
	// Cert has the member's certificate, followed by intermediate ones.
	Cert string
	// Key has its private key.
	Key string
	// CA has the authorities that may issue a peer's certificate.
	CA string
}

// FromCertificates makes the identity of a member of the set whose certificates have the DNS name
// name, and repeats that when the files change. If name begins with "*.", any name with one label
// in place of the star counts, so that each member can have its own certificate. The returned error
// is ErrCertificate. Later errors are logged, once for each change, and the last good files stay in
// force.
func FromCertificates(files CertificateFiles, name string, log *slog.Logger) (*Identity, error) {
	name = strings.ToLower(name)
	w, err := watch(log, []string{files.Cert, files.Key, files.CA}, func(read []file) (*chain, error) {
		for _, f := range read {
			if f.err != nil {
				return nil, fmt.Errorf("%w: %w", ErrCertificate, f.err)
			}
		}
		c, err := newChain(read[0].text, read[1].text, read[2].text, name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
		}
		return c, c.checkOwn(log)
	})
	if err != nil {
		return nil, err
	}
	return &Identity{now: func() proof { return w.now() }}, nil
}

// chain proves membership with certificates.
type chain struct {
	cert  tls.Certificate
	rest  *x509.CertPool // our own intermediates
	roots *x509.CertPool
	ca    []byte // roots as PEM
	name  string
}

func newChain(cert, key, ca []byte, name string) (*chain, error) {
	c := &chain{name: name, rest: x509.NewCertPool(), ca: ca}
	var err error
	if c.cert, err = tls.X509KeyPair(cert, key); err != nil {
		return nil, fmt.Errorf("read certificate and key: %w", err)
	}
	for _, der := range c.cert.Certificate[1:] {
		intermediate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read the intermediate certificates: %w", err)
		}
		c.rest.AddCert(intermediate)
	}
	if c.roots, err = authorities(ca); err != nil {
		return nil, fmt.Errorf("read the authorities: %w", err)
	}
	return c, nil
}

// authorities accepts all of a file or nothing, because a truncated file must not drop some
// authorities.
func authorities(text []byte) (*x509.CertPool, error) {
	pool, found := x509.NewCertPool(), false
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the file holds a %s, not only certificates", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		pool.AddCert(cert)
		found = true
	}
	if !found || bytes.Contains(text, []byte("-----BEGIN")) {
		return nil, errors.New("the file holds no certificate, or was cut short")
	}
	return pool, nil
}

// checkOwn refuses what every peer would refuse. An expired certificate is no error: a member that
// needs no clone works without it, and the next one is read when it comes.
func (c *chain) checkOwn(log *slog.Logger) error {
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		err := c.verify(c.cert.Leaf, c.rest, use)
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
			log.Warn("our certificate is not valid now: peers refuse it until it is renewed",
				"not_before", c.cert.Leaf.NotBefore, "not_after", c.cert.Leaf.NotAfter, "error", err)
			break
		}
		if err != nil {
			return fmt.Errorf("%w: our own: %w", ErrCertificate, err)
		}
	}
	if err := c.checkName(c.cert.Leaf); err != nil {
		return fmt.Errorf("%w: our own: %w", ErrCertificate, err)
	}
	return nil
}

func (c *chain) certificate() *tls.Certificate { return &c.cert }

func (c *chain) judge(peer tls.ConnectionState, use x509.ExtKeyUsage) error {
	leaf, rest := peer.PeerCertificates[0], x509.NewCertPool()
	for _, cert := range peer.PeerCertificates[1:] {
		rest.AddCert(cert)
	}
	err := c.verify(leaf, rest, use)
	if err == nil {
		err = c.checkName(leaf)
	}
	if err == nil && use == x509.ExtKeyUsageServerAuth {
		err = checkHost(leaf, peer.ServerName)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	return nil
}

// verify checks issuer, dates and use.
func (c *chain) verify(leaf *x509.Certificate, intermediates *x509.CertPool, use x509.ExtKeyUsage) error {
	_, err := leaf.Verify(x509.VerifyOptions{Roots: c.roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{use}})
	if err == nil {
		return nil
	}
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case unknown:
		return fmt.Errorf("the certificate is of none of the authorities given: %w", err)
	case ok && invalid.Reason == x509.Expired:
		return fmt.Errorf("the certificate is not valid at this time: %w", err)
	case ok && invalid.Reason == x509.IncompatibleUsage:
		return fmt.Errorf("the certificate needs the usages server auth and client auth: %w", err)
	}
	return fmt.Errorf("the certificate is not valid: %w", err)
}

// checkName checks for the set's name.
func (c *chain) checkName(leaf *x509.Certificate) error {
	for _, name := range leaf.DNSNames {
		if covers(c.name, strings.ToLower(name)) {
			return nil
		}
	}
	return fmt.Errorf("the certificate is of another set or workload: it carries the names %q, and not %s", leaf.DNSNames, c.name)
}

// covers says whether a name is the set's own or, if that begins with a star, one with another
// first label.
func covers(set, name string) bool {
	if name == set {
		return true
	}
	domain, star := strings.CutPrefix(set, "*.")
	first, rest, _ := strings.Cut(name, ".")
	return star && first != "" && rest == domain
}

func checkHost(leaf *x509.Certificate, host string) error {
	if host == "" {
		return errors.New("the name that was dialled is not known")
	}
	if err := leaf.VerifyHostname(host); err != nil {
		return fmt.Errorf("the certificate is for another name: %w", err)
	}
	return nil
}
