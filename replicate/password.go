package replicate

import (
	"context"
	"fmt"
)

// passwords are an account's password and, while it is rotated, the one before it, which is empty
// otherwise.
//
// A rotation reaches the members one by one, in any order. Until all have it, the account has both
// on the primary, where the server can do that, so that members that know one of them get in. A
// member that knows both uses the one that is taken.
type passwords struct{ current, previous string }

// readPasswords reads both. previous may be nil.
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

// are reports whether an account has these, and nothing else. Where it cannot have two, the current
// one is enough.
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

// passwordGiver is the server that has the replication account: the source or, on a first ordinal,
// the member that it follows; false where there is none.
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
		(action.Step.starts() || action.Step == Follow || action.Step == Wait && v.f.loginRefused())
}

// askPassword finds out which of the two passwords is taken.
func (a *Agent) askPassword(ctx context.Context, s Standing, f *Facts, _ Action) {
	giver, _ := view{s, *f}.passwordGiver()
	password := a.memory.choose(ctx, giver, dialectOf(f.Version))
	f.PreviousTaken, f.PasswordTried = password == s.Source.Previous, a.memory.tried(password)
}
