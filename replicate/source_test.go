package replicate

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

func TestCompareWithSource(t *testing.T) {
	const a, b = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "8a94f357-aab4-11df-86ab-c80aa9429562"
	mysqlHas := func(executed string) possessions { return possessions{has: [2]string{"", executed}} }
	maria := func(slave, log string) possessions { return possessions{has: [2]string{slave, log}} }
	tests := []struct {
		name           string
		f              flavor.Flavor
		ours           possessions
		more           string
		source         possessions
		errant, purged string
	}{
		{"equal", flavor.MySQL, mysqlHas(a + ":1-5"), "", mysqlHas(a + ":1-5"), "", ""},
		{"behind", flavor.MySQL, mysqlHas(a + ":1-3"), "", mysqlHas(a + ":1-5"), "", ""},
		{"a source that is empty", flavor.MySQL, mysqlHas(a + ":1-3"), "", mysqlHas(""), a + ":1-3", ""},
		{"a write of our own", flavor.MySQL, mysqlHas(a + ":1-5," + b + ":1"), "", mysqlHas(a + ":1-9"), b + ":1", ""},
		{"what is about to be applied", flavor.MySQL, mysqlHas(a + ":1-5"), a + ":6", mysqlHas(a + ":1-5"), a + ":6", ""},
		{"what the source is about to commit", flavor.MySQL, mysqlHas(a + ":1-6"), "", possessions{has: [2]string{a + ":6", a + ":1-5"}}, "", ""},
		{"purged", flavor.MySQL, mysqlHas(a + ":1-3"), "", possessions{has: [2]string{"", a + ":1-9"}, purged: a + ":1-5"}, "", a + ":4-5"},
		{"purged, but received", flavor.MySQL, mysqlHas(a + ":1-3"), a + ":4-6", possessions{has: [2]string{"", a + ":1-9"}, purged: a + ":1-5"}, "", ""},
		{"purged long ago", flavor.MySQL, mysqlHas(a + ":1-5"), "", possessions{has: [2]string{"", a + ":1-9"}, purged: a + ":1-5"}, "", ""},

		{"equal", flavor.MariaDB, maria("0-100-5", "0-100-5"), "", maria("", "0-100-5"), "", ""},
		{"a copy that has logged nothing", flavor.MariaDB, maria("", ""), "0-100-5", maria("", "0-100-7"), "", ""},
		{"a copy of what the source has lost", flavor.MariaDB, maria("", ""), "0-100-9", maria("", "0-100-7"), "within 0-100-8..9", ""},
		{"a write of our own, now behind", flavor.MariaDB, maria("0-100-5", "0-100-5,0-101-6"), "", maria("", "0-100-9"), "within 0-101-1..6", ""},
		{"a write of our own elsewhere", flavor.MariaDB, maria("0-100-5", "0-100-5,1-101-1"), "", maria("", "0-100-9"), "1-101-1", ""},
		{"a server of long ago, which a source that was cloned has forgotten", flavor.MariaDB, maria("0-100-9", "0-7-3,0-100-9"), "", maria("0-100-9", ""), "", ""},
		{"a server's that cannot be there", flavor.MariaDB, maria("", "0-100-5,0-102-6"), "", maria("", "0-100-5"), "within 0-102-1..6", ""},
		{"a server that the source knows up to a lower number", flavor.MariaDB, maria("", "0-102-6,0-100-9"), "", maria("", "0-102-4,0-100-9"), "within 0-102-5..6", ""},
		{"histories that have parted", flavor.MariaDB, maria("", "0-102-1"), "", maria("", "0-100-1"), "0-102-1", ""},
	}
	for _, tt := range tests {
		t.Run(string(tt.f)+", "+tt.name, func(t *testing.T) {
			c, err := tt.source.compare(tt.ours, tt.more, tt.f, 101)
			if err != nil {
				t.Fatal(err)
			}
			if c.errant.String() != tt.errant || c.purged.String() != tt.purged {
				t.Errorf("errant %q, purged %q; want %q, %q", c.errant, c.purged, tt.errant, tt.purged)
			}
		})
	}
	for _, broken := range [][2]possessions{
		{mysqlHas("x"), mysqlHas("")}, {mysqlHas(""), mysqlHas("x")}, {mysqlHas(""), possessions{purged: "x"}},
	} {
		if _, err := broken[1].compare(broken[0], "", flavor.MySQL, 101); !errors.Is(err, gtid.ErrMalformed) {
			t.Errorf("%+v: %v", broken, err)
		}
	}
}

