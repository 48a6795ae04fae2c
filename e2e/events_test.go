//go:build full

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
	"understudy/e2e/testserver"

	"github.com/google/go-cmp/cmp"
)

// ticking creates an event that writes its name and the server it runs on, every second.
const ticking = " ON SCHEDULE EVERY 1 SECOND ENABLE DO INSERT INTO shop.ticks (server, name) SELECT @@server_id, "

// The first ordinal's volume is lost, and its scheduled events come back with the copy of a
// replica: one that the replica had got in its own clone comes back as it was; those created or
// altered since come back disabled. None runs on a replica.
func TestFirstVolumeLostWithEvents(t *testing.T) {
	t.Parallel()
	flavours(t, func(t *testing.T, in testserver.Installation) {
		t.Helper()
		ctx, s := newSet(t, in, nil)
		m0, m1 := s.Member(0), s.Member(1)
		wishesEvents(t, m0)
		wishesEvents(t, m1)
		primary(ctx, t, s, 0)
		execute(ctx, t, m0, "CREATE TABLE shop.ticks (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20), server INT UNSIGNED)",
			"CREATE EVENT shop.cloned"+ticking+"'cloned'", "CREATE EVENT shop.stopped"+ticking+"'stopped'")
		up(ctx, t, m1)
		execute(ctx, t, m0, "ALTER EVENT shop.stopped DISABLE", "CREATE EVENT shop.replicated"+ticking+"'replicated'")
		_, finish := write(ctx, t, m0)
		time.Sleep(3 * time.Second)
		finish(m1)
		dies(m0)
		before := ticks(ctx, t, m1)
		if err := os.RemoveAll(m0.Volume); err != nil {
			t.Fatal(err)
		}
		wishesEvents(t, m0)
		comes(ctx, t, m0)
		want := map[string]string{"cloned": "ENABLED", "replicated": "disabled on a replica", "stopped": "disabled on a replica"}
		for _, m := range []*set.Member{m0, m1} {
			if diff := cmp.Diff(want, events(ctx, t, m)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", m.Name(), diff)
			}
		}
		if !sidecarSaid(t, m0, `"events":["shop.replicated","shop.stopped"]`) {
			t.Error("the sidecar does not name the events that came back disabled")
		}
		eventually(t, time.Minute, "the event of the clone runs", func() bool { return ticks(ctx, t, m0)["cloned on 100"] > before["cloned on 100"]+2 })
		goesOn(ctx, t, m0, m1)
		if got := variable(ctx, t, m1, "event_scheduler"); got != "OFF" {
			t.Errorf("the replica's event scheduler is %s", got)
		}
		after := ticks(ctx, t, m1)
		delete(after, "cloned on 100")
		delete(before, "cloned on 100")
		if diff := cmp.Diff(before, after); diff != "" || before["replicated on 100"] == 0 {
			t.Errorf("events ran that came back disabled, or ran on a replica (-before +after):\n%s", diff)
		}
	})
}

// wishesEvents turns the event scheduler on in a member's configuration.
func wishesEvents(t *testing.T, m *set.Member) {
	t.Helper()
	if err := m.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.Config, "operator.cnf"), []byte("[mysqld]\nevent_scheduler = ON\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ticks counts the rows that each event has written on each server, as a member has them.
func ticks(ctx context.Context, t *testing.T, m *set.Member) map[string]int {
	t.Helper()
	all := map[string]int{}
	query := "SELECT GROUP_CONCAT(name, ' on ', server, '=', n SEPARATOR ';') FROM (SELECT name, server, COUNT(*) AS n FROM shop.ticks GROUP BY name, server) AS t"
	for line := range strings.SplitSeq(column(ctx, t, m, query), ";") {
		name, digits, _ := strings.Cut(line, "=")
		n, err := strconv.Atoi(digits)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = n
	}
	return all
}

// events are a member's events, each with its status.
func events(ctx context.Context, t *testing.T, m *set.Member) map[string]string {
	t.Helper()
	all := map[string]string{}
	query := "SELECT GROUP_CONCAT(event_name, ' ', IF(status IN ('SLAVESIDE_DISABLED', 'REPLICA_SIDE_DISABLED'), 'disabled on a replica', status) SEPARATOR ';') " +
		"FROM information_schema.events WHERE event_schema = 'shop'"
	for event := range strings.SplitSeq(column(ctx, t, m, query), ";") {
		name, status, _ := strings.Cut(event, " ")
		all[name] = status
	}
	return all
}

// column is the first column of a query's rows.
func column(ctx context.Context, t *testing.T, m *set.Member, query string) string {
	t.Helper()
	var text string
	if err := m.Server.DB().QueryRowContext(ctx, query).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}
