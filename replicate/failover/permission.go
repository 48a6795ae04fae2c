package failover

import (
	"fmt"
	"time"
)

// Rate is by how much the rate of a clock may differ from real time: 1 in 100.
const Rate = 100

// Timings are the durations of the protocol. Each member counts them on its own CLOCK_BOOTTIME.
type Timings struct {
	// Renew is how often the leader renews the Lease, Request how long one request may take.
	Renew, Request time.Duration
	// Permission is how long the leader may write after it *sent* a renewal that succeeded.
	// Kill is how long SIGKILL may take to end the server.
	Permission, Kill time.Duration
	// Duration is how long the others see the Lease unrenewed before they seek it.
	Duration time.Duration
	// Report bounds the collection of reports, Electing an election, and Promotion the time
	// from being the heir to being open.
	Report, Electing, Promotion time.Duration
	// Degrade is how long commits wait without acknowledger before mode preferred empties
	// the set.
	Degrade time.Duration
	// Unhealthy is how long a leader whose server does not answer renews the Lease.
	Unhealthy time.Duration
	// Disk is how long a leader leads on whose volume takes no writes, where another member could lead.
	Disk time.Duration
	// Stable is how long a leader has to lead for its term not to count as short.
	Stable time.Duration
}

// DefaultTimings are the flags' defaults.
var DefaultTimings = Timings{
	Renew: time.Second, Request: 1200 * time.Millisecond,
	Permission: 4400 * time.Millisecond, Kill: 500 * time.Millisecond, Duration: 5 * time.Second,
	Report: 2 * time.Second, Electing: 10 * time.Second, Promotion: 30 * time.Second,
	Degrade: 3 * time.Second, Unhealthy: 3 * time.Second, Disk: 10 * time.Second, Stable: time.Minute,
}

// Validate says which durations do not fit together.
func (t Timings) Validate() error {
	for name, d := range map[string]time.Duration{
		"renew": t.Renew, "request": t.Request, "permission": t.Permission, "kill": t.Kill, "duration": t.Duration, "report": t.Report,
		"electing": t.Electing, "promotion": t.Promotion, "degrade": t.Degrade, "unhealthy": t.Unhealthy, "disk": t.Disk, "stable": t.Stable,
	} {
		if d <= 0 {
			return fmt.Errorf("the %s time must be more than 0", name)
		}
	}
	switch {
	case t.Permission < 2*(t.Renew+t.Request):
		return fmt.Errorf("the permission of %s is less than two renewals of %s that take up to %s each", t.Permission, t.Renew, t.Request)
	case t.Duration < t.longest():
		return fmt.Errorf("the Lease's duration of %s is shorter than what another clock may count during the permission of %s and the kill time of %s: %s",
			t.Duration, t.Permission, t.Kill, t.longest())
	case t.Electing < 2*t.Report:
		return fmt.Errorf("the election's %s is less than two collections of reports of %s", t.Electing, t.Report)
	case t.Promotion < t.Duration:
		return fmt.Errorf("the promotion's %s is less than the Lease's duration of %s", t.Promotion, t.Duration)
	case t.Unhealthy >= t.Electing:
		return fmt.Errorf("a leader that does not answer is given %s, and an election only %s", t.Unhealthy, t.Electing)
	case t.Disk < minDisk:
		return fmt.Errorf("a disk that stands for %s is no broken one: at least %s", t.Disk, minDisk)
	}
	return nil
}

// minDisk is for how long a sound disk may take no writes.
const minDisk = 3 * time.Second

// longest is what the fastest allowed clock counts while the slowest counts the permission, and
// the kill after it. Both differ from real time by 1/Rate.
func (t Timings) longest() time.Duration {
	return Stretch(t.Permission) + Stretch(t.Kill)
}

// Stretch is the most that one clock counts while another counts d, rounded up.
func Stretch(d time.Duration) time.Duration {
	return (d*(Rate+1) + Rate - 2) / (Rate - 1)
}

// Shrink is the least that one clock counts while another counts d, rounded down.
func Shrink(d time.Duration) time.Duration {
	return d * (Rate - 1) / (Rate + 1)
}

// Deadline is until when a leader may write after a renewal that it sent at the given instant of its
// CLOCK_BOOTTIME. An earlier deadline is never the result.
func Deadline(now, sent, lasts time.Duration) time.Duration {
	return max(now, sent+lasts)
}

// Promised is for how long a leader may write after it asked a member that promised to follow it.
// The member holds that for a time on its own clock, from when it was asked, and after a restart in
// full again. The server is dead by the end of it, however both clocks go.
func (t Timings) Promised(held time.Duration) time.Duration {
	return min(t.Permission, Shrink(held-Stretch(t.Kill)))
}

// Overdue says that a leader asks all members to follow it, as its last renewal of the Lease was
// sent that long ago. A renewal that took as long as it may has not been late by then, and two
// questions still fit into the permission.
func (t Timings) Overdue(unrenewed time.Duration) bool { return unrenewed >= t.Renew+t.Request }

// BackOff is how long an election waits after a number of short terms in a row: the first three
// cost nothing, then it doubles up to ten minutes.
func (t Timings) BackOff(short int) time.Duration {
	if short < 3 {
		return 0
	}
	return min(t.Duration<<min(short-3, 10), 10*time.Minute)
}
