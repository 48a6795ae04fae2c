package lead

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy/replicate/fence"

	"golang.org/x/sys/unix"
)

// A leader whose disk is full, or stands still, answers its sidecar as ever, and takes no commits.
// So each sidecar writes to its own volume; see yield for what a leader does that cannot.

const (
	// tryEvery is the time between two tries.
	tryEvery = time.Second
	// roomSettles is how long a server may take to go on by itself once its volume has room again; from
	// roomEvery on it has looked again. Both flavours look once a minute.
	roomSettles, roomEvery = 3 * time.Second, time.Minute
	// roomToGoOn is what a server needs at least, in bytes, roomAgain what a volume has to have again
	// that had no room: the end of a server frees some, and not for long.
	roomToGoOn, roomAgain = 1 << 20, 64 << 20
)

// disk is what is known of the member's volume.
type disk struct {
	// good is when the last try began that succeeded; failed is why the last one did not.
	good   time.Duration
	failed error
	// again is when the first try began that succeeded after one that had not; 0: all have.
	again time.Duration
	// stuckAt is since when a commit is seen to be stuck that began before, stuckWith what the server had
	// executed then.
	stuckAt   time.Duration
	stuckWith string
	// told says that people know of it.
	told bool
}

// keepWriting tries the volume. A try may hang.
func (c *Controller) keepWriting(ctx context.Context) {
	c.mu.Lock()
	c.disk.good = fence.Now()
	c.mu.Unlock()
	for {
		c.tryDisk()
		if !wait(ctx, tryEvery, nil) {
			return
		}
	}
}

func (c *Controller) tryDisk() {
	room := int64(roomToGoOn)
	if c.diskTrouble() != "" {
		room = roomAgain
	}
	began := fence.Now()
	err := c.Store.Try(room)
	c.mu.Lock()
	defer c.mu.Unlock()
	d := &c.disk
	before := d.failed
	if d.failed = err; err != nil {
		return
	}
	d.good, d.told = began, false
	if errors.Is(before, unix.ENOSPC) || errors.Is(before, unix.EDQUOT) {
		d.again = began
	}
}

// waitsForRoom says that the server waits for room that its volume has had again for a while: a commit is
// as old, and none has ended since. Empty: it does not, or understudy run is not there to end it.
func (c *Controller) waitsForRoom(ctx context.Context) string {
	c.mu.Lock()
	again, held, fenced, executed := c.disk.again, c.state.Held, c.fenced, c.state.Executed
	if c.disk.failed != nil {
		again = 0
	}
	c.mu.Unlock()
	since := fence.Now() - again
	if again == 0 || since < roomSettles || since > roomEvery || held > 0 || c.Fence == nil || fenced == "" { // those that wait for replicas are no sign
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	stuck, err := c.Server.Stuck(ctx, since)
	c.mu.Lock()
	defer c.mu.Unlock()
	d := &c.disk
	switch {
	case err != nil || !stuck:
		d.stuckAt = 0
	case d.stuckAt == 0 || d.stuckWith != executed:
		d.stuckAt, d.stuckWith = fence.Now(), executed
	case fence.Now()-d.stuckAt >= roomSettles:
		return "its server waits for room, which its volume has again, and looks for it once a minute only"
	}
	return ""
}

// complainEvery is the time between two complaints about the same volume.
const complainEvery = 10 * time.Second

// complain says that a step cannot be taken, as its memory cannot be written.
func (c *Controller) complain(err error) {
	if now := fence.Now(); c.complained == 0 || now-c.complained >= complainEvery {
		c.complained = now
		c.Log.Error("manual action required", "reason", err.Error())
	}
}

// diskTrouble says since when the volume takes no writes, and why, once that is too long.
func (c *Controller) diskTrouble() string { return c.diskTroubleFor(c.Timings.Disk) }

func (c *Controller) diskTroubleFor(long time.Duration) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	bad := fence.Now() - c.disk.good
	switch {
	case c.disk.good == 0 || bad < long:
		return ""
	case c.disk.failed != nil:
		return fmt.Sprintf("its volume has taken no writes for %.0f s: %v", bad.Seconds(), c.disk.failed)
	}
	return fmt.Sprintf("its volume has taken no writes for %.0f s", bad.Seconds())
}
