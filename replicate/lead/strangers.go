package lead

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// A server counts the acknowledgement of every replica whose side of semi-sync is on, also of one that
// is no member: an outside replica, or a member that logs in with the account that all share. A commit
// that only such a replica has is lost by a failover. No server can be told whom to believe. So while
// one is there the Lease names nobody, and only the leader's own data can be elected: what the
// stranger alone acknowledges is there.

// strangers is what a leader remembers of them.
type strangers struct {
	since time.Duration
	// told are those that people have been told of.
	told []string
}

// strangersAfter is for how long a stranger has to be seen: connections that end are not listed and
// counted at one instant.
const strangersAfter = time.Second

// shun empties the set of acknowledgers while strangers acknowledge. False: there are none.
func (c *Controller) shun(ctx context.Context, v view, state State) bool {
	l, r, now := &c.work.strangers, *v.record, fence.Now()
	switch {
	case r.Mode == failover.Off || len(state.Strangers) == 0:
		if l.told != nil {
			c.Log.Info("no stranger acknowledges any more", "replicas", l.told)
		}
		c.tellStrangers(0, nil)
		return false
	case l.since == 0:
		c.tellStrangers(now, nil)
		return false
	case now-l.since < strangersAfter:
		return false
	}
	if !slices.Equal(l.told, state.Strangers) {
		c.tellStrangers(l.since, state.Strangers)
		text := strangersAcknowledge(state.Strangers)
		c.Log.Warn("strangers acknowledge", "reason", text)
		c.event(true, ReasonStrangers, "%s", text)
	}
	if len(r.Acknowledgers) > 0 {
		_, err := c.line.swap(ctx, v, r.Empty())
		c.did("strangers acknowledge: empty the set", state.Strangers, err)
	}
	return true
}

func (c *Controller) tellStrangers(since time.Duration, told []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.work.strangers = strangers{since, told}
}

// strangersAcknowledge says what is wrong, and what to do.
func strangersAcknowledge(who []string) string {
	return fmt.Sprintf("%s: acknowledges commits and is no member, so a failover could lose them: only this leader's own data can be elected. "+
		"Set rpl_semi_sync_replica_enabled (MariaDB: rpl_semi_sync_slave_enabled) to OFF there, and restart its receiver", strings.Join(who, ", "))
}
