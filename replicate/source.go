package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
	"understudy/replicate/origin"

	"github.com/go-sql-driver/mysql"
)

// SourceFacts are what a replica's source said of itself, compared with what the replica has. It is
// asked only when replication by GTID is about to start, or cannot go on.
type SourceFacts struct {
	// Errant is what we have and the source lacks; empty when it lacks nothing.
	Errant string
	// ReadOnly says that the source is a primary that is not open yet: it may be about to take over
	// what it lacks.
	ReadOnly bool
	// Purged is what we lack and the source can no longer send; empty when it can send all, and
	// always on MariaDB, where the replication account may not know.
	Purged string
	// OnlyOurs says that whatever is errant was written on this very server. What others wrote the
	// source may have lost; or, on MariaDB, may have without knowing it, since its binary log was
	// reset.
	OnlyOurs bool
	// What says what the errant transactions did, as far as our binary logs tell.
	What string
	// Harmless says that they are all of our server, and proven to have changed no data. Emptied
	// are the MEMORY tables that the server has emptied by some of them.
	Harmless bool
	Emptied  []string
	// own are the transactions of our server, errant or not, that there were then.
	own string
	// ForReseed says that a reseed was decided already when the source was asked: the answer tells
	// what would be lost, and decides nothing.
	ForReseed bool
	// Reused says that some of what is errant was written by the source itself, and that it is open
	// for writes: it has lost that, and gives the same numbers again.
	Reused bool
}

// sourceTimeout bounds the look at the source: it is worth no more than a short wait.
const sourceTimeout = 2 * time.Second

// wantsSource: a step that starts replication depends on what the source lacks and can send, and
// what a reseed would lose matters to who does it. While replication runs, the transactions that
// our server has made since the last question are looked at: they do not stop MySQL, and MariaDB
// only at the next write.
func (a *Agent) wantsSource(v view, action Action) bool {
	switch {
	case v.f.Held:
		return false
	case action.Step.starts() || action.Step == Reseed:
		return v.s.countsByGTID(v.f)
	case v.s.Primary || action.Step != Rest || v.f.Channel == nil || !v.f.Channel.UsingGTID:
		return false
	}
	own := v.f.ownExecuted()
	return own != "" && own != a.memory.judged || a.memory.harmless != nil || a.memory.unjudged
}

// askSource compares our server with its source. Before a step that starts replication the last
// answer counts where there is none now: a verdict does not end with the source's restart. Without
// any, replication is started, and waits for the source by itself.
func (a *Agent) askSource(ctx context.Context, s Standing, f *Facts, action Action) {
	if h := a.memory.harmless; h != nil && h.of == f.ownExecuted() {
		f.Source = h.said
		return
	}
	a.memory.harmless = nil
	if !action.Step.starts() && action.Step != Reseed {
		a.askWhileRunning(ctx, s, f)
		return
	}
	step := Start
	if action.Step.starts() {
		step = action.Step
	}
	said, err := a.compareWithSource(ctx, s, *f, step)
	if err != nil {
		a.log.Debug("the source was not asked", "error", err)
	}
	switch {
	case action.Step.starts():
		if err == nil {
			a.memory.said = said
		} else if isBarred(err) {
			f.Barred = err.Error()
		}
		f.Source, a.memory.unjudged = a.memory.said, err != nil
	case err == nil:
		// Harmless transactions may be what has stopped the applier: then they decide.
		said.ForReseed = !said.Harmless || f.Channel == nil || f.Channel.SQLErrno != errGTIDOutOfOrder
		f.Source = said
	}
}

// askWhileRunning looks at what our server has made since the last question, and makes good for a
// question before the start that had no answer. What is purged does not matter to a channel that
// runs.
func (a *Agent) askWhileRunning(ctx context.Context, s Standing, f *Facts) {
	m := &a.memory
	own := f.ownExecuted()
	if m.unjudged {
		f.Source = m.said
	}
	if own == m.askedOf && time.Since(m.asked) < askAgain {
		return
	}
	m.asked, m.askedOf = time.Now(), own
	said, err := a.compareWithSource(ctx, s, *f, Start)
	if err != nil {
		a.log.Debug("the source was not asked", "error", err)
		return
	}
	m.judged, said.Purged = own, ""
	switch {
	case m.unjudged:
		f.Source, m.said, m.unjudged = said, said, said.Errant != ""
	case said.Harmless: // others are left for a step that starts replication
		f.Source = said
	}
}

// ownExecuted is the part of what our server has executed that it has made itself; empty where that
// cannot be read.
func (f Facts) ownExecuted() string {
	h, err := gtid.Parse(f.Version.Flavor, f.Executed)
	if err != nil {
		return ""
	}
	return f.own(h)
}

