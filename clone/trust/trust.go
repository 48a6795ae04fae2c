package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
)

var (
	// ErrSecret is returned for a secret that is missing or too short.
	ErrSecret = errors.New("no usable secret")
	// ErrCertificate is returned for a certificate, key or authority of our own that
	// cannot be used.
	ErrCertificate = errors.New("no usable certificate")
	// ErrUntrusted is returned when a peer does not prove that it belongs to the set.
	// The text after it says why not.
	ErrUntrusted = errors.New("the peer is not trusted")
)

// Identity is a member's side of the trust: what it presents and what it accepts. All
// its connections, at the same time and for the life of the process, can share it.
type Identity struct {
	// now is asked at every handshake.
	now func() proof
}

// proof is what a member presents and accepts at one moment.
type proof interface {
	certificate() *tls.Certificate
	// judge says whether a peer belongs to the set. TLS itself checks that the peer
	// holds the private key of its first certificate, of which there is one. use is
	// what the certificate must be good for: a donor's for ExtKeyUsageServerAuth.
	judge(peer tls.ConnectionState, use x509.ExtKeyUsage) error
	// server is what the database server at host presents, and replicas accept.
	server(host string) (ServerCertificate, error)
}

// Server is the configuration for the donor's side.
func (id *Identity) Server() *tls.Config {
	c := id.config(x509.ExtKeyUsageClientAuth)
	c.ClientAuth = tls.RequireAnyClientCert
	return c
}

// Client is the configuration for the joiner's side. See ForAddr.
func (id *Identity) Client() *tls.Config {
	c := id.config(x509.ExtKeyUsageServerAuth)
	c.InsecureSkipVerify = true // only the standard checks: VerifyConnection has ours
	return c
}

func (id *Identity) config(use x509.ExtKeyUsage) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		NextProtos:           []string{"http/1.1"},
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.now().certificate(), nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.now().certificate(), nil },
		VerifyConnection: func(peer tls.ConnectionState) error {
			if len(peer.PeerCertificates) == 0 {
				return ErrUntrusted
			}
			return id.now().judge(peer, use)
		},
		// A resumed session would skip the proof.
		SessionTicketsDisabled: true,
	}
}

// ForAddr returns the joiner's configuration c for connections to addr, a host:port
// whose host is a name or an IP address. Without it names are checked as well, but
// an IP address is refused where names count: TLS does not say which one was dialled.
// c may be nil.
func ForAddr(c *tls.Config, addr string) *tls.Config {
	if c == nil || c.VerifyConnection == nil {
		return c
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr // dialling it will say what is wrong
	}
	host, _, _ = strings.Cut(host, "%") // a zone is no part of what a certificate names
	c = c.Clone()
	verify := c.VerifyConnection
	c.VerifyConnection = func(peer tls.ConnectionState) error {
		peer.ServerName = strings.TrimSuffix(host, ".")
		return verify(peer)
	}
	return c
}
