package member

import (
	"context"
	"errors"
	"testing"

	"understudy/clone/wire"
)

// backups is a donor whose backups begin with err.
type backups struct{ err error }

func (backups) Member(context.Context) wire.Member { return wire.Member{} }

func (b backups) Backup(context.Context, wire.Ask) (wire.Backup, error) {
	return wire.Backup{Finish: func() error { return nil }}, b.err
}

// No backup begins while the server is claimed, and it is not claimed while one runs, also one that
// failed, or did not begin.
func TestExclusion(t *testing.T) {
	var e Exclusion
	claims := func(want bool) (release func()) {
		t.Helper()
		release, ok := e.Claim()
		if ok != want {
			t.Fatalf("claimed: %t", ok)
		}
		return release
	}
	d := e.Donor(backups{})
	first, err := d.Backup(t.Context(), wire.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := d.Backup(t.Context(), wire.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	claims(false)
	if err := first.Finish(); err != nil {
		t.Error(err)
	}
	claims(false)
	if err := second.Finish(); err != nil {
		t.Error(err)
	}
	release := claims(true)
	claims(false)
	if _, err := d.Backup(t.Context(), wire.Ask{}); !errors.Is(err, wire.ErrBusy) {
		t.Errorf("a backup beside a claim: %v", err)
	}
	release()
	failed := errors.New("no account")
	if _, err := e.Donor(backups{failed}).Backup(t.Context(), wire.Ask{}); !errors.Is(err, failed) {
		t.Error(err)
	}
	claims(true)()
}
