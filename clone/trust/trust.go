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
	// ErrCertificate is returned for an unusable certificate, key or authority of our own.
	ErrCertificate = errors.New("no usable certificate")
	// ErrUntrusted is returned when a peer does not prove that it belongs to the set. The text says
	// why.
	ErrUntrusted = errors.New("the peer is not trusted")
)

// Identity is what a member presents and accepts. All its connections can share it, at the same
// time and for the life of the process.
type Identity struct {
	// now is called at every handshake.
	now func() proof
}

// proof is what a member presents and accepts at one time.
type proof interface {
	certificate() *tls.Certificate
	// judge says whether a peer belongs to the set. TLS itself checks that the peer has the private
	// key of its first certificate. use is the required use of the certificate:
	// ExtKeyUsageServerAuth for a donor's.
	judge(peer tls.ConnectionState, use x509.ExtKeyUsage) error
	// server is the certificate of the database server at host.
	server(host string) (ServerCertificate, error)
}

// Server returns the TLS configuration of the donor's side.
func (id *Identity) Server() *tls.Config {
	c := id.config(x509.ExtKeyUsageClientAuth)
	c.ClientAuth = tls.RequireAnyClientCert
	return c
}

// Client returns the TLS configuration of the joiner's side. See ForAddr.
func (id *Identity) Client() *tls.Config {
	c := id.config(x509.ExtKeyUsageServerAuth)
	c.InsecureSkipVerify = true // only the standard checks; VerifyConnection has ours
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

// ForAddr returns the joiner's configuration c for connections to addr, a host:port with a name or
// an IP address. Without it names are checked, too, but an IP address is refused where names count,
// because TLS does not tell which one was dialled. c may be nil.
func ForAddr(c *tls.Config, addr string) *tls.Config {
	if c == nil || c.VerifyConnection == nil {
		return c
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr // dialling will fail with the reason
	}
	host, _, _ = strings.Cut(host, "%") // certificates have no zones
	c = c.Clone()
	verify := c.VerifyConnection
	c.VerifyConnection = func(peer tls.ConnectionState) error {
		peer.ServerName = strings.TrimSuffix(host, ".")
		return verify(peer)
	}
	return c
}
