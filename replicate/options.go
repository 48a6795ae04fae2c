package replicate

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	"understudy/replicate/flavor"
)

// Option is one line of the server configuration that `understudy init` writes.
type Option struct {
	Name string
	// Value is empty for an option that is given bare.
	Value string
	// Loose options are unknown to some versions, which then ignore them.
	Loose bool
	// Renamed says that the name is from MySQL 8.0.26, where "replica" took the place of "slave".
	// It is written under both names, loosely, and a server reads what it knows.
	Renamed bool
	// Verify is what the server's variable Name must say afterwards; empty when the sidecar does
	// not check it. Only this proves that a loose option took: it is verified where the server has
	// the variable.
	Verify string
}

// older is the option's name in all versions, or before it was renamed.
func (o Option) older() string {
	if o.Renamed {
		return strings.Replace(o.Name, "replica", "slave", 1)
	}
	return o.Name
}

// Settings is what a member's configuration depends on.
type Settings struct {
	Flavor     flavor.Flavor
	ServerID   uint32
	ReportHost string
	// Replica is false for the first ordinal, and where ByLease.
	Replica bool
	// ByLease says that any member may lead, and come back as a replica.
	ByLease bool
	// BinlogBasename keeps an existing directory's binary logs; empty for the server's default.
	BinlogBasename string
	// KeepGTIDMode leaves gtid_mode as it is: that of an adopted MySQL directory, or of a copy of a
	// set that replicates by file and position.
	KeepGTIDMode bool
	// SemiSync is whether semi-synchronous replication has to be there.
	SemiSync SemiSync
	// NoClonePlugin leaves out the plugin of the engine clone: it is not used, or the server,
	// before MySQL 8.0.17, does not have it, and would log an error at each start.
	NoClonePlugin bool
	// TLS are the server's certificate and authorities.
	TLS TLS
	// Initialising says that the server's image is about to make the data directory. It does that
	// as root, which read_only does not bind and super_read_only does.
	Initialising bool
}

// Defaults are the options that an operator's own files may override.
func Defaults(f flavor.Flavor) []Option {
	const week = 7 * 24 * 60 * 60
	opts := []Option{
		// MySQL 8.0, MariaDB 10.6 and later; in seconds.
		{Name: "binlog_expire_logs_seconds", Value: strconv.Itoa(week), Loose: true},
	}
	if f == flavor.MariaDB {
		// MySQL's default. With MariaDB's, MIXED, a transaction may need a temporary table that a
		// copy, or a replica after a restart, does not have; and a statement may change other rows
		// on a replica.
		opts = append(opts, Option{Name: "binlog_format", Value: "ROW"})
	}
	return opts
}

// Options are the identity of a member, and what its replication is only safe with. They come after
// an operator's own files. The sidecar verifies the same list.
func Options(s Settings) []Option {
	opts := []Option{
		{Name: "server_id", Value: strconv.FormatUint(uint64(s.ServerID), 10), Verify: strconv.FormatUint(uint64(s.ServerID), 10)},
		{Name: "report_host", Value: s.ReportHost},
		{Name: "log_bin", Value: s.BinlogBasename, Verify: "ON"},
		{Name: "sync_binlog", Value: "1", Verify: "1"},
		{Name: "innodb_flush_log_at_trx_commit", Value: "1", Verify: "1"},
		{Name: "relay_log_recovery", Value: "ON", Verify: "ON"},
	}
	if s.Flavor == flavor.MariaDB && s.ByLease {
		opts[0].Verify = "" // a leader has that of its term
		// It is set to -1 and back, which a server that has started with the default, 0, refuses.
		opts = append(opts, Option{Name: "max_user_connections", Value: freely})
		// STOP SLAVE waits while the receiver connects, which takes so long, in seconds, where the source is
		// cut off, and a member has to stop receiving before it reports. The default is a minute.
		opts = append(opts, Option{Name: "slave_net_timeout", Value: strconv.Itoa(2 * heartbeat)})
	}
	if s.Flavor == flavor.MariaDB {
		opts = append(
			opts,
			Option{Name: "log_slave_updates", Value: "ON", Verify: "ON"},
			Option{Name: "gtid_strict_mode", Value: "ON", Verify: "ON"},
			Option{Name: "skip_slave_start", Value: "ON"},
		)
	} else {
		opts = append(
			opts,
			Option{Name: "log_replica_updates", Value: "ON", Loose: true, Renamed: true, Verify: "ON"},
			// A variable since 8.0.24. A copy of a replica brings its donor's channel, which must
			// not start at a place that may be wrong.
			Option{Name: "skip_replica_start", Value: "ON", Loose: true, Renamed: true, Verify: "ON"},
		)
		if !s.NoClonePlugin {
			opts = append(opts, Option{Name: "plugin_load_add", Value: "mysql_clone.so"})
		}
		if s.SemiSync.wanted() {
			for _, plugin := range semiSyncPlugins {
				opts = append(opts, Option{Name: "plugin_load_add", Value: plugin}) // Facts say whether it took
			}
		}
		if !s.KeepGTIDMode {
			opts = append(
				opts,
				Option{Name: "gtid_mode", Value: "ON", Verify: "ON"},
				Option{Name: "enforce_gtid_consistency", Value: "ON", Verify: "ON"},
			)
			if s.ByLease {
				// Otherwise a member that comes back with an older copy leaves out, without a word, what it
				// wrote itself as the leader after that copy. With GTIDs nothing is applied twice; the
				// server does not start with this option and without them. It is no variable.
				opts = append(opts, Option{Name: "replicate_same_server_id", Value: "ON"})
			}
		}
	}
	// The agent starts the primary's events when it is open. Before that they would write to a
	// MariaDB that is read-only; and on MySQL each that came due would fail, and never run again.
	events := Option{Name: variableEvents, Value: "OFF"}
	if s.Replica {
		events.Verify = "OFF"
	}
	opts = append(opts, events)
	opts = append(opts, s.TLS.options()...)
	opts = append(opts, Option{Name: variableReadOnly, Value: "ON"})
	if s.Flavor == flavor.MySQL && !s.Initialising {
		opts = append(opts, LacksWhileInitialising())
	}
	return opts
}

// LacksWhileInitialising is the last of MySQL's Options: the one that they lack while the server's
// image makes the data directory.
func LacksWhileInitialising() Option { return Option{Name: variableSuperReadOnly, Value: "ON"} }

// Render writes options as an option file, below the comment lines given.
func Render(opts []Option, comment ...string) []byte {
	var b bytes.Buffer
	for _, line := range comment {
		fmt.Fprintf(&b, "# %s\n", line)
	}
	b.WriteString("[mysqld]\n")
	for _, o := range opts {
		names := []string{o.Name}
		if o.Renamed {
			names = append(names, o.older())
		}
		for _, name := range names {
			if o.Loose {
				b.WriteString("loose_")
			}
			b.WriteString(name)
			if o.Value != "" {
				b.WriteString("=" + o.Value)
			}
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
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

// takenAs reports whether the variable's value is what the option promised. An event scheduler that
// is disabled is off, and cannot even be started.
func (o Option) takenAs(value string) bool {
	return value == o.Verify || o.Name == variableEvents && value == eventsDisabled
}

// compare names what is not as the options promised. A loose option that the server does not know
// promises nothing.
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
		if o.Verify != "" && !o.takenAs(got) && (known || !o.Loose) {
			wrong = append(wrong, fmt.Sprintf("%s is %q, not %q", name, got, o.Verify))
		}
	}
	return wrong
}
