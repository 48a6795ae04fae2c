package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
	"understudy/replicate/origin"

	"github.com/go-sql-driver/mysql"
)

// Facts are what one turn of the loop saw.
type Facts struct {
	// Seen is when the look at the server began.
	Seen time.Time
	// Answers says that a server greeted us on TCP, even if it then refused the login.
	Answers bool
	// Trouble is why the server could not be observed; empty when it was.
	Trouble string
	// Known says that the server's own state was read, which is all down to Executed, whatever
	// could not be read after it.
	Known bool

	Version  flavor.Version
	ServerID uint32
	// ServerUUID is MySQL's; MariaDB has none.
	ServerUUID string
	// ReadOnly says that ordinary accounts cannot write.
	ReadOnly bool
	// Fenced says that the server is as read-only as it can be: on MySQL nobody can write,
	// on MariaDB only who has READ_ONLY ADMIN.
	Fenced bool
	// Opened says that the server is writable because a statement has made it so since it
	// started, ours or a person's: it did not start like that.
	Opened bool
	// WritableFrom is what made it start writable, in words; empty when nothing did.
	WritableFrom string
	// Persisted are the variables that the server would set against its configuration at its
	// next start, see Unpersist.
	Persisted []string
	// EventsOn says that the event scheduler runs; EventsDue that it has to, and does not.
	EventsOn, EventsDue bool
	// EventsTrouble is why it can be neither started nor stopped. It is looked at where that matters.
	EventsTrouble string
	// GTID is what the server has executed.
	GTID string
	// Executed is the same and, on MariaDB, the last transaction of each server that the
	// binary log knows: all that gtid.Parse can use.
	Executed string
	// UsesGTID is false on a MySQL server that gives its transactions none.
	UsesGTID bool
	// Channel is nil when the server is not configured as a replica.
	Channel *Channel
	// OtherChannels are the names of the channels that have one: ours has none.
	OtherChannels []string
	// Booted is where a copy that MySQL's clone plugin made ends in its donor's binary log.
	// It is looked for where replication has to begin there, and nil when it is not known.
	Booted *origin.Origin
	// Unproven is why the source could not prove itself when it was asked, see Agent.doubt. Of
	// a channel from before (Channel.fromBefore) Standing.Source has no authorities then.
	Unproven string
	// Source is nil where the source was not asked, or has never answered.
	Source *SourceFacts
	// Barred is why the source lets the replication account not in, whatever its password; empty
	// where it was not asked, or does.
	Barred string
	// MemoryTable is the table because of which the applier stopped, where a row of it was missing
	// and it is one of the engine MEMORY.
	MemoryTable string
	// Mismatches are the safety options that did not take, in words.
	Mismatches []string
	// BinaryLog is read on a primary that is not open and has no GTIDs.
	BinaryLog BinaryLog
	// Level is nil on replicas, and on a primary that is open.
	Level *Level
	// SemiSync is read where it is wanted.
	SemiSync SemiSyncFacts
	// Volume is the room on the member's volume, Container what is known of the server's container.
	Volume    Space
	Container Container
	// RoomAgain says that the volume was full and is so no longer, and that the applier has not
	// been started since.
	RoomAgain bool
	// AccountRight says that the replication account is as it should be, AccountsWrong what is
	// wrong with that or the others; empty: nothing. They are looked at on the primary only.
	AccountRight  bool
	AccountsWrong string
	// AdminTrouble says why the administrator cannot make them. It is looked at where it matters.
	AdminTrouble string
	// AdminDue says that the administrator's account does not have the passwords that it
	// should. It is looked at on the primary only.
	AdminDue bool
}

// Received is all that the server has executed, or received and has yet to execute. What it
// has of GTIDs from before they were turned off says nothing.
func (f Facts) Received() string {
	if !f.UsesGTID {
		return ""
	}
	if f.Channel == nil || f.Channel.Received == "" {
		return f.Executed
	}
	all, err := unite(f.Version.Flavor, f.Executed, f.Channel.Received)
	if err != nil {
		return f.Executed
	}
	return all
}

