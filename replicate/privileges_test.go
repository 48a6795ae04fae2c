package replicate

import (
	"cmp"
	"database/sql"
	"os"
	"slices"
	"strings"
	"testing"

	"understudy/e2e/testserver"
)

// lone is a first ordinal as its image has made it, with an agent that has not looked yet.
func lone(t *testing.T, name string, mode SemiSync) *member {
	t.Helper()
	in := installed(t, name)
	m := newMember(t, in, 100, t.TempDir())
	if err := in.Initialise(t.Context(), m.data, rootPassword); err != nil {
		t.Fatal(err)
	}
	m.settings.SemiSync = mode
	m.boot(t)
	m.follow(t, nil)
	return m
}

// No account has a privilege for nothing: without it, a statement of ours is refused. And what they
// have is enough for all of them.
func TestPrivileges(t *testing.T) {
	for name := range installations {
		t.Run(name, func(t *testing.T) {
			m := lone(t, name, SemiSyncOff)
			d := m.dialect()
			m.run(t, d.open, "CREATE DATABASE d", "CREATE TABLE d.t (a INT) ENGINE = MyISAM")
			for user, may := range map[string][]privilege{sidecarUser: d.sidecar, cloneUser: d.clone, source.User: replicationPrivileges} {
				a := account{user, inPod, passwords{current: secret}, may}
				if err := m.agent.logins.asAdministrator(t.Context(), d.accountStatements(a)); err != nil {
					t.Fatal(err)
				}
				for i, p := range may {
					t.Run(user+" "+p.String(), func(t *testing.T) { m.isNeeded(t, d, a, may, i) })
				}
			}
		})
	}
}

func (m *member) isNeeded(t *testing.T, d dialect, a account, may []privilege, i int) {
	t.Helper()
	p := may[i]
	if wrong, err := m.agent.wrong(t.Context(), d, a); wrong != "" || err != nil {
		t.Fatalf("%q, %v: it is right", wrong, err)
	}
	on := p.on
	if on == "" {
		on = "*.*"
	}
	m.run(t, "REVOKE "+p.name+" ON "+on+" FROM "+a.user+"@'"+a.host+"'")
	if wrong, err := m.agent.wrong(t.Context(), d, a); wrong != a.name()+" lacks "+p.String() || err != nil {
		t.Errorf("%q, %v", wrong, err)
	}
	if p == seesTables {
		if n := m.tables(t, a.user); n != 0 {
			t.Errorf("it sees %d tables", n)
		}
	} else if p.needs == "" {
		if p.why == "" {
			t.Error("nobody knows what for")
		}
	} else if err := m.as(t, a.user, p.needs); !lacksPrivilege(err) {
		t.Errorf("%s: %v", p.needs, err)
	}
	if err := m.agent.logins.asAdministrator(t.Context(), d.accountStatements(a)); err != nil {
		t.Fatal(err)
	}
	if p == seesTables {
		if n := m.tables(t, a.user); n != 1 {
			t.Errorf("it sees %d tables", n)
		}
	}
	if p.needs != "" {
		if err := m.as(t, a.user, p.needs); err != nil {
			t.Errorf("%s: %v", p.needs, err)
		}
	}
}

// tables is how many of one an account sees in the schema d.
func (m *member) tables(t *testing.T, user string) int {
	t.Helper()
	db, err := m.server.Open(user, secret)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var n int
	if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'd' AND engine = 'MyISAM'").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// as executes a statement as an account.
func (m *member) as(t *testing.T, user string, statements ...string) error {
	t.Helper()
	db, err := m.server.Open(user, secret)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, text := range statements {
		if err := executed(t, db, text); err != nil {
			return err
		}
	}
	return nil
}

func executed(t *testing.T, db *sql.DB, text string) error {
	t.Helper()
	if !strings.HasPrefix(text, "SE") && !strings.HasPrefix(text, "SH") || strings.HasPrefix(text, "SET") {
		_, err := db.ExecContext(t.Context(), text)
		return err
	}
	_, err := readRows(t.Context(), db, text)
	return err
}

// The server has every statement's privileges that the sidecar's account has.
func TestPrivilegesSuffice(t *testing.T) {
	for name := range installations {
		t.Run(name, func(t *testing.T) {
			m := lone(t, name, SemiSyncPreferred)
			d := m.dialect()
			m.run(t, d.open)
			a := account{sidecarUser, inPod, passwords{current: secret}, d.sidecar}
			if err := m.agent.logins.asAdministrator(t.Context(), d.accountStatements(a)); err != nil {
				t.Fatal(err)
			}
			db, err := m.server.Open(sidecarUser, secret)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			statements := slices.Concat(
				[]statement{{text: d.fence}}, d.sourceStatements(SemiSyncRequired), d.acknowledgeStatements(false),
				d.configureStatements(source, *byFile), d.repointStatements(source), d.loginStatements(source),
				d.followStatements(source, 100, ""), d.detachStatements(100), renumberStatements(m.version(), *byFile, "0-100-5"),
				[]statement{{text: reloadTLS(m.version())}, {text: d.open}},
			)
			for _, st := range statements {
				if _, err := db.ExecContext(t.Context(), st.text, st.args...); lacksPrivilege(err) {
					t.Errorf("%s: %v", st.text, err)
				}
			}
			for _, text := range []string{d.queryServer, d.queryStatus, d.queryGTIDs, querySemiSyncStatus, queryBinlogs, "SHOW BINLOG EVENTS LIMIT 1"} {
				if strings.HasPrefix(text, "SHOW BINLOG") && m.in.Flavor == testserver.MySQL {
					continue // only MariaDB's are searched
				}
				if _, err := readRows(t.Context(), db, text); err != nil {
					t.Errorf("%s: %v", text, err)
				}
			}
		})
	}
}

// docs/security.md names what the accounts may do.
func TestPrivilegesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Accounts\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for name, v := range versions {
		d := dialectOf(v)
		for _, p := range slices.Concat(d.sidecar, d.clone) {
			if what := cmp.Or(p.on, p.name); !strings.Contains(section, what) {
				t.Errorf("%s: docs/security.md does not name %s", name, p)
			}
		}
	}
}
