// Package apiserver runs a real API server of Kubernetes, with its etcd, as two processes on
// loopback: no node, no kubelet. e2e/cluster/build.sh makes the programs.
package apiserver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"understudy/e2e/process"
	"understudy/e2e/testserver"
)

// ErrMissing is returned when the programs have not been built.
var ErrMissing = errors.New("no kube-apiserver: run e2e/cluster/build.sh")

const (
	port         = 6443
	startTimeout = 2 * time.Minute
	pollInterval = 100 * time.Millisecond
)

// Server is a running API server. Everybody who has its token may do everything.
type Server struct {
	// Host and Port are where it listens.
	Host string
	Port int
	// Token is the password of whoever asks, and CAFile the certificate that it proves itself by.
	Token, CAFile string

	dir    string
	bin    string
	etcd   *process.Process
	api    *process.Process
	client *http.Client
}

// Start starts both, below dir, and waits until they answer. Stop them.
func Start(ctx context.Context, dir string) (*Server, error) {
	bin, err := testserver.Repository(".cache", "cluster", "bin")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(bin, "kube-apiserver")); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	secret := make([]byte, 16)
	_, _ = rand.Read(secret) // never fails, see crypto/rand
	s := &Server{Host: testserver.Address(), Port: port, Token: hex.EncodeToString(secret), dir: dir, bin: bin, CAFile: filepath.Join(dir, "ca.crt")}
	if err := s.start(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("start the API server on %s: %w", s.Host, err)
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	if err := s.makeFiles(); err != nil {
		return err
	}
	client := "http://" + net.JoinHostPort(s.Host, "2379")
	peer := "http://" + net.JoinHostPort(s.Host, "2380")
	var err error
	if s.etcd, err = s.run("etcd", "--name=test", "--data-dir="+s.path("etcd"), "--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=test="+peer, "--unsafe-no-fsync", "--log-level=warn"); err != nil {
		return err
	}
	return s.Again(ctx)
}

// Again starts the API server, after Kill with what its etcd has, and waits until it answers.
func (s *Server) Again(ctx context.Context) error {
	var err error
	if s.api, err = s.run("kube-apiserver", "--etcd-servers=http://"+net.JoinHostPort(s.Host, "2379"), "--bind-address="+s.Host, "--advertise-address="+s.Host, "--secure-port="+strconv.Itoa(port),
		"--tls-cert-file="+s.CAFile, "--tls-private-key-file="+s.path("key"), "--token-auth-file="+s.path("tokens"), "--authorization-mode=AlwaysAllow",
		"--service-account-issuer=https://test", "--service-account-key-file="+s.path("key"), "--service-account-signing-key-file="+s.path("key"),
		"--service-cluster-ip-range=10.96.0.0/24", "--endpoint-reconciler-type=none", "--disable-admission-plugins=ServiceAccount"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		_, err := s.Do(ctx, http.MethodGet, "/readyz", "", "")
		if err == nil {
			return nil
		}
		select {
		case <-s.etcd.Exited():
			return fmt.Errorf("etcd has ended: %s", s.tail("etcd"))
		case <-s.api.Exited():
			return fmt.Errorf("kube-apiserver has ended: %s", s.tail("kube-apiserver"))
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(pollInterval):
		}
	}
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

// makeFiles makes the certificate, which is its own authority, and the token.
func (s *Server) makeFiles() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kube-apiserver"}, IPAddresses: []net.IP{net.ParseIP(s.Host)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode a key: %w", err)
	}
	pool := x509.NewCertPool()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("read a certificate: %w", err)
	}
	pool.AddCert(certificate)
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	for file, text := range map[string][]byte{
		"ca.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"key":    pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
		"tokens": []byte(s.Token + `,test,1,"system:masters"` + "\n"),
		"token":  []byte(s.Token),
	} {
		if err := os.WriteFile(s.path(file), text, 0o600); err != nil {
			return fmt.Errorf("make the API server's files: %w", err)
		}
	}
	return nil
}

func (s *Server) run(program string, args ...string) (*process.Process, error) {
	log, err := os.OpenFile(s.path(program+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", program, err)
	}
	defer func() { _ = log.Close() }()                          // the child has its own handle
	cmd := exec.Command(filepath.Join(s.bin, program), args...) //nolint:noctx // process.Start's children end in other ways
	cmd.Stdout, cmd.Stderr = log, log
	return process.Start(cmd, false)
}

func (s *Server) tail(program string) string {
	text, err := os.ReadFile(s.path(program + ".log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// Do asks the API server. The error of an answer that is none of success has its text.
func (s *Server) Do(ctx context.Context, method, path, contentType, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+net.JoinHostPort(s.Host, strconv.Itoa(s.Port))+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return "", fmt.Errorf("ask the API server: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask the API server: %w", err)
	}
	text, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return "", fmt.Errorf("ask the API server: %w", err)
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return string(text), fmt.Errorf("ask the API server: %s: %s", res.Status, text)
	}
	return string(text), nil
}

// Command makes a command that finds the API server as a process in a pod does: in a mount
// namespace of its own, with the service account's files where a kubelet mounts them. It takes
// root.
func (s *Server) Command(program string, args ...string) *exec.Cmd {
	const script = `mount --make-rprivate / && mkdir -p /var/run/secrets && mount -t tmpfs none /var/run/secrets &&
mkdir -p /var/run/secrets/kubernetes.io/serviceaccount && cp "$0/token" "$0/ca.crt" /var/run/secrets/kubernetes.io/serviceaccount/ && exec "$@"`
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, s.dir, program}, args...)...) //nolint:noctx // as above
	cmd.Env = append(os.Environ(), "KUBERNETES_SERVICE_HOST="+s.Host, "KUBERNETES_SERVICE_PORT="+strconv.Itoa(s.Port))
	return cmd
}

// Kill ends the API server, not its etcd.
func (s *Server) Kill() { s.api.Kill() }

// Signal sends a signal to the API server, not to its etcd.
func (s *Server) Signal(sig syscall.Signal) { s.api.Signal(sig) }

// Stop ends both.
func (s *Server) Stop() {
	for _, p := range []*process.Process{s.api, s.etcd} {
		if p != nil {
			p.Kill()
		}
	}
}