// position is Executed as a place to follow from.
func (f Facts) position() string {
	h, err := gtid.Parse(f.Version.Flavor, f.Executed)
	if err != nil {
		return f.Executed // it was written by us, see look
	}
	return h.String()
}

func unite(f flavor.Flavor, texts ...string) (string, error) {
	h, err := gtid.Parse(f, texts...)
	return h.Text(), err
}

// Channel is a server's replication from its source.
type Channel struct {
	Host string
	Port int
	User string
	// CA is the file of the authorities of which the source's certificate must be, Verified
	// says that it is looked at, and the source's name in it.
	CA       string
	Verified bool
	// UsingGTID is false in file and position mode.
	UsingGTID bool
	// Read is how far the receiving thread has read the source's binary log.
	Read Coordinate
	// Received is what the receiving thread has received, applied or not: a GTID set that
	// begins where the channel was made (MySQL), or a GTID position (MariaDB).
	Received string
	// Pending says that a running applier has yet to apply some of it, by GTID.
	Pending bool
	// IO is the state of the receiving thread: Yes, No, Connecting, Preparing.
	IO string
	// SQLRunning says that the applying thread runs.
	SQLRunning bool
	IOErrno    int
	IOError    string
	SQLErrno   int
	SQLError   string
	// Lag is in seconds; nil when the server cannot tell, and while its source is silent.
	Lag *int64
	// Heartbeats is how many have come from the source; -1 when it is not known. HeartbeatPeriod
	// is how often they come when nothing else does; 0 when it is not known.
	Heartbeats      int64
	HeartbeatPeriod time.Duration
	// Heard is when something has come last, as far as the agent has seen: not before its first look.
	Heard time.Time
	// Silent says that nothing comes although the connection is open.
	Silent bool
}

// follows says that the channel leads to the source, by the account of s, verifies it, and
// hears of it often enough.
func (c *Channel) follows(s Source) bool {
	return c.Host == s.Host && c.Port == s.Port && c.User == s.User && c.verifies(s) && c.beats()
}

// observeTimeout bounds one look at the server.
const observeTimeout = 5 * time.Second

// observe looks at the server. It never fails: what it could not see is in Trouble.
func (a *Agent) observe(ctx context.Context, s Standing) Facts {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	outside := a.lookOutside()
	f := outside
	a.preferOwn(ctx)
	err := a.look(ctx, s, &f)
	if a.distrust(ctx, err) {
		f = outside
		err = a.look(ctx, s, &f)
	}
	if err == nil {
		a.standstill.watch(&f)
		return f
	}
	f.Trouble = err.Error()
	if refused, ok := errors.AsType[*mysql.MySQLError](err); ok {
		f.Answers = true
		if refuses(refused) {
			f.Trouble += "; check --admin-user and --admin-password-file"
			if a.cfg.Sidecar.Password != nil {
				f.Trouble += ", and --sidecar-password-file"
			}
		}
	}
	f.explain()
	return f
}

// lookOutside is what is known without the server.
func (a *Agent) lookOutside() Facts {
	f := Facts{Seen: time.Now()}
	if a.cfg.Volume != nil {
		var err error
		if f.Volume, err = a.cfg.Volume(); err != nil {
			a.log.Debug("the room on the volume is not known", "error", err)
		}
	}
	if a.cfg.Container != nil {
		f.Container = a.cfg.Container()
	}
	return f
}

