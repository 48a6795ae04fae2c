//go:build failover

package failover

import (
	"context"
	"fmt"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

// What differs between the flavours.

// ofServer is a value that says which server has written a row: on MariaDB a leader has an id of its
// term. isOpen is whether clients can write.
func (f *fixture) ofServer() string {
	if f.mariaDB {
		return "@@GLOBAL.server_id"
	}
	return "@@server_uuid"
}

func (f *fixture) isOpen() string {
	if f.mariaDB {
		return "@@GLOBAL.read_only = 'OFF'"
	}
	return "NOT @@GLOBAL.super_read_only"
}

// closing is the statement that closes a server.
func (f *fixture) closing() string {
	if f.mariaDB {
		return "SET GLOBAL read_only = ON"
	}
	return "SET GLOBAL super_read_only = ON"
}

func (f *fixture) flavor() flavor.Flavor {
	if f.mariaDB {
		return flavor.MariaDB
	}
	return flavor.MySQL
}

// executed is what a member has executed.
func (f *fixture) executed(ctx context.Context, m *set.Member) gtid.History {
	f.t.Helper()
	return f.executedBy(ctx, m.Server)
}

func (f *fixture) executedBy(ctx context.Context, s *testserver.Server) gtid.History {
	f.t.Helper()
	query := "SELECT @@GLOBAL.gtid_executed, ''"
	if f.mariaDB {
		query = "SELECT @@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_binlog_state"
	}
	var texts [2]string
	err := s.DB().QueryRowContext(ctx, query).Scan(&texts[0], &texts[1])
	var h gtid.History
	if err == nil {
		h, err = gtid.Parse(f.flavor(), texts[:]...)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return h
}

// awaitExecuted waits until a member has executed all that another one has.
func (f *fixture) awaitExecuted(ctx context.Context, m *set.Member, all gtid.History) {
	f.t.Helper()
	f.await(ctx, m.Name()+" has executed what the leader has", func() (bool, string) {
		has := f.executed(ctx, m)
		return has.Contains(all), fmt.Sprintf("%s of %s", has, all)
	})
}

// waitingFor are the sessions whose statement has that text, and which have been at it for a second.
func (f *fixture) waitingFor(text string) string {
	if f.mariaDB {
		return "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%" + text + "%' AND TIME >= 1 AND ID <> CONNECTION_ID()"
	}
	return "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_INFO LIKE '%" + text + "%' AND PROCESSLIST_TIME >= 1 AND PROCESSLIST_ID <> CONNECTION_ID()"
}
