package replicate

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"
)

// As whom the agent and the backups log in to the member's own server is decided here:
//
//	what for                      accounts, the first that is let in
//	----------------------------  ----------------------------------
//	looks and steps               the sidecar's, the administrator's
//	backups                       the clone's, the administrator's
//	to make and change accounts   the administrator's
//
// Of each account the current password is tried, then the previous one. The administrator stands in
// where the accounts are not there yet: before the primary has made them, and on a directory that
// was adopted.

// Login is an account of the member's own server.
type Login struct {
	User string
	// Password is read for every connection. Except for the administrator, an empty one says that
	// there is no such account.
	Password func() (string, error)
	// Previous, when set, is the password before that, empty when there is none. The server may
	// take either, and the primary's account gets both.
	Previous func() (string, error)
}

func (l Login) passwords() (passwords, error) {
	if l.Password == nil {
		return passwords{}, nil
	}
	p, err := readPasswords(l.Password, l.Previous)
	if err != nil {
		return p, fmt.Errorf("read the password of %s: %w", l.User, err)
	}
	return p, nil
}

const (
	// loginRetry is how long an account that was refused is not tried again.
	loginRetry = 30 * time.Second
	// distrustFor is the same for one that was let in and lacks a privilege.
	distrustFor = 5 * time.Minute
)

// entry is as whom, and by which password, the server let us in.
type entry struct {
	user, password string
	// instead says why it is not the account that was preferred; empty when it is.
	instead string
	// over is how the connection is secured.
	over transport
}

// Access is how the member's own server lets somebody in.
type Access struct {
	User, Password string
	// TLS is how the connection is secured; nil where the server has no TLS.
	TLS *tls.Config
}

// BackupLogin is how the member's server lets backups in. It is safe to call from any goroutine.
func (a *Agent) BackupLogin(ctx context.Context) (Access, error) { return a.logins.backup(ctx) }