func (a *Agent) look(ctx context.Context, s Standing, f *Facts) error {
	var version string
	if err := a.db.QueryRowContext(ctx, queryVersion).Scan(&version); err != nil {
		return fmt.Errorf("read the server's version: %w", err)
	}
	f.Answers = true
	var err error
	if f.Version, err = flavor.ParseServer(version); err != nil {
		return err
	}
	a.setVersion(version)
	if f.Version.Flavor != s.Flavor {
		return nil // there is nothing else to ask it
	}
	d := dialectOf(f.Version)
	var slavePos, binlogState string
	row := a.db.QueryRowContext(ctx, d.queryServer)
	if err := row.Scan(&f.ServerID, &f.ReadOnly, &f.Fenced, &f.EventsOn, &f.GTID, &f.UsesGTID, &f.ServerUUID, &slavePos, &binlogState); err != nil {
		return fmt.Errorf("read the server's state: %w", err)
	}
	if err := f.readWritable(ctx, a.db, d); err != nil {
		return err
	}
	f.GTID = strings.ReplaceAll(f.GTID, "\n", "") // MySQL begins a line for each server
	executed := []string{slavePos, binlogState}
	if f.Version.Flavor == flavor.MySQL {
		executed = []string{f.GTID}
	}
	if f.Executed, err = unite(f.Version.Flavor, executed...); err != nil {
		return fmt.Errorf("read the server's GTIDs: %w", err)
	}
	f.Known = true
	if err := a.lookAtEvents(ctx, d, s, f); err != nil {
		return err
	}
	if f.Persisted, err = readPersisted(ctx, a.db, d, s); err != nil {
		return err
	}
	if f.Channel, f.OtherChannels, err = readChannels(ctx, a.db, f.Version.Flavor, d); err != nil {
		return err
	}
	if c := f.Channel; c != nil && c.UsingGTID && c.SQLRunning {
		c.Pending = f.Received() != f.Executed
	}
	if f.MemoryTable, err = a.memoryTable(ctx, f.Channel); err != nil {
		return err
	}
	if f.Mismatches, err = readMismatches(ctx, a.db, a.cfg.Options); err != nil {
		return err
	}
	if s.SemiSync.wanted() {
		if f.SemiSync, err = readSemiSync(ctx, a.db); err != nil {
			return err
		}
		if !f.SemiSync.Known {
			f.Mismatches = append(f.Mismatches, semiSyncMismatch)
		}
	}
	if s.fresh(f) && s.Origin.Mode == origin.FirstBoot {
		if f.Booted, err = readBooted(ctx, a.db); err != nil {
			return err
		}
	}
	if s.Primary && f.ReadOnly && !f.UsesGTID {
		if f.BinaryLog, err = readBinaryLog(ctx, a.db); err != nil {
			return err
		}
	}
	if s.Primary {
		return a.lookAtAccounts(ctx, d, s, f)
	}
	return nil
}

// row is a row of a status, by the names of its columns, which vary.
type row map[string]string

func (r row) text(column string) string {
	if value, ok := r[column]; ok {
		return value
	}
	return r[oldWords.Replace(column)]
}

func (r row) number(column string) int {
	n, _ := strconv.Atoi(r.text(column))
	return n
}

// readChannels reads the channel without a name, nil when there is none, and the names of the others.
func readChannels(ctx context.Context, db *sql.DB, fl flavor.Flavor, d dialect) (*Channel, []string, error) {
	rows, err := readRows(ctx, db, d.queryStatus)
	if err != nil {
		return nil, nil, fmt.Errorf("read replica status: %w", err)
	}
	var ours *Channel
	var others []string
	for _, r := range rows {
		if name := r.text(columnChannel) + r.text(columnConnection); name != "" {
			others = append(others, name)
			continue
		}
		ours = r.channel()
		if err := ours.readHeartbeats(ctx, db, fl, r); err != nil {
			return nil, nil, err
		}
	}
	if ours != nil && !ours.SQLRunning && (ours.SQLErrno == errOtherWorker || strings.HasPrefix(ours.SQLError, "Coordinator stopped")) {
		ours.SQLErrno, ours.SQLError = firstError(ctx, db, ours.SQLErrno, ours.SQLError)
	}
	return ours, others, nil
}

