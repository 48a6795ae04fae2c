// Package origin holds the replication coordinate that belongs to a copy of the data: the point in
// the source's history up to which the copy already is.
//
// Backup tools write it in two files. The binlog info is the donor's own position, right for a copy
// of the primary. The slave info is the donor's position at its source, the only right one for a
// copy of a replica.
package origin

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"understudy/replicate/flavor"
)

// Mode says in which terms an origin is expressed.
type Mode string

const (
	// GTID is a GTID set (MySQL) or a GTID position (MariaDB).
	GTID Mode = "gtid"
	// Position is a file name and a position in the binary log.
	Position Mode = "position"
	// FirstBoot means that the coordinate is inside the copy and can be read only once a server has
	// started on it.
	FirstBoot Mode = "first-boot"
	// Executed means that the copy is a member's whole directory, with its binary logs: the server
	// on it knows what it has executed, if it has GTIDs.
	Executed Mode = "executed"
)

// Owner says whose binary log an origin speaks of.
type Owner string

const (
	// Donor means the origin is in the binary log of the member that was copied.
	Donor Owner = "donor"
	// Source means it is in the binary log of the member that the donor replicates from.
	Source Owner = "source"
)

// ErrMalformed is returned when an info file is not what the tools write.
var ErrMalformed = errors.New("malformed replication coordinate")

// Origin is where replication has to begin on a copy.
type Origin struct {
	Mode Mode  `json:"mode"`
	Of   Owner `json:"of"`
	// GTID is set in mode gtid. It may be empty there: on MariaDB that is the coordinate of a
	// server that has logged nothing yet.
	GTID string `json:"gtid"`
	// File and Position are set in mode position, and beside a GTID where both are known.
	File     string `json:"file,omitempty"`
	Position uint64 `json:"position,omitempty"`
}

// String prints the coordinate for people.
func (o Origin) String() string {
	switch o.Mode {
	case GTID:
		return fmt.Sprintf("GTID %q of the %s", o.GTID, o.Of)
	case Position:
		return fmt.Sprintf("%s:%d of the %s", o.File, o.Position, o.Of)
	case Executed:
		return "what the server on it has executed"
	default:
		return "unknown until the first boot"
	}
}

// AsPosition is the same origin in terms of file and position. It reports false when those are not
// known.
func (o Origin) AsPosition() (Origin, bool) {
	o.Mode, o.GTID = Position, ""
	return o, o.File != ""
}

// FromBinlogInfo reads *_binlog_info: file, position and, where the server has one, the GTID set,
// which may span lines. The origin's owner is the donor.
//
// Format: https://docs.percona.com/percona-xtrabackup/8.0/xtrabackup-files.html
func FromBinlogInfo(f flavor.Flavor, text string) (Origin, error) {
	file, rest, ok := strings.Cut(strings.TrimLeft(text, "\r\n"), "\t")
	if !ok || file == "" {
		return Origin{}, fmt.Errorf("%w: binlog info %q has no tab after a file name", ErrMalformed, shorten(text))
	}
	digits, set, _ := strings.Cut(rest, "\t")
	pos, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 64)
	if err != nil {
		return Origin{}, fmt.Errorf("%w: binlog info %q has no position", ErrMalformed, shorten(text))
	}
	o := Origin{Mode: Position, Of: Donor, File: file, Position: pos, GTID: compact(set)}
	// MariaDB's GTIDs cannot be switched off: an empty set there is a coordinate.
	if f == flavor.MariaDB || o.GTID != "" {
		o.Mode = GTID
	}
	return o, nil
}

var binlogPos = regexp.MustCompile(`(?m)^binlog_pos = filename ` + quoted + `, position '(\d+)'(?:, GTID of the last change ` + quoted + `)?`)

// FromBackupInfo reads what FromBinlogInfo does from *_info, which --copy-back leaves in a restored
// directory. It returns nil without an error where it does not stand there: the server had no
// binary log.
func FromBackupInfo(f flavor.Flavor, text string) (*Origin, error) {
	m := binlogPos.FindStringSubmatch(text)
	if m == nil {
		return nil, nil //nolint:nilnil // documented
	}
	o, err := FromBinlogInfo(f, m[1]+"\t"+m[2]+"\t"+m[3])
	return &o, err
}