// countsByGTID says whether the channel that is about to start does.
func (s Standing) countsByGTID(f Facts) bool {
	switch {
	case s.fresh(&f):
		from := s.beginning(f)
		return from != nil && from.Mode == origin.GTID
	case f.Channel == nil:
		return true // else it could not be configured again
	}
	return f.Channel.UsingGTID
}

// compareWithSource looks at our own server first: what it executes meanwhile, the source has, too.
func (a *Agent) compareWithSource(parent context.Context, s Standing, f Facts, step Step) (*SourceFacts, error) {
	ctx, cancel := context.WithTimeout(parent, sourceTimeout)
	defer cancel()
	d := dialectOf(f.Version)
	ours, err := readPossessions(ctx, a.logins.db, d)
	if err != nil {
		return nil, fmt.Errorf("ask the own server: %w", err)
	}
	theirs, who, err := queryServer(ctx, s.source(f), d)
	if err != nil {
		return nil, fmt.Errorf("ask the source: %w", err)
	}
	// A copy may not know what it has before it is told.
	more := ""
	if s.fresh(&f) {
		more = s.Origin.GTID
	} else if step == Start && s.Flavor == flavor.MySQL && f.Channel != nil {
		// What is in the relay logs is applied, and not asked for again. Other steps remove them,
		// and MariaDB does at every start.
		more = f.Channel.Received
	}
	server := f.ServerID
	if s.Role != nil {
		server = nobody // the ledger tells what this member wrote; its source need not know that any more
	}
	c, err := theirs.compare(ours, more, s.Flavor, server)
	if err != nil {
		return nil, err
	}
	who = a.confirmed(ctx, s.source(f).Host, who, d, c)
	found := a.lookUp(parent, s, f, c)
	said := &SourceFacts{
		Errant: found.errant.String(), ReadOnly: who.readOnly, Purged: c.purged.String(), OnlyOurs: c.errant.OnlyOf(f.ServerUUID, f.ServerID),
		Reused: !who.readOnly && c.errant.AnyOf(who.uuid, who.id),
		What:   describeDeeds(found.deeds), Harmless: found.harmless, own: ours.own(f),
	}
	for _, d := range found.deeds {
		if table := d.emptied(); table != "" && !slices.Contains(said.Emptied, table) {
			said.Emptied = append(said.Emptied, table)
		}
	}
	return said, nil
}

// nobody is the server_id of no server.
const nobody = 0

// own is what the server's own transactions are among what it has.
func (p possessions) own(f Facts) string {
	h, err := gtid.Parse(f.Version.Flavor, p.has[:]...)
	if err != nil {
		return p.has[0] + p.has[1]
	}
	return f.own(h)
}

// own is the part of a history that our server made.
func (f Facts) own(h gtid.History) string {
	made, _ := h.Split(func(server string) bool {
		return strings.EqualFold(server, f.ServerUUID) || server == strconv.FormatUint(uint64(f.ServerID), 10)
	})
	return made.Text()
}

// possessions are what a server says of its GTIDs, in its own terms.
type possessions struct {
	// has are gtid_owned and gtid_executed (MySQL), or gtid_slave_pos and gtid_binlog_state
	// (MariaDB).
	has [2]string
	// purged is gtid_purged; empty on MariaDB.
	purged string
}

func readPossessions(ctx context.Context, db *sql.DB, d dialect) (possessions, error) {
	var p possessions
	err := db.QueryRowContext(ctx, d.queryGTIDs).Scan(&p.has[0], &p.has[1], &p.purged)
	if err != nil {
		return p, fmt.Errorf("read its GTIDs: %w", err)
	}
	p.has[0] = gtidOwner.ReplaceAllString(p.has[0], "")
	return p, nil
}

// identity is whose numbers a server's transactions get, and whether it gives any now.
type identity struct {
	// readOnly says that it is not open for writes: ordinary accounts cannot write, or its server
	// has started writable and nobody has opened it.
	readOnly bool
	id       uint32
	uuid     string // empty on MariaDB
}

// notOpenBefore is for how long from its start on a writable source is not taken for open, where
// the server does not say how it became writable: it may have started so, and its own sidecar needs
// a moment to fence it. What it lacks then it may be about to get.
const notOpenBefore = 10 * time.Second

// hasJustStarted reports whether that may be so.
func hasJustStarted(ctx context.Context, db *sql.DB, d dialect) (bool, error) {
	if !d.mayStartOpen {
		return false, nil
	}
	seconds, err := readUptime(ctx, db)
	// Below 0 it is not known, and its sidecar is asked: see confirmed.
	return seconds >= 0 && time.Duration(seconds)*time.Second < notOpenBefore, err
}

// confirmed is who the source is, and whether it is open: where its server does not say how it
// became writable, that takes its sidecar's word. It may have started so on an old copy of its
// data, and is about to get what it lacks. It is asked where the source lacks something.
func (a *Agent) confirmed(ctx context.Context, host string, who identity, d dialect, c comparison) identity {
	if who.readOnly || !d.mayStartOpen || c.errant.Empty() || a.cfg.SourceOpen == nil {
		return who
	}
	open, err := a.cfg.SourceOpen(ctx, host)
	if err != nil {
		a.log.Debug("the source's sidecar was not asked whether it is open", "error", err)
	}
	who.readOnly = !open
	return who
}

