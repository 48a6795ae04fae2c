package replicate

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/flavor"
	"understudy/replicate/lead"
)

// hand is what a new process of the member's sidecar does at the server.
func (m *member) hand(t *testing.T) *Hand {
	t.Helper()
	cfg := m.server.Config()
	h := NewHand(Config{
		Flavor: m.settings.Flavor, Server: net.JoinHostPort(cfg.Addr, strconv.Itoa(cfg.Port)), ServerID: m.settings.ServerID, Data: "its data", Process: NewProcess(),
		Admin: login("root", &m.root, &m.rootPrevious), Sidecar: login(sidecarUser, &m.own, &m.ownPrevious), Source: Source{Port: cfg.Port, User: source.User},
		ReplicationPassword: func() (string, error) { return m.password, nil }, ReplicationPasswordPrevious: func() (string, error) { return "", nil },
		Log: slog.New(slog.NewTextHandler(&m.log, nil)),
	})
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// byLease boots two members of a set whose primary the Lease names. Their sidecars have accounts.
func byLease(t *testing.T, name string) (p, r *member) {
	t.Helper()
	p, r = newPair(t, installed(t, name))
	for _, m := range []*member{p, r} {
		m.settings.ByLease, m.settings.Replica, m.settings.SemiSync = true, false, SemiSyncRequired
		m.boot(t)
		d := m.dialect()
		all := d.accountStatements(account{sidecarUser, inPod, passwords{current: m.own}, d.sidecar})
		if err := exec(t.Context(), m.server.DB(), d.admitted(unlogged(all), true)); err != nil {
			t.Fatal(err)
		}
	}
	return p, r
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func noError(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func seenBy(t *testing.T, h *Hand) lead.State {
	t.Helper()
	return must[lead.State](t)(h.Look(t.Context()))
}

// session is a connection that stays the same.
func (m *member) session(t *testing.T, user, password string) *sql.Conn {
	t.Helper()
	db := must[*sql.DB](t)(m.server.Open(user, password))
	t.Cleanup(func() { _ = db.Close() })
	conn := must[*sql.Conn](t)(db.Conn(t.Context()))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (m *member) letsIn(t *testing.T, user, password string) error {
	t.Helper()
	db := must[*sql.DB](t)(m.server.Open(user, password))
	defer func() { _ = db.Close() }()
	return db.PingContext(t.Context())
}

func lives(t *testing.T, conn *sql.Conn) bool {
	t.Helper()
	_, err := conn.ExecContext(t.Context(), queryAdmitted)
	return err == nil
}

// What a leader does at its server, and its follower at its own.
func TestHand(t *testing.T) {
	for name := range installations {
		t.Run(name, func(t *testing.T) {
			p, r := byLease(t, name)
			testDistrust(t, p)
			testUptime(t, p)
			h := p.hand(t)
			testSettle(t, p, h)
			if must[bool](t)(h.Stuck(t.Context(), 0)) {
				t.Error("a commit is stuck in a server that nobody writes to")
			}
			testTerm(t, p, h)
			testBar(t, p, h)
			testReceipt(t, p, r, h)
			testHeld(t, p, r, h)
			if p.settings.Flavor == flavor.MariaDB {
				testStuck(t, p, r, h)
			}
			testFetch(t, p, r, h)
			testBlock(t, p, h)
		})
	}
}

// An account that has logged in before it had its privileges does not keep the looks from what they
// need.
func testDistrust(t *testing.T, p *member) {
	t.Helper()
	h, d := p.hand(t), p.dialect()
	all := d.accountStatements(account{sidecarUser, inPod, passwords{current: p.own}, d.sidecar})
	noError(t, exec(t.Context(), p.server.DB(), d.admitted(unlogged([]statement{{"REVOKE ALL PRIVILEGES, GRANT OPTION FROM ?@?", []any{sidecarUser, inPod}}}), true)))
	conn := must[*sql.Conn](t)(h.logins.db.Conn(t.Context()))
	noError(t, conn.Close(), exec(t.Context(), p.server.DB(), d.admitted(unlogged(all), true)))
	p.reachesIn(t, "a look", func() bool { _, err := h.Look(t.Context()); return err == nil })
}

func (m *member) reachesIn(t *testing.T, what string, is func() bool) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(50 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("%s: not in time", what)
}

// settlesIn is within what it settles, on however busy a machine: looks and logins that kept it would
// keep it for ever. A leader gives it 10 s.
const settlesIn = time.Minute

// Connections of an earlier process of the sidecar end, and no others.
func testSettle(t *testing.T, p *member, h *Hand) {
	t.Helper()
	before := p.hand(t)
	seenBy(t, before)
	old := must[*sql.Conn](t)(before.hands.Conn(t.Context()))
	looks := must[*sql.Conn](t)(before.logins.db.Conn(t.Context()))
	client := p.session(t, "root", rootPassword)
	seenBy(t, h)
	mine := must[*sql.Conn](t)(h.logins.db.Conn(t.Context()))
	defer func() { _ = mine.Close() }()
	if !lives(t, old) || !lives(t, looks) || !lives(t, client) || !lives(t, mine) {
		t.Fatal("a connection does not live before")
	}
	// What goes on meanwhile does not keep it: looks of this process, and another that logs in again
	// and again.
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = h.Look(ctx)
			}
		})
		wg.Go(func() {
			for ctx.Err() == nil {
				_ = p.letsIn(t, "root", rootPassword) //nolint:contextcheck // it may be cut, and ends soon
			}
		})
	}
	settling, done := context.WithTimeout(t.Context(), settlesIn)
	err := h.Settle(settling)
	done()
	cancel()
	wg.Wait()
	noError(t, err)
	if lives(t, old) || lives(t, looks) {
		t.Error("a connection of the process before lives")
	}
	_, _ = old.Close(), looks.Close() // they have ended
	if !lives(t, mine) {
		t.Error("the own connection does not live")
	}
}

