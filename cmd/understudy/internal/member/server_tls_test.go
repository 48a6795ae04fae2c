package member

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"understudy/clone/trust"
	"understudy/clone/trust/trusttest"
)

func setSecret(t *testing.T, path string, c string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Repeat(c, trust.MinSecret)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// secretTLS is that of a member whose secret is in a file.
func secretTLS(t *testing.T) (s ServerTLS, secret string) {
	t.Helper()
	secret = filepath.Join(t.TempDir(), "secret")
	setSecret(t, secret, "a")
	id, err := trust.FromSecretFiles("prod", "db", trust.SecretFiles{Current: secret}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return ServerTLS{dir: t.TempDir(), host: "db-0.db", id: id}, secret
}

func (s ServerTLS) writes(t *testing.T, want bool) {
	t.Helper()
	if changed, err := s.Write(); err != nil || changed != want {
		t.Errorf("changed: %v, %v", changed, err)
	}
	for _, path := range []string{s.Files().CA, s.Files().Cert, s.Files().Key} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestServerTLS(t *testing.T) {
	s, secret := secretTLS(t)
	s.writes(t, true)
	s.writes(t, false)
	setSecret(t, secret, "b")
	s.writes(t, true)
	s.writes(t, false)
	for name, damage := range map[string]func() error{
		"somebody changed a file":   func() error { return os.WriteFile(s.Files().Cert, []byte("x"), 0o600) },
		"somebody removed a file":   func() error { return os.Remove(s.Files().Key) },
		"somebody removed the link": func() error { return os.Remove(filepath.Join(s.dir, "tls")) },
		"killed before the rename":  func() error { return os.Rename(filepath.Join(s.dir, "tls"), filepath.Join(s.dir, "tls.next")) },
		"killed in the midst of a new one": func() error {
			return errors.Join(os.RemoveAll(filepath.Join(s.dir, "tls")), os.Mkdir(filepath.Join(s.dir, "tls-1"), 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			s.writes(t, true)
			s.writes(t, false)
		})
	}
	if changed, err := (ServerTLS{dir: "absent"}).Write(); changed || err != nil {
		t.Errorf("--insecure: %v, %v", changed, err)
	}
}

// A server is told to reload after each change until it has done so, and after a change that it may
// have missed.
func TestServerTLSFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, secret := secretTLS(t)
		s.writes(t, true)
		var log bytes.Buffer
		var reloads atomic.Int32
		var up atomic.Bool
		reload := func(context.Context) error {
			if !up.Load() {
				return errors.New("connection refused")
			}
			reloads.Add(1)
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			s.Keep(ctx, time.Second, reload, func(text string) { t.Error(text) }, slog.New(slog.NewTextHandler(&log, nil)))
			close(done)
		}()
		turn := func(want int32) {
			t.Helper()
			time.Sleep(3500 * time.Millisecond)
			synctest.Wait()
			if got := reloads.Load(); got != want {
				t.Errorf("%d reloads, not %d", got, want)
			}
		}
		turn(0)
		up.Store(true)
		turn(1)
		setSecret(t, secret, "b")
		turn(2)
		cancel()
		<-done
		if n := strings.Count(log.String(), "the server's certificate has changed"); n != 1 {
			t.Errorf("it is said %d times:\n%s", n, &log)
		}
	})
}

// A certificate that replicas refuse is reported once. The member starts nevertheless.
func TestServerTLSRefused(t *testing.T) {
	for host, want := range map[string]string{
		"db-0.db":          "servers want two dots after a star",
		"db-0.db.prod.svc": "",
		"db-0.other":       "not for db-0.other",
	} {
		t.Run(host, func(t *testing.T) {
			certs := trusttest.SelfSigned(t, "*.db", "*.db.prod.svc")
			id, err := trust.FromCertificates(certs, "*.db.prod.svc", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			s := ServerTLS{dir: t.TempDir(), host: host, id: id}
			s.writes(t, true)
			synctest.Test(t, func(t *testing.T) {
				var told []string
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				s.Keep(ctx, time.Second, func(context.Context) error { return nil }, func(text string) { told = append(told, text) }, slog.New(slog.DiscardHandler))
				switch {
				case want == "" && told != nil:
					t.Error(told)
				case want != "" && (len(told) != 1 || !strings.Contains(told[0], want) || !strings.Contains(told[0], "2026")):
					t.Errorf("%q", told)
				}
			})
		})
	}
}
