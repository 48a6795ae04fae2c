package replicate

import (
	"testing"
	"time"
)

// A rotation of the replication password reaches the members in any order, and nobody is locked
// out: the primary's account has both for as long as there are two.
func TestRotation(t *testing.T) {
	for name := range installations {
		t.Run(name, func(t *testing.T) {
			in := installed(t, name)
			p, r := newPair(t, in)
			p.boot(t)
			p.follow(t, nil)
			p.steps(t, MakeAccount, MarkAttached, OpenForWrites, Rest)
			p.run(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)")
			r.boot(t)
			r.follow(t, p)
			replicaFirst(t, p, r)
			primaryFirst(t, p, r)
			tookNeither(t, p, r)
		})
	}
}

// logins are the passwords with which the replication account gets in, and does not.
func (m *member) logins(t *testing.T, passwords map[string]bool) {
	t.Helper()
	for password, want := range passwords {
		db, err := m.server.Open(source.User, password)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.PingContext(t.Context()); (err == nil) != want {
			t.Errorf("login with %q: %v", password, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// reconnects makes the receiver log in again.
func (m *member) reconnects(t *testing.T) {
	t.Helper()
	m.run(t, m.dialect().stop, m.dialect().start)
}

func replicaFirst(t *testing.T, p, r *member) {
	t.Helper()
	d := r.dialect()
	// A fresh copy that knows a password that the primary has not heard of. It follows by the one
	// before, and its source is compared with it, too.
	r.password, r.previous = "two", secret
	r.steps(t, Configure, Start, MarkAttached, Rest)
	r.arrives(t, rows, "")
	r.run(t, d.stop, d.open, "CREATE DATABASE errant", d.fence)
	r.reports(t, "the source lacks transactions")
	r.run(t, d.open, "DROP DATABASE errant", d.reset)
	for _, m := range []*member{p, r} { // and the history begins again
		reset := []string{"RESET MASTER", "SET GLOBAL gtid_slave_pos = ''"}
		if d.second == retained {
			reset = []string{"RESET BINARY LOGS AND GTIDS"}
		}
		m.run(t, reset...)
	}
	r.steps(t, Fence, Repoint, Rest)

	p.password, p.previous = "two", secret
	p.steps(t, MakeAccount, Rest)
	p.logins(t, map[string]bool{secret: true, "two": true, "three": false})
	r.reconnects(t)
	r.steps(t, Rest)

	// The end of it; the server still has the old one.
	p.previous = ""
	p.steps(t, MakeAccount, Rest)
	p.logins(t, map[string]bool{secret: false, "two": true})
	r.reconnects(t)
	r.reaches(t, Facts.loginRefused)
	r.steps(t, Repoint, Rest)
	r.previous = ""
	r.steps(t, Rest)
	p.run(t, "INSERT INTO d.t VALUES (1)")
	r.arrives(t, rows, "1")
}

func primaryFirst(t *testing.T, p, r *member) {
	t.Helper()
	d := r.dialect()
	p.password, p.previous = "three", "two"
	p.steps(t, MakeAccount, Rest)
	r.reconnects(t)
	r.steps(t, Rest)
	r.run(t, d.stop, d.reset)
	r.steps(t, Repoint, Rest) // with the only one that it knows

	// It is taken back: the other way round, and forth again.
	p.password, p.previous = "two", "three"
	p.steps(t, MakeAccount, Rest)
	p.logins(t, map[string]bool{"three": true, "two": true})
	p.password, p.previous = "three", "two"
	p.steps(t, MakeAccount, Rest)

	// The rotation ends on the primary before it begins here.
	p.previous = ""
	p.steps(t, MakeAccount, Rest)
	r.reconnects(t)
	r.reaches(t, Facts.loginRefused)
	r.steps(t, Wait)
	r.password, r.previous = "three", "two"
	r.steps(t, Repoint, Rest)
	p.run(t, "INSERT INTO d.t VALUES (2)")
	r.arrives(t, rows, "1,2")

	// Somebody meddles with the second password.
	if d.second == retained {
		p.run(t, "ALTER USER "+source.User+"@'%' IDENTIFIED BY 'by hand' RETAIN CURRENT PASSWORD")
	} else {
		p.run(t, "ALTER USER "+source.User+"@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('three') OR mysql_native_password USING PASSWORD('by hand')")
	}
	p.steps(t, MakeAccount, Rest)
	p.logins(t, map[string]bool{"three": true, "two": false, "by hand": false})
}

// tookNeither is a replica that is two rotations ahead of its source, or behind it.
func tookNeither(t *testing.T, p, r *member) {
	t.Helper()
	r.password, r.previous = "five", "four"
	r.steps(t, Rest)
	r.run(t, r.dialect().stop, r.dialect().reset)
	r.settle(t, Wait)
	r.reaches(t, Facts.loginRefused)
	for range 20 {
		if step, err := r.agent.turn(t.Context()); step != Wait || err != nil {
			t.Fatalf("%s, %v: it does not wait", step, err)
		}
	}
	p.password, p.previous = "four", "three"
	p.steps(t, MakeAccount, Rest)
	r.steps(t, Repoint, Rest)
	p.password, p.previous = "five", "four"
	p.steps(t, MakeAccount, Rest)
	p.run(t, "INSERT INTO d.t VALUES (3)")
	r.arrives(t, rows, "1,2,3")
}

// The password of the sidecar's own account reaches the members in any order, too. Its account on
// the primary gets both, and the replicas get that by replication.
func TestAdminRotation(t *testing.T) {
	for name := range installations {
		t.Run(name, func(t *testing.T) {
			in := installed(t, name)
			p, r := newPair(t, in)
			p.own, p.clone, r.own, r.clone = "", "", "", "" // it is the only one
			p.boot(t)
			p.follow(t, nil)
			p.steps(t, MakeAccount, MarkAttached, OpenForWrites, Rest)
			r.boot(t)
			r.follow(t, p)
			r.steps(t, Configure, Start, MarkAttached, Rest)

			r.root, r.rootPrevious = "next", rootPassword // first, and the server is refused
			r.again()
			r.steps(t, Rest)
			r.takes(t, rootPassword)
			p.steps(t, Rest)
			p.root, p.rootPrevious = "next", rootPassword
			p.again()
			p.steps(t, ChangePassword, Rest)
			p.again()
			p.steps(t, Rest)
			p.takes(t, "next")
			for _, password := range []string{"next", rootPassword} {
				r.admits(t, password, true)
			}
			r.again()
			r.steps(t, Rest)
			r.takes(t, "next")

			// A member that has not heard of it yet, and then of the end of it.
			r.root, r.rootPrevious = rootPassword, ""
			r.again()
			r.steps(t, Rest)
			p.rootPrevious = ""
			p.steps(t, ChangePassword, Rest)
			r.admits(t, rootPassword, false)
			r.again()
			r.reports(t, "check --admin-user and --admin-password-file")
			r.root, r.rootPrevious = "next", rootPassword
			r.steps(t, Rest)
			r.takes(t, "next")

			// Somebody changes it by hand: that is theirs.
			p.rootPrevious = rootPassword
			p.steps(t, ChangePassword, Rest)
			p.run(t, "ALTER USER root@'%' IDENTIFIED BY 'by hand'")
			p.steps(t, Rest)
			p.admits(t, "by hand", true)
		})
	}
}

// again makes the agent log in again.
func (m *member) again() {
	m.agent.logins.db.SetMaxIdleConns(-1)
	m.agent.logins.db.SetMaxIdleConns(2)
}

// takes checks with which password backups would log in.
func (m *member) takes(t *testing.T, want string) {
	t.Helper()
	if access, err := m.agent.BackupLogin(t.Context()); access.User != "root" || access.Password != want || err != nil {
		t.Errorf("password of server %d: %s with %q, %v; want %q", m.settings.ServerID, access.User, access.Password, err, want)
	}
}

// admits waits until root gets in with a password, or does not.
func (m *member) admits(t *testing.T, password string, want bool) {
	t.Helper()
	deadline, ticker := time.After(time.Minute), time.NewTicker(50*time.Millisecond)
	defer ticker.Stop()
	for {
		db, err := m.server.Open("root", password)
		if err != nil {
			t.Fatal(err)
		}
		err = db.PingContext(t.Context())
		if closing := db.Close(); closing != nil {
			t.Error(closing)
		}
		if (err == nil) == want {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("root with %q: %v", password, err)
		case <-ticker.C:
		}
	}
}
