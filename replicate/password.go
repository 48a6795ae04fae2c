package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// passwords are an account's password and, while it is rotated, the one before it, which is
// empty otherwise.
//
// A rotation reaches the members one by one, in any order. Until all have it, the account
// has both on the primary, where the server can do that, so that members that know one of
// them get in. A member that knows both uses the one that is taken.
type passwords struct{ current, previous string }

// readPasswords reads them anew. previous may be nil.
func readPasswords(current, previous func() (string, error)) (p passwords, err error) {
	if p.current, err = current(); err != nil || previous == nil {
		return p, err
	}
	if p.previous, err = previous(); err != nil {
		return p, fmt.Errorf("the previous one: %w", err)
	}
	if p.previous == p.current {
		p.previous = ""
	}
	return p, nil
}

// are reports whether an account has these, and nothing else. Where it cannot have two, the
// current one is enough.
func (p passwords) are(hash, secondHash string, by scheme, can second) bool {
	if !by.isHash(hash, p.current) {
		return false
	}
	if p.previous == "" || can == never {
		return secondHash == ""
	}
	return by.isHash(secondHash, p.previous)
}

// loginRefused says that the source does not take the replica's password.
func (f Facts) loginRefused() bool { return f.Channel != nil && f.Channel.IOErrno == errAccessDenied }

// taken is the password that the source took, of those that there were.
type taken struct {
	of       passwords
	password string
	asked    time.Time
}

// askAgain is how long after a question which password is taken the next one is asked.
const askAgain = 5 * time.Second

// choosePassword picks the one of two passwords that the source takes, or the member that
// a first ordinal follows. While it takes neither, or does not answer, that is the last one
// that it took, or else the current one.
func (a *Agent) choosePassword(ctx context.Context, s Standing, f Facts) Standing {
	of := s.Source
	if s.Primary && f.Level != nil && f.Level.Ahead != nil {
		of = of.at(f.Level.Ahead.Host)
	} else if s.Primary {
		return s
	}
	if of.Previous == "" {
		return s
	}
	both := passwords{s.Source.Password, s.Source.Previous}
	if a.taken.of != both {
		a.taken = taken{of: both, password: both.current}
	}
	if time.Since(a.taken.asked) >= askAgain || a.taken.asked.IsZero() {
		a.askPassword(ctx, of, dialectOf(f.Version))
	}
	s.Source.Password = a.taken.password
	s.PasswordTried = a.tried(s.Source.Password)
	return s
}

func (a *Agent) askPassword(ctx context.Context, s Source, d dialect) {
	a.taken.asked = time.Now()
	for _, password := range []string{a.taken.of.current, a.taken.of.previous} {
		ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
		s.Password = password
		_, _, err := askSource(ctx, s, d)
		cancel()
		switch {
		case refuses(err):
		case err == nil || errors.Is(err, sql.ErrNoRows): // it has no GTIDs to tell of
			a.taken.password = password
			return
		default:
			a.log.Debug("the source was not asked which password it takes", "error", err)
			return
		}
	}
}

// tried reports whether the server was given this password last.
func (a *Agent) tried(password string) bool {
	return a.triedPassword != "" && a.triedPassword == password
}