// A leader writes under the name of its term, and all sessions do that were there before; administrators
// are let in meanwhile.
func testTerm(t *testing.T, p *member, h *Hand) {
	t.Helper()
	maria := p.settings.Flavor == flavor.MariaDB
	s := seenBy(t, h)
	if s.Writable || s.Offline || s.OfTerm || s.Channel || s.Boot == "" || s.Writer == "" || s.Data == "" || (s.Data == s.Writer) == maria || s.Applier != "" {
		t.Errorf("at first: %+v", s)
	}
	first := s
	noError(t, h.Open(t.Context(), s.Boot, func(context.Context) error { return nil }))
	p.run(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "CREATE USER client@'%' IDENTIFIED BY 'c'", "GRANT ALL ON d.* TO client@'%'")
	client, root := p.session(t, "client", "c"), p.session(t, "root", rootPassword)
	if !lives(t, client) || !lives(t, root) {
		t.Fatal("no session")
	}
	noError(t, h.SetOffline(t.Context(), true), h.WriteAs(t.Context(), 5))
	if lives(t, client) {
		t.Error("a client's session lives")
	}
	if maria == lives(t, root) {
		t.Errorf("an administrator's session: lives %v", !maria)
	}
	if err := p.letsIn(t, "client", "c"); err == nil {
		t.Error("a client is let in")
	}
	if err := p.letsIn(t, "root", rootPassword); err != nil {
		t.Error(err)
	}
	if s = seenBy(t, h); !s.Offline || s.OfTerm != maria || maria && s.Writer != fmt.Sprint(failover.ServerID(5)) || s.Boot != first.Boot {
		t.Errorf("offline, for term 5: %+v", s)
	}
	noError(t, h.SetOffline(t.Context(), false))
	client = p.session(t, "client", "c")
	if _, err := client.ExecContext(t.Context(), "INSERT INTO d.t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	// The administrator's own connection began under the other name.
	noError(t, exec(t.Context(), h.hands, []statement{{text: "INSERT INTO d.t VALUES (2)"}}))
	if s = seenBy(t, h); s.Offline || !s.Writable || s.Position != s.Executed || s.Has != s.Executed {
		t.Errorf("open: %+v", s)
	}
	if term := fmt.Sprintf("0-%d-", failover.ServerID(5)); maria {
		_, rest, found := strings.Cut(s.Executed, term)
		if n, err := strconv.Atoi(rest); !found || err != nil || strings.Contains(rest, ",") || n < 2 {
			t.Errorf("executed is %s, and the newest is to be of %s", s.Executed, term)
		}
	}
}

// A member's account that is barred is not let in, and one that is admitted is.
func testBar(t *testing.T, p *member, h *Hand) {
	t.Helper()
	position := seenBy(t, h).Position
	noError(t, h.Accounts(t.Context(), []string{"db-1", "db-2"}))
	locked := must[[]string](t)(h.Locked(t.Context()))
	if slices.Sort(locked); !slices.Equal(locked, []string{"db-1", "db-2"}) {
		t.Errorf("locked are %q", locked)
	}
	noError(t, h.Admit(t.Context(), "db-1"))
	if admitted := must[[]string](t)(h.Admitted(t.Context())); !slices.Contains(admitted, "db-1") || slices.Contains(admitted, "db-2") {
		t.Errorf("admitted are %q", admitted)
	}
	conn := p.session(t, lead.Account("db-1"), p.password)
	if locked = must[[]string](t)(h.Locked(t.Context())); !slices.Equal(locked, []string{"db-2"}) || !lives(t, conn) {
		t.Errorf("locked are %q", locked)
	}
	noError(t, h.Bar(t.Context(), "db-1"))
	if err := p.letsIn(t, lead.Account("db-1"), p.password); err == nil || lives(t, conn) {
		t.Error("a member that is barred is let in")
	}
	noError(t, h.Admit(t.Context(), "db-1"), h.Accounts(t.Context(), []string{"db-1", "db-2"}))
	if err := p.letsIn(t, lead.Account("db-1"), p.password); err != nil {
		t.Error(err)
	}
	if now := seenBy(t, h).Position; now != position {
		t.Errorf("accounts are in the binary log: %s, before %s", now, position)
	}
}

// A receipt is of one stretch of the applier; the receiver's side goes on and off within it.
func testReceipt(t *testing.T, p, r *member, h *Hand) {
	t.Helper()
	d, f := r.dialect(), r.hand(t)
	cfg := p.server.Config()
	channel := d.channelTo(Source{Host: otherwise(cfg.Addr), Port: cfg.Port, User: lead.Account("db-1"), Password: p.password}, d.byGTID)
	noError(t, exec(t.Context(), r.server.DB(), []statement{channel, {text: d.start}}))
	r.arrives(t, rows, "1,2")
	r.reachesState(t, f, "all is executed", func(s lead.State) bool { return s.Executed == s.Has }) // a row shows a moment earlier
	s := seenBy(t, f)
	if !s.Channel || !s.Receiving || s.User != lead.Account("db-1") || s.Receipt() == "" || s.Side || s.Has != s.Executed || s.Error != "" {
		t.Errorf("a replica: %+v", s)
	}
	receipt := s.Receipt()
	noError(t, f.SetSide(t.Context(), true))
	p.reachesState(t, h, "its replica acknowledges", func(lead.State) bool { return p.ask(t, "SELECT 1") == "1" && r.acknowledges(t) })
	if s = seenBy(t, f); !s.Side || s.Receipt() != receipt {
		t.Errorf("its side is on: %+v", s)
	}
	noError(t, f.StopReceiving(t.Context()))
	if s = seenBy(t, f); s.Receiving || s.Receipt() != receipt {
		t.Errorf("it receives no more: %+v", s)
	}
	noError(t, f.Apply(t.Context()), exec(t.Context(), r.server.DB(), []statement{{text: d.startReceiver}}))
	r.run(t, d.stop+" SQL_THREAD")
	// MariaDB lists the thread for a moment longer than STOP SLAVE takes.
	r.reachesState(t, f, "its applier is stopped", func(s lead.State) bool { return s.Receipt() == "" })
	noError(t, f.Apply(t.Context()))
	r.reachesState(t, f, "its applier runs again", func(s lead.State) bool { return s.Receipt() != "" })
	if s = seenBy(t, f); s.Receipt() == receipt {
		t.Errorf("its applier runs again: %+v", s)
	}
}

// otherwise is an address in other letters: MariaDB has no two channels to one.
func otherwise(address string) string { return strings.Replace(address, "127.", "0x7f.", 1) }

// acknowledges says that the receiver tells its source what it has.
func (m *member) acknowledges(t *testing.T) bool {
	t.Helper()
	f := must[SemiSyncFacts](t)(readSemiSync(t.Context(), m.server.DB()))
	return f.Acknowledging
}

func (m *member) reachesState(t *testing.T, h *Hand, what string, is func(lead.State) bool) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(50 * time.Millisecond) {
		if is(seenBy(t, h)) {
			return
		}
	}
	t.Fatalf("%s: not in time: %+v", what, seenBy(t, h))
}

