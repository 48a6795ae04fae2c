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

// passwordGiver is the server that has the replication account: the source or, on a first
// ordinal, the member that it follows; false where there is none.
func (v view) passwordGiver() (Source, bool) {
	switch {
	case !v.s.Primary:
		return v.s.Source, true
	case v.f.Level != nil && v.f.Level.Ahead != nil:
		return v.s.Source.at(v.f.Level.Ahead.Host), true
	}
	return Source{}, false
}

// wantsPassword: while the password is rotated, only the source can say which one it takes.
func (a *Agent) wantsPassword(v view, action Action) bool {
	_, there := v.passwordGiver()
	return there && v.s.Source.Previous != "" &&
		(action.Step.follows() || action.Step == Follow || action.Step == Wait && v.f.loginRefused())
}

// askPassword finds out which of the two passwords is taken. While neither is, or there is no
// answer, that is the last one that was, or else the current one.
func (a *Agent) askPassword(ctx context.Context, s Standing, f *Facts, _ Action) {
	giver, _ := view{s, *f}.passwordGiver()
	both := passwords{s.Source.Password, s.Source.Previous}
	if a.taken.of != both {
		a.taken = taken{of: both, password: both.current}
	}
	if time.Since(a.taken.asked) >= askAgain || a.taken.asked.IsZero() {
		a.tryPasswords(ctx, giver, dialectOf(f.Version))
	}
	f.PreviousTaken = a.taken.password == both.previous
	f.PasswordTried = a.tried(a.taken.password)
}

func (a *Agent) tryPasswords(ctx context.Context, s Source, d dialect) {
	a.taken.asked = time.Now()
	for _, password := range []string{a.taken.of.current, a.taken.of.previous} {
		ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
		s.Password = password
		_, _, err := queryServer(ctx, s, d)
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
