package clone

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/e2e/testserver"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// mysqlDonor is a donor of a real MySQL server, as a sidecar without tools would be.
type mysqlDonor struct {
	*Donor
	in     testserver.Installation
	server *testserver.Server
	addr   string // of its clones
	dir    string // of its snapshots
}

const mysqlPassword = "secret"

func newMySQLDonor(t *testing.T) *mysqlDonor {
	t.Helper()
	in, err := testserver.MySQL97(t.Context(), "")
	if err != nil {
		t.Skip(err)
	}
	m := &mysqlDonor{in: in}
	v := openVolume(t)
	if err := in.Initialise(t.Context(), v.Live(), mysqlPassword); err != nil {
		t.Fatal(err)
	}
	m.server = m.start(t, v.Live())
	if m.dir, err = v.Snapshots(); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	m.Donor = newDonor(t, engine.MariaDBBackup{})
	m.Volume, m.Log = v, log
	m.Engines = []DonorEngine{engine.XtraBackup{Program: "/nonexistent/xtrabackup", Log: log}, &engine.MySQLClone{Dir: m.dir, Log: log}}
	m.Account = func(context.Context) (engine.Account, error) {
		c := m.server.Config()
		return engine.Account{Host: c.Addr, Port: c.Port, User: "root", Password: mysqlPassword}, nil
	}
	m.Describe = func() wire.Member { return wire.Member{Name: "db-0"} }
	m.Serving = func() (wire.Header, error) {
		return wire.Header{ServerVersion: in.Version, Role: wire.Primary, Origin: origin.GTID}, nil
	}
	s := wire.NewServer(m, wire.ServerConfig{Slots: 2, Stall: soon, Log: log})
	m.addr = serveHTTP(t, s.Handler())
	t.Cleanup(func() { s.Drain(t.Context()) })
	return m
}

