//go:build failover

package failover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"understudy/e2e/set"
)

// Scheduled events run on the leader and nowhere else, whoever leads: those that ran on the leader
// before, by the same definers.
func TestEvents(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required")
	for i := range f.n { // MariaDB's scheduler is off where nobody says anything
		m := f.Member(i)
		if err := errors.Join(os.MkdirAll(m.Config, 0o750), os.WriteFile(filepath.Join(m.Config, "operator.cnf"), []byte("[mysqld]\nevent_scheduler = ON\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	_, stop := f.begin(ctx)
	for _, text := range []string{
		"CREATE USER 'clerk'@'%'", "GRANT ALL ON acked.* TO 'clerk'@'%'",
		"CREATE TABLE acked.beats (n BIGINT AUTO_INCREMENT PRIMARY KEY, server CHAR(36), event CHAR(8))",
		"CREATE DEFINER='clerk'@'%' EVENT acked.beat ON SCHEDULE EVERY 1 SECOND DO INSERT INTO acked.beats (server, event) VALUES (" + f.ofServer() + ", 'beat')",
		"CREATE EVENT acked.`sl``eps` ON SCHEDULE EVERY 1 SECOND DISABLE DO INSERT INTO acked.beats (server, event) VALUES (" + f.ofServer() + ", 'sleeps')",
	} {
		if _, err := f.Member(0).Server.DB().ExecContext(ctx, text); err != nil {
			t.Fatal(text, err)
		}
	}
	f.beats(ctx, f.Member(0))
	f.moreBeats(ctx) // for long enough for the members to hear of it
	r := f.named(ctx, 2)
	old := f.byName(r.Holder)
	old.Server.Kill()
	f.moved(ctx, r)
	r = f.named(ctx, 1)
	f.beats(ctx, f.byName(r.Holder))
	if err := old.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	f.rejoin(ctx, old)

	// A planned change back, to a server on which they ran before, and another one to a server that has
	// not been restarted since it led.
	for _, to := range []string{old.Name(), r.Holder} {
		f.named(ctx, 2)
		if _, err := f.switchover(ctx, to); err != nil {
			t.Fatal(err)
		}
		f.beats(ctx, f.byName(to))
	}
	stop()
	var servers, sleeps int
	leader := f.byName(r.Holder).Server.DB()
	if err := leader.QueryRowContext(ctx, "SELECT COUNT(DISTINCT server), COUNT(IF(event = 'sleeps', 1, NULL)) FROM acked.beats").Scan(&servers, &sleeps); err != nil || servers < 2 || sleeps > 0 {
		t.Errorf("events ran on %d servers, and one that is disabled %d times: %v", servers, sleeps, err)
	}
	var definer string
	if err := leader.QueryRowContext(ctx, "SELECT DEFINER FROM information_schema.EVENTS WHERE EVENT_NAME = 'beat'").Scan(&definer); err != nil || definer != "clerk@%" {
		t.Errorf("its definer is %q: %v", definer, err)
	}
}

// beats waits until events run on a member, and sees that they run on no other one.
func (f *fixture) beats(ctx context.Context, leader *set.Member) {
	f.t.Helper()
	uuid, n := "", 0
	f.await(ctx, "events run on "+leader.Name(), func() (bool, string) {
		db := leader.Server.DB()
		err := db.QueryRowContext(ctx, "SELECT "+f.ofServer()).Scan(&uuid)
		last := ""
		if err == nil {
			err = db.QueryRowContext(ctx, "SELECT n, server FROM acked.beats ORDER BY n DESC LIMIT 1").Scan(&n, &last)
		}
		return err == nil && last == uuid, fmt.Sprint(last, err)
	})
	f.moreBeats(ctx)
	rows, err := leader.Server.DB().QueryContext(ctx, "SELECT DISTINCT server FROM acked.beats WHERE n >= ?", n)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var servers []string
	for rows.Next() {
		var server string
		if err := rows.Scan(&server); err != nil {
			f.t.Fatal(err)
		}
		servers = append(servers, server)
	}
	if err := rows.Err(); err != nil {
		f.t.Fatal(err)
	}
	if !slices.Equal(servers, []string{uuid}) {
		f.t.Errorf("events ran on %q, and %s (%s) leads", servers, leader.Name(), uuid)
	}
}

// moreBeats waits for three more.
func (f *fixture) moreBeats(ctx context.Context) {
	f.t.Helper()
	leader := f.byName(f.lease(ctx).Holder).Server.DB()
	begun := -1
	f.await(ctx, "events run three times more", func() (bool, string) {
		var n int
		err := leader.QueryRowContext(ctx, "SELECT COUNT(*) FROM acked.beats").Scan(&n)
		if begun < 0 && err == nil {
			begun = n
		}
		return err == nil && n >= begun+3, fmt.Sprint(begun, n, err)
	})
}