// A server in which a commit waits is not closed, and the commit is not let go.
func testHeld(t *testing.T, p, r *member, h *Hand) {
	t.Helper()
	f := r.hand(t)
	noError(t, h.SetWaiting(t.Context(), true))
	p.run(t, "INSERT INTO d.t VALUES (3)")
	if s := seenBy(t, h); !s.Waiting || !s.Source || s.Held != 0 {
		t.Errorf("commits wait: %+v", s)
	}
	noError(t, f.StopReceiving(t.Context()))
	client := p.session(t, "client", "c")
	told := make(chan error, 1)
	go func() {
		_, err := client.ExecContext(context.WithoutCancel(t.Context()), "INSERT INTO d.t VALUES (4)")
		told <- err
	}()
	before := seenBy(t, f)
	p.reachesState(t, h, "a commit waits", func(s lead.State) bool { return s.Held > 0 && s.Position != before.Has })
	for what, close := range map[string]func(context.Context) error{"Block": h.Block, "Shut": h.Shut} {
		if err := close(t.Context()); err == nil {
			t.Errorf("%s closed the server in which a commit waits", what)
		}
	}
	if s := seenBy(t, h); s.Held == 0 || !s.Writable {
		t.Errorf("a commit waits: %+v", s)
	}
	noError(t, h.SetOffline(t.Context(), false))
	select {
	case err := <-told:
		t.Fatalf("the commit was let go: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	noError(t, exec(t.Context(), r.server.DB(), []statement{{text: r.dialect().startReceiver}}))
	if err := <-told; err != nil {
		t.Errorf("the commit that waited: %v", err)
	}
	r.arrives(t, rows, "1,2,3,4")
}

// On MariaDB, two commits that a replica has received with its side off wait for ever, and so does
// all that comes after them. The first one that is let go is told to be done, and the others go on.
func testStuck(t *testing.T, p, r *member, h *Hand) {
	t.Helper()
	f := r.hand(t)
	noError(t, f.SetSide(t.Context(), false))
	told := make(chan error, 3)
	for n := range 3 {
		client := p.session(t, "client", "c")
		go func() {
			_, err := client.ExecContext(context.WithoutCancel(t.Context()), "INSERT INTO d.t VALUES (?)", 40+n)
			told <- err
		}()
	}
	p.reachesState(t, h, "a commit waits", func(s lead.State) bool { return s.Held > 0 })
	p.reachesState(t, h, "the replica has two", func(lead.State) bool { return r.ask(t, "SELECT COUNT(*) FROM d.t WHERE a >= 40") >= "2" })
	noError(t, f.SetSide(t.Context(), true))
	p.reachesState(t, h, "the replica acknowledges", func(lead.State) bool { return r.acknowledges(t) })
	select {
	case err := <-told:
		t.Errorf("a commit does not wait: %v", err)
	case <-time.After(time.Second):
	}
	ids := must[[]uint64](t)(h.Waits(t.Context()))
	if len(ids) != 1 {
		t.Errorf("%d wait", len(ids))
	}
	noError(t, h.LetGo(t.Context(), ids))
	for ended := 0; ended < 3; {
		select {
		case err := <-told:
			if ended++; err != nil {
				t.Error(err)
			}
		case <-time.After(100 * time.Millisecond): // the last ones may have been received before, too, and wait later
			noError(t, h.LetGo(t.Context(), must[[]uint64](t)(h.Waits(t.Context()))))
		}
	}
	noError(t, h.LetGo(t.Context(), ids)) // they have ended
	p.run(t, "DELETE FROM d.t WHERE a >= 40")
}

// What only another member has is fetched from it, and the receipt stays what it was.
func testFetch(t *testing.T, p, r *member, h *Hand) {
	t.Helper()
	maria := p.settings.Flavor == flavor.MariaDB
	f, d := r.hand(t), p.dialect()
	noError(t, h.SetWaiting(t.Context(), false), exec(t.Context(), p.server.DB(), d.accountStatements(account{source.User, anyHost, passwords{current: p.password}, replicationPrivileges})))
	p.run(t, "INSERT INTO d.t VALUES (5)")
	r.arrives(t, rows, "1,2,3,4,5")
	noError(t, f.StopReceiving(t.Context()))
	p.run(t, "INSERT INTO d.t VALUES (6)")
	before := seenBy(t, f)
	for range 2 { // an election may fail, and the next one fetches again
		noError(t, f.Fetch(t.Context(), p.server.Config().Addr))
		r.arrives(t, rows, "1,2,3,4,5,6")
		if s := seenBy(t, f); s.Fetches != maria || !s.Receiving || s.Receipt() != before.Receipt() || s.Side || s.Error != "" {
			t.Errorf("it fetches: %+v, before %+v", s, before)
		}
		noError(t, f.StopReceiving(t.Context()))
		r.reachesState(t, f, "all is executed", func(s lead.State) bool { return s.Executed == s.Has })
		if s := seenBy(t, f); s.Receiving || s.Receipt() != before.Receipt() {
			t.Errorf("it has fetched: %+v, before %+v", s, before)
		}
	}
	if maria {
		noError(t, f.EndFetch(t.Context()))
	}
	if s := seenBy(t, f); s.Fetches || !s.Channel || s.Receiving {
		t.Errorf("it fetches no more: %+v", s)
	}
	p.run(t, "INSERT INTO d.t VALUES (7)")
	channel := d.channelTo(Source{Host: otherwise(p.server.Config().Addr), Port: p.server.Config().Port, User: lead.Account("db-1"), Password: p.password}, d.byGTID)
	noError(t, exec(t.Context(), r.server.DB(), []statement{{text: d.stop}, channel, {text: d.start}}))
	r.arrives(t, rows, "1,2,3,4,5,6,7")
	p.run(t, "INSERT INTO d.t VALUES (8)")
	noError(t, f.StopReceiving(t.Context()), f.Fetch(t.Context(), otherwise(p.server.Config().Addr)))
	r.arrives(t, rows, "1,2,3,4,5,6,7,8")
	noError(t, f.StopReceiving(t.Context()), f.Fetch(t.Context(), p.server.Config().Addr), f.StopReceiving(t.Context()), f.Forget(t.Context()))
	if s := seenBy(t, f); s.Fetches || s.Channel || s.Receiving || s.Receipt() != "" {
		t.Errorf("it has forgotten whom it followed: %+v", s)
	}
}

// A closed server has no session left that could write, and gets its own name back.
func testBlock(t *testing.T, p *member, h *Hand) {
	t.Helper()
	maria := p.settings.Flavor == flavor.MariaDB
	client, root := p.session(t, "client", "c"), p.session(t, "root", rootPassword)
	noError(t, h.Block(t.Context()))
	if lives(t, client) || lives(t, root) {
		t.Error("sessions live on a closed server")
	}
	if s := seenBy(t, h); s.Writable || s.Held != 0 || s.OfTerm != maria || s.Offline != maria {
		t.Errorf("closed: %+v", s)
	}
	noError(t, h.SetOffline(t.Context(), false))
	noError(t, h.WriteAs(t.Context(), 0))
	if s := seenBy(t, h); s.OfTerm || maria && s.Writer != fmt.Sprint(p.settings.ServerID) {
		t.Errorf("it leads no more: %+v", s)
	}
	noError(t, h.Shut(t.Context()))
}