// queryServer logs in to another member as the replica's server does: with the replication account,
// and over TLS where that does, verified by the same authorities.
func queryServer(ctx context.Context, s Source, d dialect) (p possessions, who identity, err error) {
	dsn := mysql.NewConfig()
	dsn.Net, dsn.Addr, dsn.User, dsn.Passwd = "tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)), s.User, s.Password
	dsn.Timeout, dsn.ReadTimeout, dsn.WriteTimeout = sourceTimeout, sourceTimeout, sourceTimeout
	dsn.Logger = &mysql.NopLogger{}
	if dsn.TLS, err = s.clientTLS(); err != nil {
		return p, who, err
	}
	if dsn.TLS == nil && d.encrypted {
		dsn.TLSConfig = "skip-verify" // as SOURCE_SSL = 1 does
	}
	connector, err := mysql.NewConnector(dsn)
	if err != nil {
		return p, who, fmt.Errorf("set up the connection: %w", err)
	}
	db := sql.OpenDB(connector)
	defer func() { err = errors.Join(err, db.Close()) }()
	// Before the GTIDs: it opens after the last one that it takes over.
	if err := db.QueryRowContext(ctx, d.queryIdentity).Scan(&who.readOnly, &who.id, &who.uuid); err != nil {
		return p, who, fmt.Errorf("read whether it is open for writes: %w", err)
	}
	if !who.readOnly {
		if who.readOnly, err = hasJustStarted(ctx, db, d); err != nil {
			return p, who, err
		}
	}
	p, err = readPossessions(ctx, db, d)
	return p, who, err
}

// comparison is of a replica with its source.
type comparison struct {
	flavor flavor.Flavor
	server uint32 // the replica's server_id
	source gtid.History
	// errant is what the replica has and the source lacks, purged what the replica lacks and the
	// source can no longer send.
	errant, purged gtid.Errant
}

// compare compares p, the source's, with ours, to which more belongs. server is our server_id.
func (p possessions) compare(ours possessions, more string, f flavor.Flavor, server uint32) (comparison, error) {
	c := comparison{flavor: f, server: server}
	we, err := gtid.Parse(f, ours.has[0], ours.has[1], more)
	if err != nil {
		return c, fmt.Errorf("our GTIDs: %w", err)
	}
	if c.source, err = gtid.Parse(f, p.has[:]...); err != nil {
		return c, fmt.Errorf("the source's GTIDs: %w", err)
	}
	gone, err := gtid.Parse(f, p.purged)
	if err != nil {
		return c, fmt.Errorf("what the source has purged: %w", err)
	}
	c.errant, c.purged = c.lacks(we), gone.Errant(we)
	return c, nil
}

// lacks is what h has and the source certainly lacks.
func (c comparison) lacks(h gtid.History) gtid.Errant { return h.Errant(c.source).Without(c.forgotten) }

// inSource reports whether the source has all of a list of GTIDs.
func (c comparison) inSource(list string) bool {
	h, err := gtid.Parse(c.flavor, list)
	return err == nil && c.lacks(h).Empty()
}

// forgotten says of transactions on MariaDB, which the source does not name, that it may have them
// all the same: its binary log was reset after them, and others followed. Ours are not given that
// benefit: where we are a replica, nobody else writes with our server_id.
func (c comparison) forgotten(r gtid.Range) bool {
	if r.From > 0 || r.Server == c.server {
		return false
	}
	last, err := gtid.Parse(c.flavor, gtid.GTID{Domain: r.Domain, Server: r.Server, Sequence: r.To}.String())
	return err == nil && c.source.Contains(last)
}

// Source is who a replica follows.
type Source struct {
	Host     string
	Port     int
	User     string
	Password string
	// Previous is the password before that, while it is rotated; else empty.
	Previous string
	// CA is the server's file of the authorities of which the source's certificate must be; empty:
	// it is not verified.
	CA string
}

// at is the same on another member, which a first ordinal follows.
func (s Source) at(host string) Source {
	s.Host = host
	return s
}

// mysqlPassword is how many characters of a password MySQL takes for a channel:
// ER_CHANGE_SOURCE_PASSWORD_LENGTH, 3056.
const mysqlPassword = 32

// CheckPassword says beforehand what a replica would refuse about its password.
func CheckPassword(f flavor.Flavor, password string) error {
	if n := utf8.RuneCountInString(password); f == flavor.MySQL && n > mysqlPassword {
		return fmt.Errorf("MySQL takes %d characters at most for a replica's password, this one has %d: make one with head -c 24 /dev/urandom | base64", mysqlPassword, n)
	}
	return nil
}
