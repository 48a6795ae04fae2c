package replicate

import (
	"strings"
	"testing"

	"understudy/e2e/testserver"
)

// The administrator stands in for an account that lacks a privilege, or is not there; where nobody
// lets the administrator in, it is tried again by itself.
func TestStandIn(t *testing.T) {
	for name := range installations {
		t.Run(name, func(t *testing.T) {
			in := installed(t, name)
			p, r := newPair(t, in)
			p.boot(t)
			p.follow(t, nil)
			p.steps(t, MakeAccount, MarkAttached, OpenForWrites, Rest)
			p.isIn(t, sidecarUser, cloneUser)
			r.boot(t)
			r.follow(t, p)
			r.steps(t, Configure) // it has no accounts yet
			r.isIn(t, "root", "root")
			r.steps(t, Start, MarkAttached, Rest)
			r.arrives(t, "SELECT COUNT(*) FROM mysql.user WHERE User = '"+cloneUser+"'", "1")
			r.agent.logins.logInAnew(t.Context())
			r.steps(t, Rest)
			r.isIn(t, sidecarUser, cloneUser)

			monitor := map[string]string{testserver.MariaDB: "SLAVE MONITOR", testserver.MySQL: "REPLICATION CLIENT"}[in.Flavor]
			account := sidecarUser + "@'" + inPod + "'"
			r.alone(t, "REVOKE "+monitor+" ON *.* FROM "+account)
			r.agent.logins.logInAnew(t.Context())
			r.steps(t, Rest)
			r.isIn(t, "root", cloneUser)
			r.root = "unknown"
			r.agent.logins.logInAnew(t.Context())
			r.reports(t, "Access denied")
			r.alone(t, "GRANT "+monitor+" ON *.* TO "+account)
			r.steps(t, Rest)
			r.isIn(t, sidecarUser, cloneUser)
			if n := strings.Count(r.log.String(), "lacks a privilege"); n != 1 {
				t.Errorf("it was said %d times", n)
			}
		})
	}
}

// isIn checks as whom the agent and backups are in.
func (m *member) isIn(t *testing.T, agent, backups string) {
	t.Helper()
	m.agent.logins.mu.Lock()
	got := m.agent.logins.in.user
	m.agent.logins.mu.Unlock()
	if got != agent {
		t.Errorf("the agent is in as %s, not %s", got, agent)
	}
	if access, err := m.agent.BackupLogin(t.Context()); access.User != backups || err != nil {
		t.Errorf("backups are in as %s (%v), not %s", access.User, err, backups)
	}
}

// alone changes a replica's accounts, and nobody else's.
func (m *member) alone(t *testing.T, text string) {
	t.Helper()
	conn, err := m.server.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	d := m.dialect()
	for _, text := range []string{d.open, "SET SESSION sql_log_bin = 0", text, "SET SESSION sql_log_bin = 1", d.fence} {
		if _, err := conn.ExecContext(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}
