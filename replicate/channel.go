package replicate

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"understudy/replicate/flavor"
)

// Channel is a server's replication from its source.
type Channel struct {
	Host string
	Port int
	User string
	// CA is the file of the authorities of which the source's certificate must be, Verified says
	// that it is looked at, and the source's name in it.
	CA       string
	Verified bool
	// UsingGTID is false in file and position mode.
	UsingGTID bool
	// Read is how far the receiving thread has read the source's binary log.
	Read Coordinate
	// Received is what the receiving thread has received, applied or not: a GTID set that begins
	// where the channel was made (MySQL), or a GTID position (MariaDB).
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
	// Heartbeats is how many have come from the source; -1 when it is not known. HeartbeatPeriod is
	// how often they come when nothing else does; 0 when it is not known.
	Heartbeats      int64
	HeartbeatPeriod time.Duration
	// Heard is when something has come last, as far as the agent has seen: not before its first
	// look.
	Heard time.Time
	// Silent says that nothing comes although the connection is open.
	Silent bool
}

// follows says that the channel leads to the source, by the account of s, verifies it, and hears of
// it often enough.
func (c *Channel) follows(s Source) bool {
	return c.Host == s.Host && c.Port == s.Port && c.User == s.User && c.verifies(s) && c.beats()
}

// readChannels reads the channel without a name, nil when there is none, and the names of the
// others.
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

// firstError is the error of the worker because of which the others stopped. Where that cannot be
// read, it is what is known.
func firstError(ctx context.Context, db *sql.DB, number int, text string) (int, string) {
	row := db.QueryRowContext(ctx, queryWorker, errOtherWorker)
	var n int
	var message string
	if err := row.Scan(&n, &message); err != nil {
		return number, text
	}
	return n, message
}

// attempt is what MySQL counts in the error of a receiver that cannot connect: it would be a new
// error at each try.
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
