package replicate

import (
	"context"
	"crypto/tls"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"

	"github.com/go-sql-driver/mysql"
)

// How connections to the member's own server are secured is decided here. A server may refuse all
// others than those over TLS (require_secure_transport), and it has a certificate of the set's
// authorities, unless it was adopted and has not restarted, or its arguments give it another. So
// these are tried in turn:
//
//	TLS, with the certificate verified by the member's host name    where there are authorities
//	TLS, with whatever certificate the server has                   on this host, or without authorities
//	no TLS                                                          on this host, where the server has none
//
// To another host no password goes in clear, or to a server that has not proved itself.

// transport is one of them.
type transport struct {
	// tls is nil for none.
	tls *tls.Config
	// unverified says why the certificate was not verified, when it should have been.
	unverified string
}

// onThisHost reports whether the address of a server is one of this host only.
func onThisHost(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// dial opens a connection with the first transport that the server has.
func (l *logins) dial(ctx context.Context, dsn *mysql.Config) (driver.Conn, transport, error) {
	local := onThisHost(dsn.Addr)
	verified, strange := Source{Host: l.host, CA: l.ca}.clientTLS()
	if strange != nil && !local {
		return nil, transport{}, strange
	}
	if verified != nil {
		look := verified.Clone()
		look.VerifyConnection = func(peer tls.ConnectionState) error {
			strange = verified.VerifyConnection(peer)
			return strange
		}
		conn, err := connectOver(ctx, dsn, transport{tls: look})
		if errors.Is(err, mysql.ErrNoTLS) {
			strange = err
		}
		if !local || strange == nil {
			return conn, transport{tls: verified}, err
		}
	}
	var t transport
	if strange != nil {
		t.unverified = strange.Error()
	}
	t.tls = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} //nolint:gosec // as the table says
	conn, err := connectOver(ctx, dsn, t)
	if !local || !errors.Is(err, mysql.ErrNoTLS) {
		return conn, t, err
	}
	t.tls = nil
	conn, err = connectOver(ctx, dsn, t)
	return conn, t, err
}

func connectOver(ctx context.Context, dsn *mysql.Config, t transport) (driver.Conn, error) {
	dsn = dsn.Clone()
	dsn.TLS = t.tls
	c, err := mysql.NewConnector(dsn)
	if err != nil {
		return nil, fmt.Errorf("set up the connection: %w", err)
	}
	return c.Connect(ctx)
}

// tellOfTransport says when the server does not prove itself to us any more, or does again.
func (l *logins) tellOfTransport(t transport) {
	l.mu.Lock()
	before := l.unverified
	l.unverified = t.unverified
	l.mu.Unlock()
	switch {
	case before == t.unverified:
	case t.unverified == "":
		l.log.Info("the server presents the member's certificate")
	default:
		l.log.Warn("the server does not present the member's certificate: connections on this host are not verified", "reason", t.unverified)
	}
}
