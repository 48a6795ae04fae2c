package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// stored is what the server has of an account.
type stored struct {
	hash, plugin, second string
	// bar is why it lets nobody in, or soon will not, although the password is right.
	bar string
}

// readAccount reads an account; nil when there is none.
func readAccount(ctx context.Context, db *sql.DB, d dialect, user, host string) (*stored, error) {
	var has stored
	err := db.QueryRowContext(ctx, d.queryAccount, user, host).Scan(&has.hash, &has.plugin, &has.second, &has.bar)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // documented
	}
	if err != nil {
		return nil, fmt.Errorf("read the account %s@%s: %w", user, host, err)
	}
	return &has, nil
}

// readPrivileges reads what an account may do, of what matters here.
func readPrivileges(ctx context.Context, db *sql.DB, d dialect, user, host string) (map[string]bool, error) {
	query := strings.Join(d.held, alsoHeld)
	var args []any
	for range d.held {
		args = append(args, user, host)
	}
	held := map[string]bool{}
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read the privileges of %s@%s: %w", user, host, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("read the privileges of %s@%s: %w", user, host, err)
		}
		held[name] = true
	}
	return held, rows.Err()
}

// accounts are those that the primary has to have, the replication account first.
func (a *Agent) accounts(d dialect, s Standing, f Facts) ([]account, error) {
	all := []account{{s.Source.User, anyHost, passwords{s.Source.Password, s.Source.Previous}, replicationPrivileges}}
	due := func(p privilege) bool {
		return p.only == always || p.only == withoutGTIDs && !f.UsesGTID || p.only == withTool && a.cfg.WithTool
	}
	type made struct {
		login Login
		host  string
		may   []privilege
	}
	ours := []made{{a.logins.sidecar, inPod, d.sidecar}, {a.logins.clone, inPod, d.clone}}
	if a.cfg.BySocket {
		ours = append(ours, made{a.logins.clone, bySocket, d.clone})
	}
	for _, of := range ours {
		p, err := of.login.passwords()
		if err != nil {
			return nil, err
		}
		if p.current == "" {
			continue
		}
		may := slices.DeleteFunc(slices.Clone(of.may), func(p privilege) bool { return !due(p) })
		all = append(all, account{of.login.User, of.host, p, may})
	}
	return all, nil
}

// wrong says what is wrong with an account; empty: nothing.
func (a *Agent) wrong(ctx context.Context, d dialect, want account) (string, error) {
	has, err := readAccount(ctx, a.logins.db, d, want.user, want.host)
	switch {
	case err != nil:
		return "", err
	case has == nil:
		return want.name() + " is missing", nil
	case has.plugin != d.plugin || !want.are(has.hash, has.second, d.scheme, d.second):
		return want.name() + " differs from the secret", nil
	case has.bar != "":
		return want.name() + " " + has.bar, nil
	}
	held, err := readPrivileges(ctx, a.logins.db, d, want.user, want.host)
	if err != nil {
		return "", err
	}
	var lacks []string
	for _, p := range want.privileges {
		if !held[p.String()] {
			lacks = append(lacks, p.String())
		}
	}
	if lacks != nil {
		return want.name() + " lacks " + strings.Join(lacks, ", "), nil
	}
	return "", nil
}

// lookAtAccounts looks whether the accounts are right, on the primary.
func (a *Agent) lookAtAccounts(ctx context.Context, d dialect, s Standing, f Facts) (*AccountFacts, error) {
	all, err := a.accounts(d, s, f)
	if err != nil {
		return nil, err
	}
	var seen AccountFacts
	var wrong []string
	for i, want := range all {
		text, err := a.wrong(ctx, d, want)
		if err != nil {
			return nil, err
		}
		if text != "" {
			wrong = append(wrong, text)
		} else if i == 0 {
			seen.Right = true
		}
	}
	seen.Wrong = strings.Join(wrong, "; ")
	if wrong != nil {
		seen.Unmakeable = a.adminTrouble(ctx, seen.Wrong)
	}
	change, err := a.adminChange(ctx, d)
	seen.Rotated = change != nil
	return &seen, err
}

// adminChange makes the statements that a rotation of the administrator's password needs; nil when
// it needs none. An account that proves itself in another way, or has a password that is none of
// the two, is somebody else's business.
func (a *Agent) adminChange(ctx context.Context, d dialect) ([]statement, error) {
	if a.logins.admin.Previous == nil {
		return nil, nil
	}
	admin := a.logins.askAdministrator(ctx)
	if admin.err == nil {
		return a.changeOf(ctx, d, admin)
	}
	return nil, nil // nothing can be changed: who needs it says so
}

func (a *Agent) changeOf(ctx context.Context, d dialect, admin administrator) ([]statement, error) {
	want := admin.of
	at := strings.LastIndexByte(admin.login, '@')
	user, host := admin.login[:max(at, 0)], admin.login[at+1:]
	has, err := readAccount(ctx, a.logins.db, d, user, host)
	if err != nil || has == nil {
		return nil, err
	}
	i := slices.IndexFunc(d.schemes(), func(s scheme) bool { return s.plugin == has.plugin })
	if i < 0 || has.second == otherPassword || has.second == "" && want.previous == "" {
		return nil, nil
	}
	by := d.schemes()[i]
	known := by.isHash(has.hash, want.current) || want.previous != "" && by.isHash(has.hash, want.previous)
	if !known || want.are(has.hash, has.second, by, d.second) {
		return nil, nil
	}
	return d.passwordStatements(user, host, by, want), nil
}

// makeAccounts makes the accounts right. While commits wait for a replica, it is the replication
// account only, without which none can come, and that waits for nothing.
func (a *Agent) makeAccounts(ctx context.Context, d dialect, s Standing, f Facts) error {
	all, err := a.accounts(d, s, f)
	if err != nil {
		return err
	}
	blocked := s.blocked(f)
	if blocked {
		all = all[:1]
	}
	var failed []string
	for _, want := range all {
		if wrong, err := a.wrong(ctx, d, want); err != nil {
			return err
		} else if wrong == "" {
			continue
		}
		statements := d.admitted(d.accountStatements(want), f.ReadOnly)
		if blocked {
			statements = unlogged(statements)
		}
		if err := a.logins.asAdministrator(ctx, statements); err != nil {
			if text := whyNotMade(err); !slices.Contains(failed, text) {
				failed = append(failed, text)
			}
			if f.ReadOnly && d.admit != "" { // what admitted did is not undone
				err = exec(ctx, a.logins.adminDB, []statement{{text: d.fence}})
				a.log.Debug("fenced again", "error", err)
			}
		}
	}
	if failed == nil {
		return nil
	}
	a.notMade = notMade{wrong: f.accounts().Wrong, why: strings.Join(failed, "; "), at: time.Now()}
	return errors.New(a.notMade.why)
}

// notMade is why the accounts could not be made the last time.
type notMade struct {
	// wrong is what was wrong with them.
	wrong string
	why   string
	at    time.Time
}

// adminTrouble says why the administrator cannot make the accounts; empty: nothing is known that is
// in the way. What failed is tried again after loginRetry.
func (a *Agent) adminTrouble(ctx context.Context, wrong string) string {
	if admin := a.logins.askAdministrator(ctx); admin.err != nil {
		return admin.err.Error() + "; check --admin-user and --admin-password-file"
	}
	if last := a.notMade; last.why != "" && last.wrong == wrong && time.Since(last.at) < loginRetry {
		return last.why
	}
	return ""
}