// The names of the info files: mariadb-backup renamed its own in 11.1.
var (
	SlaveInfoNames  = []string{"mariadb_backup_slave_info", "xtrabackup_slave_info"}
	BinlogInfoNames = []string{"mariadb_backup_binlog_info", "xtrabackup_binlog_info"}
)

// FromInfo picks the right one of the two: the source's coordinate comes first, since the donor's
// own binary log is not what a copy of a replica replicates from. It returns nil without an error
// when both texts are empty.
func FromInfo(f flavor.Flavor, slaveInfo, binlogInfo string) (*Origin, error) {
	var o Origin
	var err error
	switch {
	case slaveInfo != "":
		o, err = FromSlaveInfo(slaveInfo)
	case binlogInfo != "":
		o, err = FromBinlogInfo(f, binlogInfo)
	default:
		return nil, nil //nolint:nilnil // nothing is known, documented
	}
	if err != nil {
		return nil, err
	}
	return &o, nil
}

const quoted = `'([^']*)'`

var (
	setGTID   = regexp.MustCompile(`(?i)SET\s+GLOBAL\s+gtid_(?:slave_pos|purged)\s*=\s*` + quoted)
	change    = regexp.MustCompile(`(?i)CHANGE\s+(?:MASTER|REPLICATION\s+SOURCE)\s+(` + quoted + `\s+)?TO\b`)
	channel   = regexp.MustCompile(`(?i)FOR\s+CHANNEL\s+'[^']+'`)
	logFile   = regexp.MustCompile(`(?i)(?:MASTER|SOURCE)_LOG_FILE\s*=\s*` + quoted)
	logPos    = regexp.MustCompile(`(?i)(?:MASTER|SOURCE)_LOG_POS\s*=\s*(\d+)`)
	autoUsing = regexp.MustCompile(`(?i)(?:MASTER|SOURCE)_AUTO_POSITION\s*=\s*1|MASTER_USE_GTID\s*=\s*(?:slave_pos|current_pos)`)
)

// FromSlaveInfo reads *_slave_info, which holds the SQL statements that would make a copy a replica
// of the donor's source. Only their values are taken; nothing of the text is ever executed. A donor
// with more than one source is refused, for then no single coordinate describes the copy.
func FromSlaveInfo(text string) (Origin, error) {
	changes := change.FindAllStringSubmatch(text, -1)
	if len(changes) != 1 {
		return Origin{}, fmt.Errorf("%w: slave info %q holds %d CHANGE statements, not one", ErrMalformed, shorten(text), len(changes))
	}
	if changes[0][1] != "" || channel.MatchString(text) {
		return Origin{}, fmt.Errorf("%w: the donor replicates over a named channel: %q", ErrMalformed, shorten(text))
	}
	if m := setGTID.FindAllStringSubmatch(text, -1); len(m) == 1 && autoUsing.MatchString(text) {
		return Origin{Mode: GTID, Of: Source, GTID: compact(m[0][1])}, nil
	}
	file, digits := logFile.FindStringSubmatch(text), logPos.FindStringSubmatch(text)
	if file == nil || digits == nil || autoUsing.MatchString(text) {
		return Origin{}, fmt.Errorf("%w: slave info %q has neither a GTID set nor file and position", ErrMalformed, shorten(text))
	}
	pos, err := strconv.ParseUint(digits[1], 10, 64)
	if err != nil {
		return Origin{}, fmt.Errorf("%w: slave info %q", ErrMalformed, shorten(text))
	}
	return Origin{Mode: Position, Of: Source, File: file[1], Position: pos}, nil
}

// compact removes the line breaks and blanks that tools put into long GTID sets.
func compact(set string) string { return strings.Join(strings.Fields(set), "") }

// shorten keeps an error readable when the text is not what it should be.
func shorten(text string) string {
	const most = 200
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}