func (m *mysqlDonor) start(t *testing.T, dir string) *testserver.Server {
	t.Helper()
	s, err := m.in.Start(t.Context(), testserver.Config{
		DataDir: dir, RootPassword: mysqlPassword, Extra: []string{"--plugin-load-add=mysql_clone.so", "--log-bin=binlog", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

func (m *mysqlDonor) execute(t *testing.T, statements ...string) {
	t.Helper()
	for _, text := range statements {
		if _, err := m.server.DB().ExecContext(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

// askAs opens a stream for a joiner that knows an engine's direct way.
func askAs(t *testing.T, addr, member, known string) *wire.Stream {
	t.Helper()
	config := clientConfig(addr)
	config.Member, config.Engines = member, []string{known}
	c := wire.NewClient(config)
	t.Cleanup(c.Close)
	s, err := c.Clone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// surveyAnew forgets what was seen of the data.
func (m *mysqlDonor) surveyAnew() { m.survey.until = time.Time{} }

func newMySQLJoiner(v *volume.Volume, addr string) *Joiner {
	j := newJoiner(v, addr)
	j.Engines, j.Flavor = Engines{&engine.MySQLClone{Log: j.Log}}, flavor.MySQL
	return j
}

// Nothing but this program: the donor's server hands over its data, and a server starts on
// what the joiner has published.
func TestMySQLDonorToJoiner(t *testing.T) {
	m := newMySQLDonor(t)
	m.execute(t, "CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)", "INSERT INTO shop.orders VALUES (1), (2), (3)")
	if member := said(t, m.Donor); member.Offer == nil || member.Offer.Engine != engine.MySQLCloneName {
		t.Fatalf("member %+v", member)
	}
	v := openVolume(t)
	if err := newMySQLJoiner(v, m.addr).Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	journal := wantPublished(t, v)
	var executed string
	if err := m.server.DB().QueryRowContext(t.Context(), "SELECT @@GLOBAL.gtid_executed").Scan(&executed); err != nil {
		t.Fatal(err)
	}
	if o := journal.Origin; journal.Engine != engine.MySQLDirectName || o.Mode != origin.GTID || o.Of != origin.Donor || o.GTID != executed {
		t.Errorf("journal %+v, origin %+v, executed %s", journal, journal.Origin, executed)
	}
	copied := m.start(t, v.Live())
	var sum int
	if err := copied.DB().QueryRowContext(t.Context(), "SELECT SUM(id) FROM shop.orders").Scan(&sum); err != nil || sum != 6 {
		t.Errorf("the rows add up to %d, %v", sum, err)
	}
	if entries, err := os.ReadDir(m.dir); err != nil || len(entries) > 0 {
		t.Errorf("snapshots %v, %v", entries, err)
	}
}

// A joiner that does not know the direct way, as one of an earlier version, gets a snapshot.
func TestMySQLDonorToEarlierJoiner(t *testing.T) {
	m := newMySQLDonor(t)
	m.execute(t, "CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)", "INSERT INTO shop.orders VALUES (1), (2), (3)")
	s := ask(t, m.addr)
	if s.Header.Engine != engine.MySQLCloneName {
		t.Fatalf("engine %s", s.Header.Engine)
	}
	dir := t.TempDir()
	e := &engine.MySQLClone{Log: m.Log}
	if _, err := (Incoming{s, e, flavor.MySQL, nil}).Receive(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := (Incoming{s, e, flavor.MySQL, nil}).Prepare(t.Context(), dir, 0); err != nil {
		t.Fatal(err)
	}
	copied := m.start(t, dir)
	var sum int
	if err := copied.DB().QueryRowContext(t.Context(), "SELECT SUM(id) FROM shop.orders").Scan(&sum); err != nil || sum != 6 {
		t.Errorf("the rows add up to %d, %v", sum, err)
	}
}

// The stream as a file says where replication begins, too.
func TestMySQLCloneIsSaved(t *testing.T) {
	m := newMySQLDonor(t)
	o, err := Incoming{ask(t, m.addr), &engine.MySQLClone{}, flavor.MySQL, nil}.Save(t.Context(), io.Discard)
	if err != nil || o.Mode != origin.GTID || o.Of != origin.Donor {
		t.Errorf("origin %v, %v", o, err)
	}
}

// A joiner that takes nothing holds off no DDL for long.
func TestMySQLDonorLetsDDLPass(t *testing.T) {
	m := newMySQLDonor(t)
	m.execute(t, "CREATE DATABASE shop", "CREATE TABLE shop.pictures (id INT PRIMARY KEY AUTO_INCREMENT, picture LONGBLOB)")
	for range 24 {
		m.execute(t, "INSERT INTO shop.pictures (picture) VALUES (REPEAT('x', 8 << 20))")
	}
	s := askAs(t, m.addr, "db-1", engine.MySQLDirectName)
	if s.Header.Engine != engine.MySQLDirectName {
		t.Fatalf("engine %s", s.Header.Engine)
	}
	if _, err := io.CopyN(io.Discard, s, 8<<20); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // all that is between the server and us has filled
	const limit = 15 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	begun := time.Now()
	if _, err := m.server.DB().ExecContext(ctx, "RENAME TABLE shop.pictures TO shop.photos"); err != nil {
		t.Fatalf("after %v: %v", time.Since(begun), err)
	}
	t.Logf("the statement took %v", time.Since(begun))
	if n, err := io.Copy(io.Discard, s); err != nil {
		t.Errorf("after %d bytes: %v", n, err)
	}
}

// A member that cannot be copied now says so; one that never can is refused.
func TestMySQLDonorRefuses(t *testing.T) {
	m := newMySQLDonor(t)
	m.execute(t, "CREATE DATABASE shop", "CREATE TABLE shop.pictures (picture LONGBLOB)")
	for range 12 {
		m.execute(t, "INSERT INTO shop.pictures VALUES (REPEAT('x', 8 << 20))")
	}
	client := wire.NewClient(clientConfig(m.addr))
	defer client.Close()

	for _, known := range []string{"", engine.MySQLDirectName} {
		t.Run("busy "+known, func(t *testing.T) {
			first := askAs(t, m.addr, "db-1", known) // nobody reads it
			config := clientConfig(m.addr)
			config.Member, config.Engines = "db-2", []string{known}
			second := wire.NewClient(config)
			defer second.Close()
			s, err := second.Clone(t.Context())
			if err == nil {
				_ = s.Close()
			}
			refused, ok := errors.AsType[*wire.RefusedError](err)
			if !errors.Is(err, wire.ErrBusy) || !ok || refused.RetryAfter <= 0 || !strings.Contains(err.Error(), engine.ErrBusy.Error()) {
				t.Errorf("error %v", err)
			}
			if member := said(t, m.Donor); member.Offer == nil || member.Unable {
				t.Errorf("member %+v", member)
			}
			_ = first.Close()
		})
	}

	t.Run("no room", func(t *testing.T) {
		m.surveyAnew()
		m.Engines = []DonorEngine{&engine.MySQLClone{Dir: m.dir, MinFree: math.MaxInt64 / 2, Log: m.Log}}
		m.survey.chosen = nil
		if member := said(t, m.Donor); member.Offer == nil {
			t.Errorf("a joiner that needs no snapshot gets no offer: %+v", member)
		}
		if _, err := client.Clone(t.Context()); !errors.Is(err, wire.ErrNotServing) || !strings.Contains(err.Error(), "MiB free") {
			t.Errorf("error %v", err)
		}
	})

	t.Run("another engine's tables", func(t *testing.T) {
		m.Engines = []DonorEngine{&engine.MySQLClone{Dir: m.dir, Log: m.Log}}
		m.survey.chosen = nil
		m.execute(t, "CREATE TABLE shop.old (id INT) ENGINE=MyISAM")
		m.surveyAnew()
		v := openVolume(t)
		err := newMySQLJoiner(v, m.addr).Join(t.Context())
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "the table shop.old is of the engine MyISAM") {
			t.Errorf("error %v", err)
		}
		wantNothing(t, v, "lock")
	})
}
