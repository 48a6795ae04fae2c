package mysqlwire

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the authentication plugins ask for it
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// The authentication plugins that are known.
const (
	pluginSHA2   = "caching_sha2_password"
	pluginNative = "mysql_native_password"
	pluginSHA256 = "sha256_password"
	nonceLen     = 20
)

// ErrPlugin is returned when the account uses an authentication plugin that is not known here.
var ErrPlugin = errors.New("the account's authentication plugin is not supported")

// errKeep is returned when the server wants the password itself over a connection without TLS, and
// there may be one with TLS.
var errKeep = errors.New("the password goes over TLS only")

// prove is the first proof of a password.
func (a Account) prove(plugin string, nonce []byte) ([]byte, error) {
	switch plugin {
	case pluginSHA2:
		return proveSHA2(a.Password, nonce), nil
	case pluginNative:
		return proveNative(a.Password, nonce), nil
	case pluginSHA256:
		return a.proveSHA256(), nil
	}
	return nil, fmt.Errorf("%w: %s; use %s", ErrPlugin, plugin, pluginSHA2)
}

// proveSHA2 is the proof that the server takes where it has the password in its cache.
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_caching_sha2_authentication_exchanges.html
func proveSHA2(password string, nonce []byte) []byte {
	if password == "" {
		return nil
	}
	once := sha256.Sum256([]byte(password))
	twice := sha256.Sum256(once[:])
	mask := sha256.Sum256(append(twice[:], nonce...))
	subtle.XORBytes(once[:], once[:], mask[:])
	return once[:]
}

// proveSHA256 is the password itself within TLS, else the wish for the server's key, also over a
// socket.
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_authentication_methods_sha256_password_authentication.html
func (a Account) proveSHA256() []byte {
	if a.TLS != nil || a.Password == "" {
		return append([]byte(a.Password), 0)
	}
	return []byte{askKey256}
}

// proveNative is the proof for mysql_native_password.
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_authentication_methods_native_password_authentication.html
func proveNative(password string, nonce []byte) []byte {
	if password == "" {
		return nil
	}
	once := sha1.Sum([]byte(password))                                //nolint:gosec // see above
	twice := sha1.Sum(once[:])                                        //nolint:gosec // see above
	mask := sha1.Sum(append(append([]byte{}, nonce...), twice[:]...)) //nolint:gosec // see above
	subtle.XORBytes(once[:], once[:], mask[:])
	return once[:]
}

// What the server says to a proof for caching_sha2_password, and what we may ask.
const (
	proofTaken = 3
	proofFull  = 4
	askKey     = 2
)

// askKey256 asks for the key of sha256_password.
const askKey256 = 1

// prove goes on with caching_sha2_password. A server that has no cached proof wants the password:
// where nobody else reads it as it is, else for the server's own key, which sha256_password always
// asks.
func (c *conn) prove(g greeting, a Account, asked []byte) error {
	plain := append([]byte(a.Password), 0)
	if g.plugin == pluginSHA256 && a.keep {
		return errKeep
	}
	if g.plugin == pluginSHA256 {
		return c.writeSealed(plain, g.nonce, asked)
	}
	if g.plugin != pluginSHA2 || len(asked) != 1 {
		return fmt.Errorf("%w: it asks more than %s has answers for", ErrProtocol, g.plugin)
	}
	switch asked[0] {
	case proofTaken:
		return nil
	case proofFull:
	default:
		return fmt.Errorf("%w: %s asks %d", ErrProtocol, g.plugin, asked[0])
	}
	switch {
	case a.secret():
		return c.write(plain)
	case a.keep:
		return errKeep
	}
	if err := c.write([]byte{askKey}); err != nil {
		return err
	}
	message, err := c.read(maxSmall)
	if err != nil {
		return err
	}
	if message[0] != headMoreData {
		return fmt.Errorf("%w: no key came", ErrProtocol)
	}
	return c.writeSealed(plain, g.nonce, message[1:])
}

func (c *conn) writeSealed(plain, nonce, key []byte) error {
	sealed, err := seal(plain, nonce, key)
	if err != nil {
		return err
	}
	return c.write(sealed)
}

// seal encrypts a password for a server's public key.
func seal(plain, nonce, key []byte) ([]byte, error) {
	block, _ := pem.Decode(key)
	if block == nil {
		return nil, fmt.Errorf("%w: its key is not PEM", ErrProtocol)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: its key: %w", ErrProtocol, err)
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: its key is a %T", ErrProtocol, parsed)
	}
	for i := range plain {
		plain[i] ^= nonce[i%len(nonce)]
	}
	return rsa.EncryptOAEP(sha1.New(), rand.Reader, public, plain, nil) //nolint:gosec // the server asks for it
}
