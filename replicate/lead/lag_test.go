package lead

import (
	"testing"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/flavor"
)

// By how much a member is behind, of what it was told and when the Lease was renewed last.
func TestLag(t *testing.T) {
	const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	c := New(Config{Name: "db-1", Flavor: flavor.MySQL, Mode: failover.Off})
	has := State{Has: uuid + ":1-10"}
	if got := c.lag(has); got >= 0 {
		t.Errorf("nothing was told: %v", got)
	}
	told := func(position string) { c.hearPosition(Ask{Term: 3, Position: uuid + position}) }
	told(":1-10")
	if got := c.lag(has); got != 0 {
		t.Errorf("it has what it was told: %v", got)
	}
	level := c.pace.lastAt
	time.Sleep(20 * time.Millisecond)
	told(":1-11")
	time.Sleep(20 * time.Millisecond)
	told(":1-12")
	last := c.pace.lastAt
	if got := c.lag(has); got != last-level {
		t.Errorf("behind since %v, told last at %v: %v", level, last, got)
	}
	c.seeRenewal(3, last+time.Second) // the leader lives, and does not reach this member
	if got := c.lag(has); got != last+time.Second-level {
		t.Errorf("renewed a second later: %v", got)
	}
	c.seeRenewal(4, last+time.Minute)
	if got := c.lag(State{Has: uuid + ":1-12"}); got != time.Second {
		t.Errorf("it has all that it was told, a second before the last renewal: %v", got)
	}
	c.hearPosition(Ask{Term: 4, Position: uuid + ":1-13"})
	if got := c.lag(State{Has: uuid + ":1-12"}); got >= 0 {
		t.Errorf("it has nothing that the next leader told: %v", got)
	}
}
