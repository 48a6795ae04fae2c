package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A server has to start read-only, and its configuration says so; but the container's arguments, an
// option file that comes later, or a variable that SET PERSIST has set may say otherwise, and win.
// So whether a primary is open is not told by read_only alone: what counts is that a statement has
// opened it since its server started. A server that has started writable is fenced before anything
// else, and where the value came from is said.
//
// Events are alike: they must not run before the primary is open. On MariaDB read_only does not
// bind those whose definer has READ_ONLY ADMIN, such as root. MySQL's super_read_only binds them
// all, but an event that comes due fails (MY-010045), and one that was due only once never runs
// again.

// mustFence says that nobody may write to the server, and somebody could.
func mustFence(s Standing, f Facts) bool {
	if !f.Known || f.Fenced || s.Initialising || f.Version.Flavor != s.Flavor {
		return false
	}
	return !s.Primary || !f.Opened || s.takesOver() || s.unchecked()
}

// fencing says why.
func fencing(s Standing, f Facts) Action {
	reason := "only the primary may be writable"
	switch {
	case s.takesOver():
		reason = "a fresh copy must not change before the primary has all that the members have"
	case s.unchecked():
		reason = "an adopted data directory must not change before its files have been looked for"
	case s.Primary:
		reason = "nobody may write to the primary before it has all that the members have"
	}
	if f.WritableFrom != "" {
		reason += "; its server started writable, and took writes until now, because of " + f.WritableFrom +
			": remove read_only and super_read_only there"
	}
	return Action{Fence, reason}
}

// valueOrigin is where the value of a server's variable comes from.
type valueOrigin struct {
	// statement says that a statement has set it since the server started.
	statement bool
	// source is the server's own word, and path a file.
	source, path string
}

// word is the server's word for the source, written alike on both flavours.
func (o valueOrigin) word() string { return strings.ReplaceAll(strings.ToUpper(o.source), "-", "_") }

// outranksFiles says that the server's arguments or SET PERSIST have set it.
func (o valueOrigin) outranksFiles() bool {
	return o.word() == "COMMAND_LINE" || o.word() == "PERSISTED"
}

func (o valueOrigin) String() string {
	switch word := o.word(); {
	case o.path != "":
		return o.path
	case word == "COMMAND_LINE":
		return "the arguments of the server's container"
	case word == "DYNAMIC":
		return "the server's init_file"
	case word == "CONFIG": // MariaDB names the file only to who has the privilege FILE
		return "an option file that the server reads after ours"
	default:
		return "the server's own settings (" + o.source + ")"
	}
}

// readOrigin returns where a variable's value comes from. A server that does not know (MySQL 5.7)
// is taken for one where a statement has set it.
func readOrigin(ctx context.Context, db *sql.DB, d dialect, variable string) (valueOrigin, error) {
	o := valueOrigin{statement: true}
	if d.queryOrigin == "" {
		return o, nil
	}
	err := db.QueryRowContext(ctx, d.queryOrigin, variable).Scan(&o.statement, &o.source, &o.path)
	if errors.Is(err, sql.ErrNoRows) {
		return o, fmt.Errorf("read where the value of %s comes from: the server does not say", variable)
	}
	if err != nil {
		return o, fmt.Errorf("read where the value of %s comes from: %w", variable, err)
	}
	return o, nil
}

// readWritable reads why the server is writable, if it is, also if it is so for administrators
// only.
func (f *Facts) readWritable(ctx context.Context, db *sql.DB, d dialect) error {
	if f.Fenced {
		return nil
	}
	variable := variableReadOnly
	if f.ReadOnly {
		variable = variableSuperReadOnly
	}
	o, err := readOrigin(ctx, db, d, variable)
	if err != nil {
		return err
	}
	f.Opened = o.statement && !f.ReadOnly
	if !o.statement && (!f.ReadOnly || o.source != originDefault) { // it is not set while an image initialises
		f.WritableFrom = o.String()
	}
	return nil
}

// readPersisted reads which variables would be set against the configuration at the next start:
// what makes the server writable, and what has events run.
func readPersisted(ctx context.Context, db *sql.DB, d dialect) (names []string, err error) {
	if d.queryPersisted == "" {
		return nil, nil
	}
	rows, err := readRows(ctx, db, d.queryPersisted)
	if err != nil {
		return nil, fmt.Errorf("read which settings are persisted: %w", err)
	}
	for _, r := range rows {
		name, on := r["VARIABLE_NAME"], r["VARIABLE_VALUE"] == "ON"
		if name == variableEvents && on || name != variableEvents && !on {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}
