package replicate

import (
	"errors"
	"os"
	"strings"
	"testing"

	"understudy/replicate/flavor"
	"understudy/replicate/lead"
)

// A server without GTIDs has no part in what the Lease decides, and the agent says so.
func TestHandWithoutGTIDs(t *testing.T) {
	p := mysqlPrimary(t, true)
	h := p.hand(t)
	seen := func() string {
		return p.agent.observe(t.Context(), Standing{Flavor: flavor.MySQL, Role: &lead.Role{Follows: "db-0"}}).Trouble
	}
	if _, err := h.Look(t.Context()); !errors.Is(err, errNoGTIDs) || !strings.Contains(seen(), "--primary=lease away") {
		t.Errorf("%v; the agent: %q", err, seen())
	}
	p.run(t, "SET GLOBAL enforce_gtid_consistency = ON", "SET GLOBAL gtid_mode = OFF_PERMISSIVE", "SET GLOBAL gtid_mode = ON_PERMISSIVE", "SET GLOBAL gtid_mode = ON")
	if _, err := h.Look(t.Context()); err != nil || seen() != "" {
		t.Errorf("with GTIDs: %v; the agent: %q", err, seen())
	}
}

// A clock that was set back to before the server's start is no reason not to know when that was.
func testUptime(t *testing.T, p *member) {
	t.Helper()
	text := must[[]byte](t)(os.ReadFile("/proc/sys/kernel/random/boot_id"))
	if boot := must[string](t)(readBoot(t.Context(), p.session(t, "root", rootPassword))); !strings.HasPrefix(boot, string(text[:8])+".") {
		t.Errorf("the server's start %s does not tell that of its machine, %s", boot, text)
	}
	conn := p.session(t, "root", rootPassword)
	for _, ahead := range []int64{1000, -1000} {
		_, err := conn.ExecContext(t.Context(), "SET SESSION timestamp = UNIX_TIMESTAMP(SYSDATE()) + ?", ahead)
		noError(t, err)
		uptime := must[int64](t)(readUptime(t.Context(), conn))
		if since := uptime - ahead; since < 0 || since > 600 {
			t.Errorf("by a clock that is ahead by %d s the server has run for %d s", ahead, uptime)
		}
	}
}
