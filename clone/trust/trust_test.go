package trust

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func secret(c byte) []byte { return bytes.Repeat([]byte{c}, MinSecret) }

func identity(t *testing.T, namespace, set string, secrets ...[]byte) *Identity {
	t.Helper()
	id, err := FromSecrets(namespace, set, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// shake runs one handshake over loopback and a byte each way, and returns both errors.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		done <- exchange(tls.Server(c, server))
	}()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	clientErr = exchange(tls.Client(c, client))
	return <-done, clientErr
}

func exchange(c *tls.Conn) error {
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func TestTrust(t *testing.T) {
	a, b := secret('a'), secret('b')
	us := identity(t, "prod", "db", a)
	tests := []struct {
		name   string
		server *Identity
		client *Identity
		want   bool
	}{
		{"same secret", us, identity(t, "prod", "db", a), true},
		{"another secret", us, identity(t, "prod", "db", b), false},
		{"another set", us, identity(t, "prod", "db2", a), false},
		{"another namespace", us, identity(t, "test", "db", a), false},
		{"client already rotated, server knows both", identity(t, "prod", "db", a, b), identity(t, "prod", "db", b, a), true},
		{"server already rotated, client knows both", identity(t, "prod", "db", b, a), identity(t, "prod", "db", a, b), true},
		{"client rotated too early", us, identity(t, "prod", "db", b, a), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			serverErr, clientErr := shake(t, tt.server.Server(), tt.client.Client())
			if got := serverErr == nil && clientErr == nil; got != tt.want {
				t.Errorf("trusted = %v: server %v, client %v", got, serverErr, clientErr)
			}
		})
	}
}

func TestStrangers(t *testing.T) {
	us := identity(t, "prod", "db", secret('a'))
	t.Run("client without a certificate", func(t *testing.T) {
		serverErr, _ := shake(t, us.Server(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the stranger of this test
		if serverErr == nil {
			t.Error("the server took it")
		}
	})
	t.Run("TLS 1.2", func(t *testing.T) {
		c := us.Client()
		c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		if serverErr, _ := shake(t, us.Server(), c); serverErr == nil {
			t.Error("the server took it")
		}
	})
	t.Run("server with another key", func(t *testing.T) {
		_, clientErr := shake(t, identity(t, "prod", "db", secret('b')).Server(), us.Client())
		if !errors.Is(clientErr, ErrUntrusted) {
			t.Errorf("client error %v, want ErrUntrusted", clientErr)
		}
	})
}

func TestReadSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for _, tt := range []struct {
		name, text string
		ok         bool
	}{
		{"long enough", strings.Repeat("s", MinSecret) + "\n", true},
		{"newlines do not count", strings.Repeat("s", MinSecret-1) + "\r\n\n", false},
		{"empty", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ReadSecret(path)
			if tt.ok != (err == nil) || tt.ok && len(got) != MinSecret {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if err != nil && (!errors.Is(err, ErrSecret) || !strings.Contains(err.Error(), "/dev/urandom")) {
				t.Errorf("the error does not teach: %v", err)
			}
		})
	}
	if _, err := ReadSecret(path + ".absent"); !errors.Is(err, ErrSecret) {
		t.Errorf("absent file: %v", err)
	}
	if _, err := FromSecrets("n", "s"); !errors.Is(err, ErrSecret) {
		t.Errorf("no secret: %v", err)
	}
}
