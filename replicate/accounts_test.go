package replicate

import (
	"strings"
	"testing"

	"understudy/e2e/testserver"
)

// expire has the passwords of all accounts of ours expire, as default_password_lifetime does in
// time.
func (m *member) expire(t *testing.T) {
	t.Helper()
	for _, account := range []string{source.User + "@'" + anyHost + "'", sidecarUser + "@'" + inPod + "'", cloneUser + "@'" + inPod + "'"} {
		m.run(t, "ALTER USER "+account+" PASSWORD EXPIRE")
	}
}

// Passwords of ours do not expire, whatever the server's rule. Where they have, the administrator
// mends that, the primary opens, and replicas go on by themselves.
func TestPasswordsDoNotExpire(t *testing.T) {
	for name := range installations {
		t.Run(name, func(t *testing.T) {
			in := installed(t, name)
			p, r := newPair(t, in)
			for _, m := range []*member{p, r} {
				m.extra = append(m.extra, "--default-password-lifetime=1")
				m.boot(t)
			}
			p.follow(t, nil)
			r.follow(t, p)
			p.steps(t, MakeAccount, MarkAttached, OpenForWrites, Rest)
			r.steps(t, Configure, Start, MarkAttached, Rest)
			p.run(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)")
			r.arrives(t, rows, "")

			// Accounts of before.
			for text, wrong := range map[string]string{
				"PASSWORD EXPIRE DEFAULT": barExpires, "PASSWORD EXPIRE INTERVAL 90 DAY": barExpires, "PASSWORD EXPIRE": barExpired, "ACCOUNT LOCK": barLocked,
			} {
				p.run(t, "ALTER USER "+sidecarUser+"@'"+inPod+"' "+text)
				p.steps(t, MakeAccount, Rest)
				if !strings.Contains(p.log.String(), sidecarUser+"@"+inPod+" "+wrong) {
					t.Errorf("after %s nobody said that the account %s:\n%s", text, wrong, &p.log)
				}
			}

			p.expire(t)
			p.reboot(t)
			r.reconnects(t)
			r.reaches(t, func(f Facts) bool { return f.Channel != nil && barred(f.Channel.IOErrno) })
			if _, err := r.agent.turn(t.Context()); err != nil {
				t.Error(err)
			}
			if s := r.agent.Status(); !s.Ready || !strings.Contains(s.Reason, "the source refuses") {
				t.Errorf("%+v", s)
			}
			p.steps(t, MakeAccount, OpenForWrites, Rest)
			p.isIn(t, sidecarUser, cloneUser)
			r.settle(t, Rest)
			p.run(t, "INSERT INTO d.t VALUES (1)")
			r.arrives(t, rows, "1")
			r.agent.logins.logInAnew(t.Context())
			r.steps(t, Rest)
			r.isIn(t, sidecarUser, cloneUser)
		})
	}
}

// A server that refuses to make the accounts does not keep a primary closed whose data are right.
// It says why, once, and goes on when it is let.
func TestAccountsCannotBeMade(t *testing.T) {
	for name := range installations {
		t.Run(name, func(t *testing.T) {
			m := lone(t, name, SemiSyncOff)
			d := m.dialect()
			m.run(t, d.open, "CREATE USER boss@'127.%' IDENTIFIED BY '"+rootPassword+"'", "GRANT ALL PRIVILEGES ON *.* TO boss@'127.%' WITH GRANT OPTION",
				"REVOKE CREATE USER, INSERT, UPDATE ON *.* FROM boss@'127.%'", "SET GLOBAL read_only = ON")
			if in := m.in; in.Flavor == testserver.MySQL {
				m.run(t, "SET GLOBAL super_read_only = ON")
			}
			m.agent.logins.admin.User = "boss"
			if taken := m.settle(t, Report); len(taken) != 2 || taken[0] != MarkAttached || taken[1] != OpenForWrites {
				t.Errorf("%q", taken)
			}
			s := m.agent.Status()
			if !s.Ready || !strings.Contains(s.Action.Reason, "the administrator needs CREATE USER") {
				t.Errorf("%+v", s)
			}
			for range 3 { // it is tried again, and nobody hears the same again
				m.agent.notMade.at = m.agent.notMade.at.Add(-loginRetry)
				m.settle(t, Report)
			}
			if text := m.log.String(); strings.Count(text, "manual action required") != 1 || strings.Count(text, "step failed") != 2 { // before it opened, and after
				t.Error(text)
			}
			m.run(t, "GRANT CREATE USER, INSERT, UPDATE ON *.* TO boss@'127.%'")
			m.agent.notMade.at = m.agent.notMade.at.Add(-loginRetry)
			m.steps(t, MakeAccount, Rest)
			m.isIn(t, sidecarUser, cloneUser)
		})
	}
}
