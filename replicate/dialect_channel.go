package replicate

import (
	"slices"
	"strconv"
	"strings"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// connectRetry is how many seconds a replica waits before it tries its source again. For that long
// after each start of the primary, what it commits may be on no other member.
const connectRetry = 1

// heartbeats are the option by which a source says often enough that it lives; it ends with a
// comma.
var heartbeats = "%_HEARTBEAT_PERIOD = " + strconv.Itoa(heartbeat) + ", "

// changeTo sets a channel. Each % of the options becomes the dialect's word.
func (d dialect) changeTo(options string, args ...any) statement {
	return statement{d.change + strings.ReplaceAll(options, "%", d.word), args}
}

// channelTo sets all of a channel, with the options given after the rest.
func (d dialect) channelTo(s Source, options string, more ...any) statement {
	all := "%_HOST = ?, %_PORT = ?, %_USER = ?, %_PASSWORD = ?, %_CONNECT_RETRY = ?, " + heartbeats
	verified, args := d.verified(s)
	return d.changeTo(all+d.always+verified+options, slices.Concat([]any{s.Host, s.Port, s.User, s.Password, connectRetry}, args, more)...)
}

// configureStatements make a fresh copy follow its source from the origin. They can be run again
// when they were cut short. A channel that came with the copy goes: it is the donor's, and so is
// the password in it.
func (d dialect) configureStatements(s Source, o origin.Origin) []statement {
	all := []statement{{text: d.stop}, {text: d.reset}}
	if o.Mode == origin.Position {
		return append(all, d.channelTo(s, "%_LOG_FILE = ?, %_LOG_POS = ?, "+d.byPosition, o.File, o.Position))
	}
	return append(append(all, d.beginStatements(o)...), d.channelTo(s, d.byGTID))
}

// goOnStatements are configureStatements for a copy of a member's whole directory, which goes on
// from all that it has executed.
func (d dialect) goOnStatements(s Source, has string) []statement {
	all := []statement{{text: d.stop}, {text: d.reset}}
	if d.resume != "" {
		all = append(all, statement{d.resume, []any{has}})
	}
	return append(all, d.channelTo(s, d.byGTID))
}

func (d dialect) beginStatements(o origin.Origin) []statement {
	var all []statement
	for _, text := range d.begin {
		st := statement{text: text}
		if strings.Contains(text, "?") {
			st.args = []any{o.GTID}
		}
		all = append(all, st)
	}
	return all
}

// repointStatements make a replica follow its source by GTID, from where it is.
func (d dialect) repointStatements(s Source) []statement {
	return []statement{{text: d.stop}, d.channelTo(s, d.byGTID), {text: d.start}}
}

// loginStatements give a replica other credentials for the source that it has. Naming the host,
// even the same, would void a file and position.
func (d dialect) loginStatements(s Source) []statement {
	verified, args := d.verified(s)
	login := d.changeTo(verified+heartbeats+"%_USER = ?, %_PASSWORD = ?", append(args, s.User, s.Password)...)
	return []statement{{text: d.stopToLogIn}, login, {text: d.start}}
}

// setServerID is done between two channels, never beside one that runs.
const setServerID = "SET GLOBAL server_id = ?"

// alias is the server_id of a first ordinal that follows a member. What it has to get back it has
// made itself, for the most part, and a replica ignores events with its own server_id. It is as far
// from the others' as can be.
func alias(id uint32) uint32 { return ^id }

// followStatements make the first ordinal follow a member until it has caught up. has is all that
// it has executed.
func (d dialect) followStatements(s Source, id uint32, has string) []statement {
	all := []statement{{text: d.stop}, {setServerID, []any{alias(id)}}}
	if d.resume != "" {
		all = append(all, statement{d.resume, []any{has}})
	}
	return append(all, d.channelTo(s, d.byGTID), statement{text: d.start})
}

// detachStatements undo that. The channel goes last: while there is one, they are done again.
func (d dialect) detachStatements(id uint32) []statement {
	return []statement{{text: d.stop}, {setServerID, []any{id}}, {text: d.reset}}
}

// takeOverStatements make a copy of a member the first ordinal's data: what came with it of the
// member's channel goes.
func (d dialect) takeOverStatements(o origin.Origin) []statement {
	all := []statement{{text: d.stop}, {text: d.reset}}
	if o.Mode == origin.GTID {
		all = append(all, d.beginStatements(o)...)
	}
	return all
}

// Recipe is the SQL that makes a copy with this origin a replica, for people to paste. The host and
// the credentials are left for them to fill in.
func Recipe(v flavor.Version, o origin.Origin) string {
	d := dialectOf(v)
	var lines []string
	options := "%_HOST='<primary>', %_PORT=3306, %_USER='<user>', %_PASSWORD='<password>', " + d.always
	if d.encrypted {
		options += encryption
	}
	switch o.Mode {
	case origin.Position:
		options += "%_LOG_FILE='" + o.File + "', %_LOG_POS=" + strconv.FormatUint(o.Position, 10) + ", " + d.byPosition
	case origin.FirstBoot:
		lines = append(lines, queryBooted)
		options += "%_LOG_FILE='<BINLOG_FILE>', %_LOG_POS=<BINLOG_POSITION>, " + d.byPosition
	case origin.GTID:
		for _, text := range d.begin {
			lines = append(lines, strings.Replace(text, "?", "'"+o.GTID+"'", 1))
		}
		options += d.byGTID
	}
	lines = append(lines, d.changeTo(options).text, d.start)
	return strings.Join(lines, ";\n") + ";"
}

// logsApart is how far the numbers of a new primary's binary logs are from those of the one before.
// The member that it is a copy of had read furthest of all that answered.
const logsApart = 1000

// renumberStatements have the server that takes over a copy by position start a new binary log
// series, with a number that its predecessor's has not reached: places in that one mean nothing
// here, and a replica that asks for one must get an error, not what happens to be there. has is the
// copy's GTID position, on MariaDB.
func renumberStatements(v flavor.Version, o origin.Origin, has string) []statement {
	n, ok := Coordinate{File: o.File}.number()
	if o.Mode != origin.Position || !ok {
		return nil
	}
	number := strconv.FormatUint(n+logsApart, 10)
	switch {
	case v.Flavor == flavor.MariaDB:
		// Which forgets its last GTID, too, and would give the same ones again.
		return []statement{{text: "RESET MASTER TO " + number}, {"SET GLOBAL gtid_binlog_state = ?", []any{has}}}
	case v.AtLeast(8, 4, 0):
		return []statement{{text: "RESET BINARY LOGS AND GTIDS TO " + number}}
	case v.AtLeast(8, 0, 1):
		return []statement{{text: "RESET MASTER TO " + number}}
	}
	return nil // it cannot choose the number
}

// encryption is the option that has a channel use TLS; it ends with a comma.
const encryption = "%_SSL = 1, "

// verified are the options by which a channel verifies its source's certificate and name, or, where
// s has no authorities, does not.
func (d dialect) verified(s Source) (options string, args []any) {
	if s.CA != "" {
		return encryption + "%_SSL_CA = ?, %_SSL_VERIFY_SERVER_CERT = 1, ", []any{s.CA}
	}
	if d.encrypted {
		options = encryption
	}
	return options + "%_SSL_CA = '', %_SSL_VERIFY_SERVER_CERT = 0, ", nil
}
