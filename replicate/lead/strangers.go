package lead

import (
	"context"
	"fmt"
	"slices"
	"strings"

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
	failover.Shunned
	// told are those that people have been told of; unknown says that it was said that none can be seen.
	told    []string
	unknown bool
}

// shun empties the set of acknowledgers while strangers acknowledge: nobody is to be named. It may have
// written that, too.
func (c *Controller) shun(ctx context.Context, v view, state State) (shuns, wrote bool) {
	n, r, now := c.work.strangers, *v.record, fence.Now()
	if news := state.StrangersUnknown != nil; news != n.unknown {
		if n.unknown = news; news {
			c.Log.Warn("whether a replica acknowledges that is no member is not known", "error", state.StrangersUnknown)
		}
	}
	var step failover.ShunStep
	n.Shunned, step = n.See(r.Mode, len(state.Strangers) > 0, state.StrangersUnknown != nil, now)
	switch step {
	case failover.Trust:
		if n.told != nil {
			c.Log.Info("no stranger acknowledges any more", "replicas", n.told)
		}
		c.keepStrangers(strangers{unknown: n.unknown})
		return false, false
	case failover.NameNobody:
		c.keepStrangers(n)
		return true, false
	}
	if !slices.Equal(n.told, state.Strangers) {
		n.told = state.Strangers
		text := strangersAcknowledge(n.told)
		c.Log.Warn("strangers acknowledge", "reason", text)
		c.event(true, ReasonStrangers, "%s", text)
	}
	c.keepStrangers(n)
	if len(r.Acknowledgers) == 0 || now < c.work.pause || v.away != "" {
		return true, false
	}
	_, err := c.line.swap(ctx, v, r.Empty())
	c.did("strangers acknowledge: empty the set", state.Strangers, err)
	return true, true
}

// keepStrangers keeps what Status reads.
func (c *Controller) keepStrangers(n strangers) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.work.strangers = n
}

// strangersAcknowledge says what is wrong, and what to do.
func strangersAcknowledge(who []string) string {
	return fmt.Sprintf("a replica acknowledges commits and is no member, so a failover could lose them: only this leader's own data can be elected. It is %s. "+
		"Set rpl_semi_sync_replica_enabled (MariaDB: rpl_semi_sync_slave_enabled) to OFF there, and restart its receiver", strings.Join(who, ", or "))
}
