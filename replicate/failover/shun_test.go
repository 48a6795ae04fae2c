package failover

import (
	"testing"
	"time"
)

func TestSeeTable(t *testing.T) {
	const now = time.Hour
	seen := func(since, last time.Duration) Shunned { return Shunned{now - since, now - last} }
	see := func(s Shunned, mode Mode, stranger, unknown bool) func() string {
		return func() string {
			next, step := s.See(mode, stranger, unknown, now)
			if (next == Shunned{}) != (step == Trust) || stranger && step != Trust && next.Last != now {
				t.Errorf("it remembers %+v", next)
			}
			return string(step)
		}
	}
	hold(t, rows(t, "shun.go", "(s Shunned) See"), []row{
		{"mode off: no acknowledgement counts", "trust", see(seen(ShunAfter, 0), Off, true, false)},
		{"a stranger, for ShunAfter", "shun", see(seen(ShunAfter, time.Second), Required, true, false)},
		{"a stranger", "name nobody", see(Shunned{}, Preferred, true, false)},
		{"none, nor before", "trust", see(Shunned{}, Required, false, true)},
		{"none for ShunGone, and that is known", "trust", see(seen(time.Minute, ShunGone), Required, false, false)},
		{"else", "name nobody", see(seen(time.Minute, ShunGone), Required, false, true)},
	}, map[string]string{"Trust": "trust", "NameNobody": "name nobody", "Shun": "shun"})
}
