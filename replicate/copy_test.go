package replicate

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"understudy/e2e/testserver"
	"understudy/replicate/origin"
)

// copyOf makes the directory of a new member as CLONE LOCAL DATA DIRECTORY leaves it.
func (m *member) copyOf(t *testing.T, id uint32, o origin.Origin) *member {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	m.run(t, fmt.Sprintf("CLONE LOCAL DATA DIRECTORY = '%s'", dir))
	c := newMember(t, m.in, id, dir)
	c.keepGTIDMode(m.settings.KeepGTIDMode)
	c.password, c.recorded.Origin = m.password, &o
	return c
}

// keepGTIDMode leaves gtid_mode to the operator's files, which turn it off: MySQL 9.7 has it on
// where nobody says anything.
func (m *member) keepGTIDMode(keep bool) {
	if m.settings.KeepGTIDMode = keep; keep {
		m.extra = append(m.extra, "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")
	}
}

// mysqlPrimary is a primary that has rows, and can be cloned.
func mysqlPrimary(t *testing.T, keepGTIDMode bool) *member {
	t.Helper()
	in := installed(t, "mysql-9.7")
	dir := filepath.Join(t.TempDir(), "primary")
	if err := in.Initialise(t.Context(), dir, rootPassword); err != nil {
		t.Fatal(err)
	}
	p := newMember(t, in, 100, dir)
	p.keepGTIDMode(keepGTIDMode)
	p.boot(t)
	p.follow(t, nil)
	p.steps(t, MakeAccount, MarkAttached, OpenForWrites, Rest)
	if uses := p.agent.Status().Facts.UsesGTID; uses == keepGTIDMode {
		t.Errorf("the primary uses GTIDs: %v", uses)
	}
	p.run(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
	return p
}

// join starts a copy, and waits until it is a replica that has all the rows.
func (m *member) join(t *testing.T, primary *member, want string) {
	t.Helper()
	m.boot(t)
	m.follow(t, primary)
	m.steps(t, Configure, Start, MarkAttached, Rest)
	m.arrives(t, rows, want)
	m.steps(t, Rest)
	if held := m.ask(t, "SELECT User_password FROM mysql.slave_master_info"); held != m.password {
		t.Error("the server holds another password than the replication account's")
	}
}

// A copy of a replica brings its donor's channel with it: here it follows the wrong host with a
// password of yesterday.
func TestCopiesByGTID(t *testing.T) {
	p := mysqlPrimary(t, false)
	first := p.copyOf(t, 101, origin.Origin{Mode: origin.GTID, Of: origin.Donor, GTID: p.agent.Status().Facts.GTID})
	p.run(t, "INSERT INTO d.t VALUES (2)")
	first.join(t, p, "1,2")
	if f := first.agent.Status().Facts; !f.Channel.UsingGTID {
		t.Errorf("channel %+v", f.Channel)
	}

	second := first.copyOf(t, 102, origin.Origin{Mode: origin.GTID, Of: origin.Source, GTID: first.agent.Status().Facts.GTID})
	p.password = "of today"
	p.steps(t, MakeAccount, Rest)
	second.password = p.password
	p.run(t, "INSERT INTO d.t VALUES (3)")
	second.join(t, p, "1,2,3")
	second.arrives(t, "SELECT @@GLOBAL.gtid_executed", p.ask(t, "SELECT @@GLOBAL.gtid_executed"))
}

// XtraBackup leaves a copy that does not know what it has executed.
func TestCopyWithoutItsGTIDs(t *testing.T) {
	p := mysqlPrimary(t, false)
	p.steps(t, Rest)
	c := p.copyOf(t, 101, origin.Origin{Mode: origin.GTID, Of: origin.Donor, GTID: p.agent.Status().Facts.GTID})
	p.run(t, "INSERT INTO d.t VALUES (2)")
	c.boot(t)
	c.run(t, "RESET BINARY LOGS AND GTIDS")
	c.reboot(t)
	c.follow(t, p)
	c.steps(t, Configure, Start, MarkAttached, Rest)
	c.arrives(t, rows, "1,2")
	c.arrives(t, "SELECT @@GLOBAL.gtid_executed", p.ask(t, "SELECT @@GLOBAL.gtid_executed")) // a row shows a moment earlier
}

// Without GTIDs the coordinate of a copy of the primary is known once it has booted. A copy of a
// replica begins where the replica's applier stood, which the donor has stopped.
func TestCopiesByPosition(t *testing.T) {
	p := mysqlPrimary(t, true)
	first := p.copyOf(t, 101, origin.Origin{Mode: origin.FirstBoot, Of: origin.Donor})
	p.run(t, "INSERT INTO d.t VALUES (2)")
	first.join(t, p, "1,2")
	if f := first.agent.Status().Facts; f.Channel.UsingGTID || f.UsesGTID {
		t.Errorf("facts %+v, channel %+v", f, f.Channel)
	}

	first.run(t, "STOP REPLICA SQL_THREAD")
	position, err := strconv.ParseUint(first.ask(t, "SELECT Master_log_pos FROM mysql.slave_relay_log_info"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	second := first.copyOf(t, 102, origin.Origin{
		Mode: origin.Position, Of: origin.Source, File: first.ask(t, "SELECT Master_log_name FROM mysql.slave_relay_log_info"), Position: position,
	})
	p.run(t, "INSERT INTO d.t VALUES (3)", "FLUSH BINARY LOGS", "INSERT INTO d.t VALUES (4)")
	first.steps(t, Start, Rest)
	first.arrives(t, rows, "1,2,3,4")
	second.join(t, p, "1,2,3,4")

	// Its place is where it is now, no longer the copy's. Another host would void it.
	p.password = "of today"
	p.steps(t, MakeAccount, Rest)
	second.run(t, "STOP REPLICA", "START REPLICA")
	second.reaches(t, func(f Facts) bool { return f.Channel.IOErrno == errAccessDenied })
	second.password = p.password
	p.run(t, "INSERT INTO d.t VALUES (5)")
	second.steps(t, Repoint, Rest)
	second.arrives(t, rows, "1,2,3,4,5")
	second.reboot(t)
	second.steps(t, Start, Rest)
	second.run(t, "STOP REPLICA", "RESET REPLICA ALL")
	second.reports(t, "its file and position went with it")
}

// A server without the plugin cannot say where the copy ends.
func TestCopyWithoutPlugin(t *testing.T) {
	p := mysqlPrimary(t, true)
	c := p.copyOf(t, 101, origin.Origin{Mode: origin.FirstBoot, Of: origin.Donor})
	with := c.extra
	c.extra = append(slices.Clone(with), "--clone=OFF")
	c.boot(t)
	c.follow(t, p)
	c.reports(t, "is the clone plugin loaded?")
	if status := c.ask(t, "SELECT COUNT(*) FROM performance_schema.replication_connection_configuration"); status != "0" {
		t.Error("it has a channel all the same")
	}
	c.extra = with
	c.reboot(t)
	c.steps(t, Configure, Start, MarkAttached, Rest)

	// A fresh copy on a server that did not read its configuration is left alone.
	c.recorded.Attached, c.recorded.Configured = false, false
	c.run(t, "SET GLOBAL sync_binlog = 0")
	c.reports(t, `sync_binlog is "0"`)
}

// Nobody else's words are sent to a server of another flavour.
func TestOtherFlavour(t *testing.T) {
	in := installed(t, "mariadb-10.11")
	dir := filepath.Join(t.TempDir(), "data")
	if err := in.Initialise(t.Context(), dir, rootPassword); err != nil {
		t.Fatal(err)
	}
	m := newMember(t, in, 100, dir)
	m.boot(t)
	m.settings.Flavor = testserver.MySQL
	m.follow(t, nil)
	m.reports(t, "not mysql as --flavor says")
	if strings.Contains(m.log.String(), "step") {
		t.Error(m.log.String())
	}
}
