package load

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// dialect is what differs between the flavours.
type dialect struct {
	// written is a query for a position that has all commits that the server has acknowledged.
	written string
	// waitGTID is a query that waits until a replica has applied a position, for at most a number
	// of seconds. It results in 0, or in something else if the time was over.
	waitGTID string
	// applied is a query for the position that a replica has applied.
	applied string
}

// mariaDB is the dialect of MariaDB: https://mariadb.com/kb/en/gtid/ and
// https://mariadb.com/kb/en/master_gtid_wait/.
var mariaDB = dialect{
	written:  "SELECT @@global.gtid_binlog_pos",
	waitGTID: "SELECT MASTER_GTID_WAIT(?, ?)",
	applied:  "SELECT @@global.gtid_slave_pos",
}

// mySQL is the dialect of MySQL: https://dev.mysql.com/doc/refman/9.7/en/gtid-functions.html. A
// session's own GTIDs come with the answer to COMMIT only (session_track_gtids), where the driver
// does not let us look.
var mySQL = dialect{
	written:  `SELECT REPLACE(@@global.gtid_executed, '\n', '')`,
	waitGTID: "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?)",
	applied:  `SELECT REPLACE(@@global.gtid_executed, '\n', '')`,
}

// detect asks a server for its flavour.
func detect(ctx context.Context, db *sql.DB) (dialect, error) {
	var version string
	if err := db.QueryRowContext(ctx, "SELECT @@version").Scan(&version); err != nil {
		return dialect{}, fmt.Errorf("read version: %w", err)
	}
	if strings.Contains(version, "MariaDB") {
		return mariaDB, nil
	}
	return mySQL, nil
}

// The server's errors that mean the end of the connection:
// https://mariadb.com/kb/en/mariadb-error-codes/. MySQL has all but the last one: it closes a
// connection that is killed.
const (
	serverShutdown      = 1053
	netReadError        = 1158
	netWriteInterrupted = 1161 // the last of the four network errors
	abortingConnection  = 1184
	connectionKilled    = 1927

	readOnly = 1290 // ER_OPTION_PREVENTS_STATEMENT
)

// notOpen says whether a server refused a write because it is read-only.
func notOpen(err error) bool {
	answer := (*mysql.MySQLError)(nil)
	return errors.As(err, &answer) && answer.Number == readOnly
}

// connectionLost says whether an error means that there is no connection to the server, or none any
// more.
func connectionLost(err error) bool {
	if answer := (*mysql.MySQLError)(nil); errors.As(err, &answer) {
		n := answer.Number
		return n == serverShutdown || n == abortingConnection || n == connectionKilled ||
			netReadError <= n && n <= netWriteInterrupted
	}
	var netError net.Error // a context's deadline is one: the server did not answer
	return errors.As(err, &netError) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) ||
		errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}
