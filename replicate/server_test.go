package replicate

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/replicate/flavor"
)

// The rows of the table above Decide, provoked on real servers.
func TestRealServers(t *testing.T) {
	for name := range installations {
		t.Run(name, func(t *testing.T) {
			in := installed(t, name)
			p, r := newPair(t, in)
			p.recorded.Initialising, p.recorded.Image.Ended = true, true // by us, just now
			p.boot(t)
			p.follow(t, nil)
			testPrimary(t, p)
			r.boot(t)
			r.follow(t, p)
			testReplica(t, p, r)
			testTrouble(t, p, r)
			testErrant(t, p, r)
			testPurged(t, p, r)
		})
	}
}

func testPrimary(t *testing.T, p *member) {
	t.Helper()
	verifiedByName(t, p)
	p.steps(t, MarkComplete, MakeAccount)
	if _, err := p.agent.turn(t.Context()); err != nil || !p.agent.Status().Facts.Fenced {
		t.Errorf("before it opens: %+v, %v", p.agent.Status(), err)
	}
	p.steps(t, OpenForWrites, Rest)
	p.steps(t, Rest) // what it made is right in its own eyes
	p.run(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
	login := func(password string, want bool) {
		t.Helper()
		db, err := p.server.Open(source.User, password)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		if err := db.PingContext(t.Context()); (err == nil) != want {
			t.Errorf("login with %q: %v", password, err)
		}
	}
	login(secret, true)
	login(secret+"x", false)

	// Somebody changes the password, or the secret's changes.
	p.run(t, "ALTER USER "+source.User+"@'%' IDENTIFIED BY 'by hand'")
	p.steps(t, MakeAccount, Rest)
	login(secret, true)
	p.run(t, "REVOKE REPLICATION SLAVE ON *.* FROM "+source.User+"@'%'")
	p.steps(t, MakeAccount, Rest)
	p.password = "an0ther"
	p.steps(t, MakeAccount, Rest)
	login(secret, false)
	login("an0ther", true)

	// The server restarts alone: read-only, until the agent has looked.
	p.run(t, "FLUSH BINARY LOGS")
	p.reboot(t)
	p.steps(t, OpenForWrites, Rest)
	for _, word := range []string{secret, "an0ther", p.own, p.clone} {
		files, err := filepath.Glob(filepath.Join(p.data, "*bin.0*"))
		if err != nil || len(files) < 2 {
			t.Fatalf("binary logs %q, %v", files, err)
		}
		for _, name := range files {
			if text, err := os.ReadFile(name); err != nil || bytes.Contains(text, []byte(word)) {
				t.Errorf("%s holds the password (%v)", name, err)
			}
		}
	}
}

// verifiedByName checks that the server knows every option by the name under which it is verified:
// a name that is unknown would never be missed.
func verifiedByName(t *testing.T, m *member) {
	t.Helper()
	for _, o := range append(Options(m.settings), Defaults(m.settings.Flavor)...) {
		if o.Verify == "" && !o.Loose {
			continue
		}
		var name, value string
		err := m.server.DB().QueryRowContext(t.Context(), "SHOW GLOBAL VARIABLES WHERE Variable_name = ?", o.Name).Scan(&name, &value)
		if err != nil || o.Verify != "" && value != o.Verify {
			t.Errorf("%s is %q, want %q (%v)", o.Name, value, o.Verify, err)
		}
	}
	if days := m.ask(t, "SELECT @@GLOBAL.binlog_expire_logs_seconds"); days != "604800" {
		t.Errorf("binary logs expire after %s s", days)
	}
}

func testReplica(t *testing.T, p, r *member) {
	t.Helper()
	d := r.dialect()
	r.password = p.password
	r.steps(t, Configure, Start, MarkAttached, Rest)
	if !r.recorded.Configured || !r.recorded.Attached {
		t.Errorf("recorded %+v", r.recorded)
	}
	r.arrives(t, rows, "1")
	p.run(t, "INSERT INTO d.t VALUES (2)")
	r.arrives(t, rows, "1,2")
	r.steps(t, Rest)
	logins := p.connections(t)
	for range 3 { // where nothing changes, nobody asks the source
		r.steps(t, Rest)
	}
	if now := p.connections(t); now != logins {
		t.Errorf("the source had %s connections, and now %s", logins, now)
	}
	f := r.agent.Status().Facts
	if c := f.Channel; f.ServerID != 101 || !f.Fenced || !f.UsesGTID || !c.UsingGTID || c.Received == "" || c.Lag == nil || strings.Contains(f.GTID+c.Received, "\n") {
		t.Errorf("facts %+v, channel %+v", f, f.Channel)
	}
	if (f.ServerUUID != "") != (r.settings.Flavor == flavor.MySQL) {
		t.Errorf("server_uuid %q", f.ServerUUID)
	}

	// Writable where it must not be.
	r.run(t, d.open)
	r.steps(t, Fence, Rest)
	if d.admit != "" {
		r.run(t, d.admit)
		r.steps(t, Fence, Rest)
	}
	// Threads that somebody stopped, a channel that somebody removed or turned elsewhere.
	r.run(t, d.stop)
	r.steps(t, Start, Rest)
	r.run(t, d.stop, d.reset)
	r.steps(t, Repoint, Rest)
	r.run(t, d.stop, d.changeTo("%_HOST = '127.0.0.9'").text)
	r.steps(t, Repoint, Rest)
	// A channel of a version that did not ask for heartbeats.
	r.run(t, d.stop, d.changeTo("%_HEARTBEAT_PERIOD = 30").text, d.start)
	r.steps(t, Repoint, Rest)
	if c := r.agent.Status().Facts.Channel; c.HeartbeatPeriod != heartbeat*time.Second || c.Heartbeats < 0 {
		t.Errorf("channel %+v", c)
	}
	p.run(t, "INSERT INTO d.t VALUES (3)")
	r.arrives(t, rows, "1,2,3")

	// A channel with a name is somebody else's.
	named, forget := "CHANGE MASTER 'east' TO MASTER_HOST = '127.0.0.9'", "RESET SLAVE 'east' ALL"
	if r.settings.Flavor == flavor.MySQL {
		named, forget = "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.9' FOR CHANNEL 'east'", "RESET REPLICA ALL FOR CHANNEL 'east'"
	}
	r.run(t, named)
	r.reports(t, "channels that understudy did not make: east")
	r.run(t, forget)
	r.steps(t, Rest)

	// The password changes at the source, and the replica has to log in again: not before it has
	// applied what it received.
	unlock := r.holdsBack(t)
	p.run(t, "DELETE FROM d.t WHERE a = 3", "INSERT INTO d.t VALUES (3)")
	r.reaches(t, func(f Facts) bool { return f.Channel.Pending })
	p.password = "a third"
	p.steps(t, MakeAccount, Rest)
	r.run(t, d.stop+" IO_THREAD", d.start+" IO_THREAD")
	r.reaches(t, func(f Facts) bool { return f.Channel.IOErrno == errAccessDenied })
	r.password = p.password
	r.steps(t, Wait)
	if reason := r.agent.Status().Action.Reason; !strings.Contains(reason, "once the applier has applied") {
		t.Errorf("it waits: %s", reason)
	}
	unlock()
	r.steps(t, Repoint, Rest)

	// Both servers restart: the source has forgotten who logged in to it before.
	p.reboot(t)
	p.steps(t, OpenForWrites, Rest)
	r.reboot(t)
	r.steps(t, Start, Rest)
	p.run(t, "INSERT INTO d.t VALUES (4)")
	r.arrives(t, rows, "1,2,3,4")
}

// holdsBack keeps the applier from applying anything to the table, until it is unlocked.
func (m *member) holdsBack(t *testing.T) (unlock func()) {
	t.Helper()
	conn, err := m.server.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "LOCK TABLES d.t READ"); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if _, err := conn.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
			t.Error(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// testTrouble provokes what manual action required at.
func testTrouble(t *testing.T, p, r *member) {
	t.Helper()
	d := r.dialect()
	unfenced := func(text string) {
		t.Helper()
		conn, err := r.server.DB().Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		for _, text := range []string{d.open, "SET SESSION sql_log_bin = 0", text, "SET SESSION sql_log_bin = 1", d.fence} {
			if _, err := conn.ExecContext(t.Context(), text); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
	}
	// Rows that differ: 1062, 1032.
	unfenced("INSERT INTO d.t VALUES (5)")
	p.run(t, "INSERT INTO d.t VALUES (5)")
	r.reports(t, "error 1062: ")
	r.reports(t, "no event is skipped")
	if said := r.agent.Status().Facts.Source; said == nil || said.Errant != "" || !said.OnlyOurs {
		t.Errorf("of what would be lost with the data it says %+v", said)
	}
	unfenced("DELETE FROM d.t WHERE a = 5")
	r.run(t, d.start)
	r.steps(t, Rest)
	r.arrives(t, "SELECT COUNT(*) FROM d.t WHERE a = 5", "1")
	unfenced("DELETE FROM d.t WHERE a = 5")
	p.run(t, "DELETE FROM d.t WHERE a = 5")
	r.reports(t, "error 1032: ")
	unfenced("INSERT INTO d.t VALUES (5)")
	r.run(t, d.start)
	r.steps(t, Rest)
	r.arrives(t, "SELECT COUNT(*) FROM d.t WHERE a = 5", "0") // with the source's server_id it would be skipped

	// The same server_id as the source's.
	r.run(t, d.stop, "SET GLOBAL server_id = 100", d.start)
	r.reports(t, "see --server-id-base")
	r.run(t, d.stop, "SET GLOBAL server_id = 101", d.start)
	r.steps(t, Rest)

	// The same server_uuid.
	if r.settings.Flavor == flavor.MySQL {
		sameUUID(t, p, r)
	}

	// Options that did not take.
	r.run(t, "SET GLOBAL sync_binlog = 0")
	r.reports(t, `sync_binlog is "0", not "1"`)
	r.run(t, "SET GLOBAL sync_binlog = 1")
	r.steps(t, Rest)
}

// testErrant writes on the replica what its source does not have.
func testErrant(t *testing.T, p, r *member) {
	t.Helper()
	d := r.dialect()
	p.run(t, "CREATE TABLE d.errant (a INT)") // so that there is something before
	r.arrives(t, "SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'errant'", "1")
	r.run(t, d.stop, d.open, "INSERT INTO d.errant VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO d.errant VALUES (2)", d.fence)
	// MySQL counts each server's transactions, MariaDB the domain's.
	uuid := r.agent.Status().Facts.ServerUUID
	errant := []string{uuid + ":1", uuid + ":2"}
	exact, prefix := uuid+":1-2", ""
	if r.settings.Flavor == flavor.MariaDB {
		last := r.ask(t, "SELECT SUBSTRING_INDEX(@@gtid_binlog_pos, '-', -1)")
		n, err := strconv.Atoi(last)
		if err != nil {
			t.Fatal(err)
		}
		errant = []string{strconv.Itoa(n - 1), last}
		exact, prefix = fmt.Sprintf("0-101-%d..%d", n-1, n), "0-101-"
	}
	deeds := fmt.Sprintf(" (%s%s changed rows; %s%s changed rows); ", prefix, errant[0], prefix, errant[1])
	r.reports(t, "the source lacks transactions that this member has: "+exact+deeds)
	if step, err := r.agent.turn(t.Context()); step != Reseed || err != nil || !r.agent.Status().Facts.Source.OnlyOurs {
		t.Errorf("and again: %s, %v", step, err)
	}
	if c := r.agent.Status().Facts.Channel; c.IO != "No" || c.SQLRunning {
		t.Errorf("it replicates: %+v", c)
	}
	// No other way leads past that.
	r.run(t, d.reset)
	r.reports(t, exact)
	if c := r.agent.Status().Facts.Channel; c != nil {
		t.Errorf("it has a channel: %+v", c)
	}

	if r.settings.Flavor == flavor.MariaDB { // which has the list from its binary logs
		purge(t, r)
		r.agent.memory.search = search{} // as after a restart
		r.reports(t, ": at least 0-101-"+errant[1]+" (0-101-"+errant[1]+" changed rows); ")
	}

	// Somebody brings them to the source, by the same GTIDs.
	conn, err := p.server.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for i, id := range errant {
		insert := fmt.Sprintf("INSERT INTO d.errant VALUES (%d)", i+1)
		statements := []string{"SET gtid_next = '" + id + "'", insert, "SET gtid_next = AUTOMATIC"}
		if r.settings.Flavor == flavor.MariaDB {
			statements = []string{"SET SESSION server_id = 101", "SET SESSION gtid_seq_no = " + id, insert}
		}
		for _, text := range statements {
			if _, err := conn.ExecContext(t.Context(), text); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
	}
	r.steps(t, Repoint, Rest)
	p.run(t, "INSERT INTO d.errant VALUES (3)")
	r.arrives(t, "SELECT COUNT(*) FROM d.errant", "3")
}

// testPurged purges at the source what the replica needs next. Nothing heals that.
func testPurged(t *testing.T, p, r *member) {
	t.Helper()
	d := r.dialect()
	r.run(t, d.stop)
	p.run(t, "INSERT INTO d.t VALUES (6)", "FLUSH BINARY LOGS", "INSERT INTO d.t VALUES (7)")
	purge(t, p)
	if r.settings.Flavor == flavor.MariaDB {
		// The replication account may not read what is purged: the server finds out.
		r.settle(t, Start)
		r.reports(t, "reseed this member")
		if ready := r.agent.Status().Ready; !ready {
			t.Error("a replica whose applier runs is not ready")
		}
		return
	}
	lacks := r.ask(t, "SELECT GTID_SUBTRACT('"+p.ask(t, "SELECT @@GLOBAL.gtid_purged")+"', @@GLOBAL.gtid_executed)")
	if !strings.HasPrefix(lacks, p.agent.Status().Facts.ServerUUID) {
		t.Fatalf("it lacks %q", lacks)
	}
	r.reports(t, "the source has purged transactions that this member lacks: "+lacks+"; ")
	if s := r.agent.Status(); s.Ready || s.Facts.Channel.IO != "No" || s.Facts.Channel.SQLRunning {
		t.Errorf("it is ready, or runs: %+v, %+v", s, s.Facts.Channel)
	}
}

// purge removes all binary logs but the last. A server keeps, and only warns of, those that it
// still sends to a replica, for a while even after that has gone.
func purge(t *testing.T, m *member) {
	t.Helper()
	deadline, ticker := time.After(time.Minute), time.NewTicker(50*time.Millisecond)
	defer ticker.Stop()
	for {
		all, err := readRows(t.Context(), m.server.DB(), "SHOW BINARY LOGS")
		if err != nil || len(all) == 0 {
			t.Fatal(all, err)
		}
		if len(all) == 1 {
			return
		}
		m.run(t, "PURGE BINARY LOGS TO '"+all[len(all)-1].text("Log_name")+"'")
		select {
		case <-deadline:
			t.Fatalf("binary logs are still there: %v", all)
		case <-ticker.C:
		}
	}
}

func sameUUID(t *testing.T, p, r *member) {
	t.Helper()
	own := filepath.Join(r.data, "auto.cnf")
	before, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	set := func(text []byte) {
		t.Helper()
		if err := r.server.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(own, text, 0o600); err != nil {
			t.Fatal(err)
		}
		r.boot(t)
	}
	theirs, err := os.ReadFile(filepath.Join(p.data, "auto.cnf"))
	if err != nil {
		t.Fatal(err)
	}
	set(theirs)
	r.reports(t, "remove auto.cnf")
	set(before)
	r.steps(t, Start, Rest)
}
