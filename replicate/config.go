package replicate

import (
	"bytes"
	"fmt"
	"strconv"

	"understudy/replicate/flavor"
)

// Option is one line of the server configuration that `understudy init` writes.
type Option struct {
	Name string
	// Value is empty for an option that is given bare.
	Value string
	// Loose options are unknown to some versions, which then ignore them.
	Loose bool
	// Verify is what the server's variable Name must say afterwards; empty when the
	// sidecar does not check it. Only this proves that a loose option took.
	Verify string
}

// Settings is what a member's configuration depends on.
type Settings struct {
	Flavor     flavor.Flavor
	ServerID   uint32
	ReportHost string
	// Replica is false for the first ordinal.
	Replica bool
	// BinlogBasename keeps an existing directory's binary logs; empty for the server's default.
	BinlogBasename string
	// KeepGTIDMode leaves gtid_mode as an adopted MySQL directory has it.
	KeepGTIDMode bool
	// Initialising says that the server's image is about to make the data directory,
	// which it cannot do read-only.
	Initialising bool
}

// Defaults are the options that an operator's own files may override.
func Defaults() []Option {
	const week = 7 * 24 * 60 * 60
	return []Option{
		// MySQL 8.0, MariaDB 10.6 and later; in seconds.
		{Name: "binlog_expire_logs_seconds", Value: strconv.Itoa(week), Loose: true},
	}
}

// Options are the identity of a member, and what its replication is only safe with.
// They come after an operator's own files. The sidecar verifies the same list.
func Options(s Settings) []Option {
	opts := []Option{
		{Name: "server_id", Value: strconv.FormatUint(uint64(s.ServerID), 10), Verify: strconv.FormatUint(uint64(s.ServerID), 10)},
		{Name: "report_host", Value: s.ReportHost},
		{Name: "log_bin", Value: s.BinlogBasename, Verify: "ON"},
		{Name: "sync_binlog", Value: "1", Verify: "1"},
		{Name: "innodb_flush_log_at_trx_commit", Value: "1", Verify: "1"},
		{Name: "relay_log_recovery", Value: "ON", Verify: "ON"},
	}
	if s.Flavor == flavor.MariaDB {
		opts = append(
			opts,
			Option{Name: "log_slave_updates", Value: "ON", Verify: "ON"},
			Option{Name: "gtid_strict_mode", Value: "ON", Verify: "ON"},
			Option{Name: "skip_slave_start", Value: "ON"},
		)
	} else {
		// The names changed in MySQL 8.0.26; a server reads the one that it knows.
		opts = append(
			opts,
			Option{Name: "log_replica_updates", Value: "ON", Loose: true},
			Option{Name: "log_slave_updates", Value: "ON", Loose: true},
			Option{Name: "skip_replica_start", Value: "ON", Loose: true},
			Option{Name: "skip_slave_start", Value: "ON", Loose: true},
			Option{Name: "plugin_load_add", Value: "mysql_clone.so"}, // since 8.0.17; for the engine clone
		)
		if !s.KeepGTIDMode {
			opts = append(
				opts,
				Option{Name: "gtid_mode", Value: "ON", Verify: "ON"},
				Option{Name: "enforce_gtid_consistency", Value: "ON", Verify: "ON"},
			)
		}
	}
	if s.Replica {
		opts = append(opts, Option{Name: "event_scheduler", Value: "OFF", Verify: "OFF"})
	}
	if !s.Initialising {
		opts = append(opts, Option{Name: "read_only", Value: "ON"})
		if s.Flavor == flavor.MySQL {
			opts = append(opts, Option{Name: "super_read_only", Value: "ON"})
		}
	}
	return opts
}

// Render writes options as an option file, below the comment lines given.
func Render(opts []Option, comment ...string) []byte {
	var b bytes.Buffer
	for _, line := range comment {
		fmt.Fprintf(&b, "# %s\n", line)
	}
	b.WriteString("[mysqld]\n")
	for _, o := range opts {
		if o.Loose {
			b.WriteString("loose_")
		}
		b.WriteString(o.Name)
		if o.Value != "" {
			b.WriteString("=" + o.Value)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}
