package replicate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"understudy/replicate/flavor"
	"understudy/replicate/hostcheck"
)

// TLS are PEM files, under the names that the server has for them: what it proves itself with to
// its replicas, and the authorities of which its source's certificate must be. The zero value is
// none: then a channel takes whatever certificate there is.
type TLS struct{ CA, Cert, Key string }

// options have the server use the files.
func (t TLS) options() []Option {
	if t == (TLS{}) {
		return nil
	}
	return []Option{
		{Name: "ssl_ca", Value: t.CA, Verify: t.CA}, {Name: "ssl_cert", Value: t.Cert, Verify: t.Cert}, {Name: "ssl_key", Value: t.Key, Verify: t.Key},
	}
}

// verifies reports whether the channel does that as it should.
func (c *Channel) verifies(s Source) bool {
	return c.CA == s.CA && (s.CA == "" || c.Verified)
}

// fromBefore says that the channel leads to the source and has never verified it: it was adopted,
// or made by a version that did not verify. The source may not have its certificate yet, and the
// channel goes on as it is until then. One that we make verifies from the beginning.
func (c *Channel) fromBefore(s Source) bool {
	return c != nil && s.CA != "" && c.CA == "" && c.Host == s.Host && c.Port == s.Port
}

// shaky says that a channel that works would be pointed at another source, at another account or at
// other authorities: it must not be lost over that.
func (c *Channel) shaky(s Source) bool {
	return c != nil && s.CA != "" && (c.fromBefore(s) || c.IO == "Yes")
}

// distrusts says that the receiver did not take the source's certificate; it does not say why.
func (f Facts) distrusts() bool { return f.Channel != nil && f.Channel.IOErrno == errSSL }

// wantsProof: a channel must not be lost over a source that cannot prove its identity, and a server
// says no more than that it did not trust it.
func wantsProof(v view, action Action) bool {
	return action.Step == Repoint && v.f.Channel.shaky(v.s.Source) ||
		action.Step == Wait && !v.s.Primary && v.f.distrusts() && v.s.Source.CA != ""
}

// askProof has the source prove itself.
func (a *Agent) askProof(ctx context.Context, s Standing, f *Facts, _ Action) {
	f.Unproven = a.memory.prove(ctx, s.source(*f), dialectOf(f.Version))
}

// clientTLS is how we verify the source ourselves, as our server does it; nil where that is not
// asked for.
func (s Source) clientTLS() (*tls.Config, error) {
	if s.CA == "" {
		return nil, nil //nolint:nilnil // documented
	}
	text, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, fmt.Errorf("read the servers' authorities: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read the servers' authorities: %s holds no certificate", s.CA)
	}
	return &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // only the check of the name, of which servers have another idea: see hostcheck
		VerifyConnection:   func(peer tls.ConnectionState) error { return s.verify(peer.PeerCertificates, roots) },
		MinVersion:         tls.VersionTLS12,
	}, nil
}

// verify checks authority, dates, use and name of the source's certificate.
func (s Source) verify(chain []*x509.Certificate, roots *x509.CertPool) error {
	if len(chain) == 0 {
		return fmt.Errorf("%s has sent no certificate", s.Host)
	}
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates}); err != nil { // for ServerAuth
		return fmt.Errorf("verify the certificate of %s: %w", s.Host, err)
	}
	return hostcheck.Check(chain[0], s.Host)
}

// ReloadTLS has the server read its certificate again. Connections that are open go on. An old
// server (MySQL before 8.0.16) reads it at its next start only.
func (a *Agent) ReloadTLS(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	var text string
	if err := a.logins.db.QueryRowContext(ctx, queryVersion).Scan(&text); err != nil {
		return fmt.Errorf("read the server's version: %w", err)
	}
	v, err := flavor.ParseServer(text)
	if err != nil {
		return err
	}
	if text = reloadTLS(v); text == "" {
		return nil
	}
	return exec(ctx, a.logins.db, []statement{{text: text}})
}
