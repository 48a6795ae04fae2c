package trust

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
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
func shake(ctx context.Context, server, client *tls.Config) (serverErr, clientErr error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err, err
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
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return err, err
	}
	clientErr = exchange(tls.Client(c, client))
	return <-done, clientErr
}

func exchange(c *tls.Conn) error {
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// blind is a stranger that does not verify its peer.
func blind(c *tls.Config) *tls.Config {
	c.VerifyConnection = nil
	return c
}

// volume is a directory as the kubelet makes one of a Secret: each file is a link
// through the link ..data, and one rename of that changes them all.
type volume struct {
	dir string
}

func newVolume(t *testing.T, files map[string]string) volume {
	t.Helper()
	v := volume{t.TempDir()}
	if err := v.swap(files); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v volume) path(name string) string { return filepath.Join(v.dir, name) }

// swap gives the volume new files. The old ones go.
func (v volume) swap(files map[string]string) error {
	old, _ := os.Readlink(v.path("..data")) // none at first
	data, err := os.MkdirTemp(v.dir, "..")
	if err != nil {
		return err
	}
	for name, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(data, name), []byte(text), 0o600))
	}
	_ = os.Remove(v.path("..data_tmp"))
	err = errors.Join(err, os.Symlink(filepath.Base(data), v.path("..data_tmp")), os.Rename(v.path("..data_tmp"), v.path("..data")))
	for name := range files {
		if linkErr := os.Symlink(filepath.Join("..data", name), v.path(name)); !errors.Is(linkErr, os.ErrExist) {
			err = errors.Join(err, linkErr)
		}
	}
	if old != "" {
		err = errors.Join(err, os.RemoveAll(v.path(old)))
	}
	return err
}

// journal makes a log and a function that returns its lines so far, and forgets them.
func journal() (*slog.Logger, func() []string) {
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, nil)), func() []string {
		lines := strings.Split(b.String(), "\n")
		b.Reset()
		return lines[:len(lines)-1]
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestStrangers(t *testing.T) {
	us := identity(t, "prod", "db", secret('a'))
	other := identity(t, "prod", "db", secret('b'))
	forged := us.Client()
	forged.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert := *us.now().certificate() // anybody who talks to us gets it
		cert.PrivateKey = other.now().certificate().PrivateKey
		return &cert, nil
	}
	old := us.Client()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	oldServer := us.Server()
	oldServer.MinVersion, oldServer.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	tests := []struct {
		name           string
		server, client *tls.Config
		byServer       bool // the other side only hears of it
		untrusted      bool // for who the peer is
	}{
		{"client without a certificate", us.Server(), &tls.Config{InsecureSkipVerify: true}, true, false}, //nolint:gosec // the stranger of this test
		{"client with our certificate and not its key", us.Server(), forged, true, false},
		{"client with another key", us.Server(), blind(other.Client()), true, true},
		{"server with another key", blind(other.Server()), us.Client(), false, true},
		{"client of TLS 1.2", us.Server(), old, true, false},
		{"server of TLS 1.2", oldServer, us.Client(), true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			serverErr, clientErr := shake(t.Context(), tt.server, tt.client)
			if serverErr == nil || clientErr == nil {
				t.Fatalf("it passed: server %v, client %v", serverErr, clientErr)
			}
			refuser, other := clientErr, serverErr
			if tt.byServer {
				refuser, other = serverErr, clientErr
			}
			if _, alert := errors.AsType[*net.OpError](refuser); alert || errors.Is(refuser, ErrUntrusted) != tt.untrusted {
				t.Errorf("who refuses says: %v", refuser)
			}
			if errors.Is(other, ErrUntrusted) {
				t.Errorf("the other one says: %v", other)
			}
		})
	}
}

// A session that was resumed would have been proved long ago.
func TestNoResumption(t *testing.T) {
	us := identity(t, "prod", "db", secret('a'))
	server, client := us.Server(), us.Client()
	client.ServerName, client.ClientSessionCache = "db-0.db", tls.NewLRUClientSessionCache(1)
	proved := 0
	verify := server.VerifyConnection
	server.VerifyConnection = func(c tls.ConnectionState) error {
		if !c.DidResume {
			proved++
		}
		return verify(c)
	}
	for range 2 {
		if serverErr, clientErr := shake(t.Context(), server, client); serverErr != nil || clientErr != nil {
			t.Fatalf("server %v, client %v", serverErr, clientErr)
		}
	}
	if proved != 2 {
		t.Errorf("%d proofs in 2 handshakes", proved)
	}
}
