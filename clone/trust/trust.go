// Package trust turns the set's one shared secret into mutually authenticated TLS.
//
// HKDF-SHA256 over the secret, with an info string that names the namespace and the
// set, seeds one Ed25519 key. Both sides of a connection present a certificate of
// that key and accept no other key: no clock, no name and no authority is involved,
// and the same secret in another set opens nothing here.
package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"
)

// MinSecret is the least length of a secret in bytes, trailing newlines not counted.
const MinSecret = 32

var (
	// ErrSecret is returned for a secret that is missing or too short.
	ErrSecret = errors.New("no usable secret")
	// ErrUntrusted is returned when a peer does not hold the set's secret.
	ErrUntrusted = errors.New("the peer does not hold this set's secret")
)

// makeSecret is shown whenever a usable secret is missing.
const makeSecret = "make one with: head -c 32 /dev/urandom | base64 > FILE"

// ReadSecret reads a secret from a file and trims its trailing newlines.
func ReadSecret(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; %s", ErrSecret, err, makeSecret)
	}
	text = bytes.TrimRight(text, "\r\n")
	if len(text) < MinSecret {
		return nil, fmt.Errorf("%w: %s holds %d bytes, at least %d are needed; %s", ErrSecret, path, len(text), MinSecret, makeSecret)
	}
	return text, nil
}

// Identity is a member's side of the trust: what it presents and what it accepts.
type Identity struct {
	cert   tls.Certificate
	accept []ed25519.PublicKey
}

// FromSecrets derives the identity of a member of namespace/set. The first secret is
// the one presented; all are accepted, which lets two overlap while they are rotated.
func FromSecrets(namespace, set string, secrets ...[]byte) (*Identity, error) {
	var id Identity
	for i, secret := range secrets {
		if len(secret) < MinSecret {
			return nil, fmt.Errorf("%w: %d bytes, at least %d are needed; %s", ErrSecret, len(secret), MinSecret, makeSecret)
		}
		seed, err := hkdf.Key(sha256.New, secret, nil, "understudy/v1/"+namespace+"/"+set, ed25519.SeedSize)
		if err != nil {
			return nil, fmt.Errorf("derive the key of %s/%s: %w", namespace, set, err)
		}
		key := ed25519.NewKeyFromSeed(seed)
		id.accept = append(id.accept, key.Public().(ed25519.PublicKey)) // an Ed25519 key has no other
		if i == 0 {
			if id.cert, err = certify(key); err != nil {
				return nil, err
			}
		}
	}
	if len(id.accept) == 0 {
		return nil, fmt.Errorf("%w; %s", ErrSecret, makeSecret)
	}
	return &id, nil
}

// certify wraps a key in the certificate that TLS asks for. Nothing but the key is
// ever looked at, so its dates are as wide as X.509 allows.
func certify(key ed25519.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "understudy"},
		NotBefore:    time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Server is the configuration for the donor's side.
func (id *Identity) Server() *tls.Config { return id.config() }

// Client is the configuration for the joiner's side.
func (id *Identity) Client() *tls.Config {
	c := id.config()
	c.InsecureSkipVerify = true // verify below replaces names and authorities by the pinned key
	return c
}

func (id *Identity) config() *tls.Config {
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		NextProtos:       []string{"http/1.1"},
		Certificates:     []tls.Certificate{id.cert},
		ClientAuth:       tls.RequireAnyClientCert,
		VerifyConnection: id.verify,
		// A resumed session would skip the proof.
		SessionTicketsDisabled: true,
	}
}

// verify runs after the handshake's own check that the peer holds the private key of
// the certificate that it presents.
func (id *Identity) verify(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return ErrUntrusted
	}
	key, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return ErrUntrusted
	}
	for _, a := range id.accept {
		if a.Equal(key) {
			return nil
		}
	}
	return ErrUntrusted
}
