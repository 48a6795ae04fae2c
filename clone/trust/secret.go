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
	"io/fs"
	"log/slog"
	"math/big"
	"time"
)

// MinSecret is the minimum length of a secret in bytes, without trailing newlines.
const MinSecret = 32

// makeSecret is part of every error about a missing secret.
const makeSecret = "make one with: head -c 32 /dev/urandom | base64 > FILE"

// secretOf is the secret in a file.
func secretOf(f file) ([]byte, error) {
	if f.err != nil {
		return nil, fmt.Errorf("%w: %w; %s", ErrSecret, f.err, makeSecret)
	}
	text := trim(f.text)
	if len(text) < MinSecret {
		return nil, fmt.Errorf("%w: %s holds %d bytes, at least %d are needed; %s", ErrSecret, f.path, len(text), MinSecret, makeSecret)
	}
	return text, nil
}

func trim(text []byte) []byte { return bytes.TrimRight(text, "\r\n") }

// SecretFiles are the files of a set's secret.
type SecretFiles struct {
	// Current has the secret.
	Current string
	// Previous has the one before it during a rotation. The path may be empty, and the file missing
	// or empty: then there is none.
	Previous string
}

// FromSecretFiles derives the identity of a member of namespace/set, and repeats that when the
// files change. The returned error is ErrSecret. Later errors are logged, once for each change, and
// the last good files stay in force.
func FromSecretFiles(namespace, set string, files SecretFiles, log *slog.Logger) (*Identity, error) {
	paths := []string{files.Current}
	if files.Previous != "" {
		paths = append(paths, files.Previous)
	}
	w, err := watch(log, paths, func(read []file) (*keys, error) {
		current, err := secretOf(read[0])
		if err != nil {
			return nil, err
		}
		if len(read) == 1 || errors.Is(read[1].err, fs.ErrNotExist) || read[1].err == nil && len(trim(read[1].text)) == 0 {
			return derive(namespace, set, current)
		}
		previous, err := secretOf(read[1])
		if err != nil {
			return nil, fmt.Errorf("the previous secret: %w", err)
		}
		return derive(namespace, set, current, previous)
	})
	if err != nil {
		return nil, err
	}
	return &Identity{now: func() proof { return w.now() }}, nil
}

// FromSecrets derives the identity of a member of namespace/set from its current secret and, during
// a rotation, the previous one.
func FromSecrets(namespace, set string, secrets ...[]byte) (*Identity, error) {
	k, err := derive(namespace, set, secrets...)
	if err != nil {
		return nil, err
	}
	return &Identity{now: func() proof { return k }}, nil
}

// keys prove membership with one secret, or with two.
type keys struct {
	cert   tls.Certificate
	accept []ed25519.PublicKey
	// issuers issue the database servers' certificates, the current secret's first.
	issuers []*issuer
}

func derive(namespace, set string, secrets ...[]byte) (*keys, error) {
	if len(secrets) < 1 || len(secrets) > 2 {
		return nil, fmt.Errorf("%w: there are %d, not the current one and at most the previous one; %s", ErrSecret, len(secrets), makeSecret)
	}
	var k keys
	var own []ed25519.PrivateKey
	for _, secret := range secrets {
		if len(secret) < MinSecret {
			return nil, fmt.Errorf("%w: %d bytes, at least %d are needed; %s", ErrSecret, len(secret), MinSecret, makeSecret)
		}
		seed, err := hkdf.Key(sha256.New, secret, nil, "understudy/v1/"+namespace+"/"+set, ed25519.SeedSize)
		if err != nil {
			return nil, fmt.Errorf("derive the key of %s/%s: %w", namespace, set, err)
		}
		key := ed25519.NewKeyFromSeed(seed)
		own = append(own, key)
		k.accept = append(k.accept, key.Public().(ed25519.PublicKey)) // an Ed25519 key has no other
		a, err := newIssuer(namespace, set, secret)
		if err != nil {
			return nil, err
		}
		k.issuers = append(k.issuers, a)
	}
	var err error
	if len(secrets) > 1 {
		if err = k.issuers[1].vouchFor(k.issuers[0]); err != nil {
			return nil, err
		}
	}
	k.cert, err = certify(own[0], own[len(own)-1])
	return &k, err
}

// certify makes the certificate of a key, signed by the same or by another key. Only key and
// signature are ever checked, so its dates are as wide as X.509 allows.
func certify(key, signer ed25519.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "understudy"},
		NotBefore:    time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), signer)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func (k *keys) certificate() *tls.Certificate { return &k.cert }

func (k *keys) judge(peer tls.ConnectionState, _ x509.ExtKeyUsage) error {
	cert := peer.PeerCertificates[0]
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	for _, a := range k.accept {
		if ok && (a.Equal(key) || signedBy(cert, a)) {
			return nil
		}
	}
	return fmt.Errorf("%w: it does not hold this set's secret", ErrUntrusted)
}

func signedBy(cert *x509.Certificate, key ed25519.PublicKey) bool {
	return cert.SignatureAlgorithm == x509.PureEd25519 && ed25519.Verify(key, cert.RawTBSCertificate, cert.Signature)
}
