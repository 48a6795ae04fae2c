package member

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"understudy/clone/trust"
	"understudy/replicate"
)

// ServerTLS keeps the certificate of the member's server, and the authorities by which its
// replication verifies the source, in the directory of the server's configuration:
//
//	tls -> tls-DIGEST    exchanged by one rename, so that a server that starts finds a
//	tls-DIGEST/          certificate and its own key
//	  ca.pem cert.pem key.pem
type ServerTLS struct {
	dir, host string
	id        *trust.Identity // nil: there is none, see --insecure
}

const tlsLink = "tls"

// ServerTLS is the certificate of the member's server, for the host name by which replicas connect.
// dir is the directory of the server's configuration.
func (m *Member) ServerTLS(dir string) ServerTLS {
	return ServerTLS{dir: dir, host: m.Host(), id: m.TLS.Trust}
}

// Files are the paths at which the server and the sidecar see the files.
func (s ServerTLS) Files() replicate.TLS {
	if s.id == nil {
		return replicate.TLS{}
	}
	in := func(name string) string { return filepath.Join(s.dir, tlsLink, name) }
	return replicate.TLS{CA: in("ca.pem"), Cert: in("cert.pem"), Key: in("key.pem")}
}

// Write brings the files up to date, and says whether they have changed.
func (s ServerTLS) Write() (changed bool, err error) {
	if s.id == nil {
		return false, nil
	}
	c, err := s.id.ServerCertificate(s.host)
	if err != nil {
		return false, err
	}
	digest := sha256.New()
	for _, text := range [][]byte{c.CA, c.Cert, c.Key} {
		_, _ = digest.Write(text) // never fails, see hash.Hash
	}
	name := fmt.Sprintf("%s-%x", tlsLink, digest.Sum(nil)[:8])
	link := filepath.Join(s.dir, tlsLink)
	if now, err := os.Readlink(link); err == nil && now == name && s.whole(name, c) {
		return false, nil
	}
	if err := s.publish(name, link, c); err != nil {
		return false, fmt.Errorf("write the server's certificate: %w", err)
	}
	return true, nil
}

// whole says whether the directory has the right files with the right content.
func (s ServerTLS) whole(name string, c trust.ServerCertificate) bool {
	for file, text := range contents(c) {
		if got, err := os.ReadFile(filepath.Join(s.dir, name, file)); err != nil || string(got) != string(text) {
			return false
		}
	}
	return true
}

func contents(c trust.ServerCertificate) map[string][]byte {
	return map[string][]byte{"ca.pem": c.CA, "cert.pem": c.Cert, "key.pem": c.Key}
}

func (s ServerTLS) publish(name, link string, c trust.ServerCertificate) error {
	dir := filepath.Join(s.dir, name)
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		return err
	}
	for file, text := range contents(c) {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			return err
		}
	}
	next := link + ".next"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := errors.Join(os.Symlink(name, next), os.Rename(next, link)); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tlsLink+"-") && e.Name() != name {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	return err
}

// refused says why replicas reject the certificate, or nil. The member starts nevertheless: a
// primary without replicas is better than none.
func (s ServerTLS) refused() error {
	if s.id == nil {
		return nil
	}
	c, err := s.id.ServerCertificate(s.host)
	if err != nil {
		return err
	}
	if err := c.Check(s.host); err != nil {
		return fmt.Errorf("replicas of this member's server at %s fail with error 2026: %w", s.host, err)
	}
	return nil
}

// Keep keeps the files up to date while the secret is rotated or a certificate renewed, and reloads
// them in the server after each change. It also reloads them once at its start, because the server
// may not have read earlier changes. tell gets the problem of a certificate that replicas reject.
func (s ServerTLS) Keep(ctx context.Context, every time.Duration, reload func(context.Context) error, tell func(text string), log *slog.Logger) {
	if s.id == nil {
		return
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	due, complaint, told := true, "", ""
	for {
		changed, err := s.Write()
		switch {
		case err == nil:
			complaint = ""
		case err.Error() != complaint:
			complaint = err.Error()
			log.Warn("the server's certificate is not up to date", "error", err)
		}
		if err := s.refused(); err != nil && err.Error() != told {
			told = err.Error()
			log.Error("replicas refuse the server's certificate", "error", err)
			tell(told)
		}
		if changed {
			log.Info("the server's certificate has changed", "file", s.Files().Cert)
		}
		if due = due || changed; due {
			err := reload(ctx)
			if due = err != nil; due {
				log.Debug("the server has not read its certificate yet", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
