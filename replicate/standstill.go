package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"understudy/replicate/flavor"
)

// A connection whose other end is silently away, by a cut network or a machine that hangs, looks
// like one on which nothing happens, until TCP or the server gives it up, after a minute or more.
// So what should move, and does not, is looked at over several looks: a source sends a heartbeat
// when it has nothing else to send, and a commit that waits is acknowledged.

const (
	// heartbeat is how often a source says that it lives, in seconds, when it has nothing else to
	// say. The servers' own default is half of replica_net_timeout: 30 s.
	heartbeat = 2
	// silentAfter is from when on a source that sends nothing counts as silent. It is longer where
	// the channel's heartbeats come less often.
	silentAfter = 10 * time.Second
	// noSourceAfter is from when on a replica without a source is a trouble: the primary may just
	// be restarting.
	noSourceAfter = 30 * time.Second
	// stuckAfter is from when on commits that wait count as stuck. With preferred none waits for
	// longer.
	stuckAfter = preferredWait * time.Millisecond
)

// standstill is what the agent remembers from one look to the next.
type standstill struct {
	// signs are what moves with each byte from the source, heard when they moved last.
	signs string
	heard time.Time
	// acknowledged is how many commits were, stuck since when others wait meanwhile.
	acknowledged uint64
	stuck        time.Time
	// full says that the volume was, since the applier was last seen to run.
	full bool
}

// watch compares a look at the server with those before it.
func (w *standstill) watch(f *Facts) {
	w.watchSource(f.Seen, f.Channel)
	switch {
	case f.Volume.Full():
		w.full = true
	case f.Channel == nil || f.Channel.SQLRunning:
		w.full = false
	}
	f.RoomAgain = w.full && f.Volume.Size > 0 && !f.Volume.Full()
	m := &f.SemiSync
	if m.Waiting == 0 || m.Acknowledged != w.acknowledged {
		w.stuck = time.Time{}
	} else if w.stuck.IsZero() {
		w.stuck = f.Seen
	}
	w.acknowledged, m.Stuck = m.Acknowledged, w.stuck
}

func (w *standstill) watchSource(now time.Time, c *Channel) {
	if c == nil {
		w.signs, w.heard = "", time.Time{}
		return
	}
	signs := fmt.Sprint(c.Host, c.Port, c.IO, c.Read, c.Received, c.Heartbeats)
	switch {
	case w.heard.IsZero():
		w.heard = now
	case c.IO == "Yes" && (signs != w.signs || c.Heartbeats < 0):
		w.heard = now
	}
	w.signs, c.Heard = signs, w.heard
	if c.IO == "Yes" && now.Sub(c.Heard) >= max(silentAfter, 3*c.HeartbeatPeriod) {
		c.Silent, c.Lag = true, nil // the server goes on to say 0
	}
}

// without is for how long the channel has had no source, as of a look at the server: 0 while it has
// one.
func (c *Channel) without(seen time.Time) time.Duration {
	if c == nil || c.IO == "Yes" && !c.Silent {
		return 0
	}
	return seen.Sub(c.Heard)
}

// withoutSource says so, and why.
func (f Facts) withoutSource() string {
	c := f.Channel
	text := fmt.Sprintf("nothing has come from its source %s:%d since %s", c.Host, c.Port, stamp(c.Heard))
	switch {
	case c.Silent && f.Volume.Full():
		return text + ": the volume is full, and the receiver waits for room"
	case c.Silent:
		return text + ", not even a heartbeat, although the connection is open: the network between them is cut, or the source hangs"
	case c.IOErrno != 0:
		return fmt.Sprintf("%s: error %d: %s", text, c.IOErrno, c.IOError)
	}
	return text + ": the receiver does not run"
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// waited is for how long commits have waited and none was acknowledged, as of a look at the server.
func (f SemiSyncFacts) waited(seen time.Time) time.Duration {
	if f.Stuck.IsZero() {
		return 0
	}
	return seen.Sub(f.Stuck)
}

// stuck says that this is too long.
func (f SemiSyncFacts) stuck(seen time.Time) bool { return f.waited(seen) >= stuckAfter }

// beats says that the channel's source says often enough that it lives, as far as that is known.
func (c *Channel) beats() bool { return c.HeartbeatPeriod <= heartbeat*time.Second }

// readHeartbeats adds how many heartbeats have come, and how often they do; -1 where the server
// does not say.
func (c *Channel) readHeartbeats(ctx context.Context, db *sql.DB, f flavor.Flavor, r row) error {
	count, period := r.text(columnHeartbeats), r.text(columnHeartbeatPeriod)
	if f == flavor.MySQL {
		err := db.QueryRowContext(ctx, queryHeartbeats).Scan(&count, &period)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("read the heartbeats of the source: %w", err)
		}
	}
	var err error
	if c.Heartbeats, err = strconv.ParseInt(count, 10, 64); err != nil {
		c.Heartbeats = -1
	}
	seconds, _ := strconv.ParseFloat(period, 64) // 0 where there are none
	c.HeartbeatPeriod = time.Duration(seconds * float64(time.Second))
	return nil
}
