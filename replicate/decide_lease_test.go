package replicate

import (
	"testing"

	"understudy/replicate/lead"
)

// The rows of the table above view.decide.
func TestDecideByLease(t *testing.T) {
	leads, follows := lead.Role{Leads: true}, lead.Role{Follows: "db-1"}
	holds, reseed := lead.Role{Hold: "an election"}, lead.Role{Follows: "db-1", Reseed: "a tail"}
	by := func(r lead.Role) func(*view) { return func(v *view) { v.s.Role = &r } }
	openedByHand := func(v *view) { writable(v); v.f.Opened = true }
	gtids := func(v *view) { v.f.UsesGTID = true }
	for _, tt := range []struct {
		name string
		v    view
		want Step
	}{
		{"no Lease", primary(readOnly), OpenForWrites},
		{"a server that a statement has opened, of one that does not lead", replica(openedByHand, by(holds)), Wait},
		{"the same while it follows", replica(openedByHand, by(follows)), Wait},
		{"a server that has started writable", replica(writable, by(holds)), Fence},
		{"events on a replica", replica(eventsRun, by(holds)), StopEvents},
		{"its image is done", primary(readOnly, imageDone, by(holds)), MarkComplete},
		{"the server does not answer", replica(noAnswer, by(holds)), Wait},
		{"somebody has paused it", replica(paused, by(reseed)), Leave},
		{"its data have to be replaced", replica(by(reseed)), Reseed},
		{"it has reported, and its receiver is stopped", replica(ioStopped, by(holds)), Wait},
		{"it has no channel, and holds", replica(noChannel, gtids, by(holds)), Wait},
		{"it is to lead, and is not open", primary(readOnly, by(leads)), AwaitTerm},
		{"it leads, its writes are blocked, and a member has more", primary(readOnly, level(behind), by(leads)), Wait},
		{"the same before the first term", primary(readOnly, level(behind), by(lead.Role{Leads: true, Begins: true})), Follow},
		{"it leads", primary(by(leads)), Rest},
		{"it led, and follows", replica(noChannel, gtids, from(nil), by(follows)), Repoint},
		{"the same, and the leader lacks what it has", replica(noChannel, gtids, from(nil), sourceSays("0-101-6", ""), by(follows)), Reseed},
		{"it follows", replica(by(follows)), Rest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.v.decide(); got.Step != tt.want {
				t.Errorf("%q (%s), want %q", got.Step, got.Reason, tt.want)
			}
		})
	}
}