// firstError is the error of the worker because of which the others stopped. Where that
// cannot be read, what is known has to do.
func firstError(ctx context.Context, db *sql.DB, number int, text string) (int, string) {
	row := db.QueryRowContext(ctx, queryWorker, errOtherWorker)
	var n int
	var message string
	if err := row.Scan(&n, &message); err != nil {
		return number, text
	}
	return n, message
}

// attempt is what MySQL counts in the error of a receiver that cannot connect: it would be a
// new error at each try.
var attempt = regexp.MustCompile(` This was attempt \d+/\d+, with a delay of \d+ seconds between attempts\.`)

func (r row) channel() *Channel {
	using := r.text(columnUsing)
	c := &Channel{
		Host: r.text(columnHost), Port: r.number(columnPort), User: r.text(columnUser),
		CA: r.text(columnCA), Verified: r.text(columnTLS) == "Yes" && r.text(columnVerify) == "Yes",
		UsingGTID: r.text(columnAutoPosition) == "1" || using != "" && using != "No",
		Received:  strings.ReplaceAll(r.text(columnRetrieved), "\n", "") + r.text(columnReceived),
		IO:        r.text(columnIO), SQLRunning: r.text(columnSQL) == "Yes",
		IOErrno: r.number(columnIOErrno), IOError: attempt.ReplaceAllString(r.text(columnIOError), ""),
		SQLErrno: r.number(columnSQLErrno), SQLError: r.text(columnSQLError),
	}
	if file := r.text(columnFile); file != "" {
		c.Read, _ = ParseCoordinate(file + ":" + r.text(columnReadPosition)) // a name without a number cannot be compared
	}
	if lag, err := strconv.ParseInt(r.text(columnLag), 10, 64); err == nil {
		c.Lag = &lag
	}
	return c
}

// readRows reads all rows of a statement whose columns are not known in advance.
func readRows(ctx context.Context, db *sql.DB, query string) (all []row, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		values := make([]sql.NullString, len(names))
		targets := make([]any, len(names))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		r := row{}
		for i, name := range names {
			r[name] = values[i].String
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// readBooted reads where the copy ends that the server runs on, nil when it does not say.
// Without the clone plugin it cannot.
func readBooted(ctx context.Context, db *sql.DB) (*origin.Origin, error) {
	o := origin.Origin{Mode: origin.Position, Of: origin.Donor}
	err := db.QueryRowContext(ctx, queryBooted).Scan(&o.File, &o.Position)
	if refused, ok := errors.AsType[*mysql.MySQLError](err); ok && refused.Number == errNoSuchTable || errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // documented
	}
	if err != nil {
		return nil, fmt.Errorf("read where the copy ends: %w", err)
	}
	return &o, nil
}

// readMismatches compares the server's variables with what the options promised.
func readMismatches(ctx context.Context, db *sql.DB, opts []Option) ([]string, error) {
	var names []any
	for _, o := range opts {
		if o.Verify != "" {
			names = append(names, o.Name, o.older())
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	marks := "(?" + strings.Repeat(",?", len(names)-1) + ")"
	rows, err := db.QueryContext(ctx, queryVariables+marks, names...)
	if err != nil {
		return nil, fmt.Errorf("read the server's variables: %w", err)
	}
	defer func() { _ = rows.Close() }()
	have := map[string]string{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, fmt.Errorf("read the server's variables: %w", err)
		}
		have[name] = value
	}
	return compare(opts, have), rows.Err()
}

// compare names what is not as the options promised. A loose option that the server does
// not know promises nothing.
func compare(opts []Option, have map[string]string) []string {
	var wrong []string
	for _, o := range opts {
		name := o.Name
		got, known := have[name]
		if !known {
			if got, known = have[o.older()]; known {
				name = o.older()
			}
		}
		if o.Verify != "" && got != o.Verify && (known || !o.Loose) {
			wrong = append(wrong, fmt.Sprintf("%s is %q, not %q", name, got, o.Verify))
		}
	}
	return wrong
}