// What MySQL says of transactions that its threads are committing.
func TestGTIDOwner(t *testing.T) {
	const owned = "3e11fa47-71ca-11e1-9e33-c80aa9429562:6#48:tag:7#49"
	if got := gtidOwner.ReplaceAllString(owned, ""); got != "3e11fa47-71ca-11e1-9e33-c80aa9429562:6:tag:7" {
		t.Error(got)
	}
}

// A source that takes the connection and says nothing, as behind a broken network, costs a short
// wait.
func TestSilentSource(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	at, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal(l.Addr())
	}
	silent := Source{Host: "127.0.0.1", Port: at.Port, User: source.User, Password: secret}
	ctx, cancel := context.WithTimeout(t.Context(), sourceTimeout)
	defer cancel()
	start := time.Now()
	_, _, err = queryServer(ctx, silent, mariaDB)
	if took := time.Since(start); err == nil || took > 2*sourceTimeout || strings.Contains(err.Error(), secret) {
		t.Errorf("after %v: %v", took, err)
	}
}

// A source that cannot be reached, or entered, is not judged, and replication is started all the
// same: it waits for the source by itself. What the source said before still counts.
func TestSourceThatIsNotJudged(t *testing.T) {
	in := installed(t, "mariadb-10.11")
	p, r := newPair(t, in)
	r.recorded = attachedByGTID
	p.boot(t)
	r.boot(t)
	// In a domain of its own, so that the order of the source's does not matter.
	r.run(t, "SET GLOBAL gtid_domain_id = 7")
	db, err := r.server.Open("root", rootPassword)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE errant"); err != nil {
		t.Fatal(err)
	}
	r.follow(t, p) // where the replication account is missing
	r.steps(t, Repoint, Wait)
	if s := r.agent.Status(); s.Facts.Source != nil {
		t.Errorf("status %+v", s)
	}
	p.follow(t, nil)
	p.steps(t, MakeAccount, MarkAttached, OpenForWrites, Rest)
	// It was started without an answer, which is asked for as soon as there is one, and again.
	r.reports(t, "this member has: 7-101-1 (7-101-1: CREATE DATABASE …): bring to the source")
	if step, err := r.agent.turn(t.Context()); step != Reseed || err != nil {
		t.Errorf("the verdict is forgotten: %s, %v", step, err)
	}
	r.run(t, "STOP SLAVE")
	r.reports(t, "this member has: 7-101-1 (7-101-1: CREATE DATABASE …); ")
	if err := p.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.reports(t, "this member has: 7-101-1 (7-101-1: CREATE DATABASE …); ") // it has not got them meanwhile
	r.agent.memory.said = nil                                               // as after a restart of ours
	r.steps(t, Start, Wait)
}

// A transaction that waits for the acknowledgement of a semi-synchronous replica is with the
// replicas before the source counts it as executed. It is not errant there.
func TestSourceThatIsCommitting(t *testing.T) {
	p := mysqlPrimary(t, false)
	p.run(t, "ALTER USER "+source.User+"@'%' REQUIRE SSL", "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
		"SET GLOBAL rpl_semi_sync_source_timeout = 600000", "SET GLOBAL rpl_semi_sync_source_enabled = ON")
	before := p.ask(t, "SELECT @@GLOBAL.gtid_executed")
	ended := make(chan error, 1)
	go func() {
		_, err := p.server.DB().ExecContext(context.WithoutCancel(t.Context()), "INSERT INTO d.t VALUES (2)")
		ended <- err
	}()
	p.arrives(t, "SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_wait_sessions'", "1")
	has, err := readPossessions(t.Context(), p.server.DB(), p.dialect())
	if err != nil {
		t.Fatal(err)
	}
	if oneLine(has.has[1]) != oneLine(before) || has.has[0] == "" {
		t.Errorf("it owns %q, and has executed %q; before %q", has.has[0], has.has[1], before)
	}
	waiting := has.has[0]
	// The replication account sees the same, by the same TLS that its channel demands.
	cfg := p.server.Config()
	asked, _, err := queryServer(t.Context(), Source{Host: cfg.Addr, Port: cfg.Port, User: source.User, Password: p.password}, p.dialect())
	if err != nil || asked.has[0] == "" {
		t.Errorf("%+v, %v", asked, err)
	}
	p.run(t, "SET GLOBAL rpl_semi_sync_source_enabled = OFF")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	after := possessions{has: [2]string{"", p.ask(t, "SELECT @@GLOBAL.gtid_executed")}}
	c, err := has.compare(after, "", flavor.MySQL, 101)
	if err != nil || !c.errant.Empty() {
		t.Errorf("errant %q, %v; it was waiting for %q", c.errant, err, waiting)
	}
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "") }
