package replicate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"understudy/replicate/flavor"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Each look is so many seconds after noon.
func TestWatchSource(t *testing.T) {
	type look struct {
		at   int
		c    *Channel
		gone time.Duration // what without says
	}
	idle := func(beats int64) *Channel {
		return &Channel{IO: "Yes", Heartbeats: beats, HeartbeatPeriod: 2 * time.Second, Lag: new(int64)}
	}
	read := func(position uint64) *Channel {
		c := idle(1)
		c.Read, _ = ParseCoordinate(fmt.Sprintf("binlog.000001:%d", position))
		return c
	}
	away := func() *Channel { return &Channel{IO: "Connecting", IOErrno: 2003, Heartbeats: 1} }
	slow := func() *Channel { c := idle(1); c.HeartbeatPeriod = 30 * time.Second; return c }
	mute := func() *Channel { c := idle(-1); c.HeartbeatPeriod = 0; return c }
	for name, looks := range map[string][]look{
		"heartbeats come":                {{0, idle(1), 0}, {20, idle(2), 0}, {29, idle(2), 0}},
		"transactions come":              {{0, read(4), 0}, {20, read(9), 0}, {40, read(20), 0}},
		"nothing comes":                  {{0, idle(1), 0}, {9, idle(1), 0}, {10, idle(1), 10 * time.Second}, {50, idle(1), 50 * time.Second}, {52, idle(2), 0}},
		"it connects":                    {{0, idle(1), 0}, {1, away(), time.Second}, {60, away(), time.Minute}, {62, idle(1), 0}},
		"away since the first look":      {{5, away(), 0}, {65, away(), time.Minute}},
		"removed, and made again":        {{0, away(), 0}, {60, nil, 0}, {70, away(), 0}},
		"heartbeats come twice a minute": {{0, slow(), 0}, {80, slow(), 0}, {90, slow(), 90 * time.Second}},
		"nobody counts heartbeats":       {{0, mute(), 0}, {1000, mute(), 0}},
	} {
		t.Run(name, func(t *testing.T) {
			var w standstill
			for _, l := range looks {
				f := Facts{Seen: noon.Add(time.Duration(l.at) * time.Second), Channel: l.c}
				w.watch(&f)
				if got := f.Channel.without(f.Seen); got != l.gone {
					t.Errorf("at %d s: %v without a source, want %v", l.at, got, l.gone)
				}
				if c := f.Channel; c != nil && c.Silent != (c.IO == "Yes" && l.gone > 0) || c != nil && c.Silent && c.Lag != nil {
					t.Errorf("at %d s: silent: %v, lag %v", l.at, c.Silent, c.Lag)
				}
			}
		})
	}
}

func TestWatchCommits(t *testing.T) {
	type look struct {
		at, waiting  int
		acknowledged uint64
		stuck        bool
	}
	for name, looks := range map[string][]look{
		"nobody commits":         {{0, 0, 7, false}, {60, 0, 7, false}},
		"one after another":      {{0, 1, 7, false}, {30, 2, 8, false}, {60, 1, 9, false}},
		"none is acknowledged":   {{0, 0, 7, false}, {2, 1, 7, false}, {11, 3, 7, false}, {12, 3, 7, true}, {13, 3, 8, false}, {14, 2, 8, false}, {24, 2, 8, true}},
		"the first look is late": {{0, 4, 0, false}, {10, 4, 0, true}},
	} {
		t.Run(name, func(t *testing.T) {
			var w standstill
			for _, l := range looks {
				f := Facts{Seen: noon.Add(time.Duration(l.at) * time.Second), SemiSync: SemiSyncFacts{Waiting: l.waiting, Acknowledged: l.acknowledged}}
				if w.watch(&f); f.SemiSync.stuck(f.Seen) != l.stuck {
					t.Errorf("at %d s: stuck: %v", l.at, !l.stuck)
				}
			}
		})
	}
}

func TestTrouble(t *testing.T) {
	at := func(v *view) { v.f.Seen = noon }
	stuck := func(seconds int) func(*view) {
		return func(v *view) {
			semiSync(SemiSyncRequired, inForce)(v)
			v.f.SemiSync.Stuck = noon.Add(-time.Duration(seconds) * time.Second)
		}
	}
	heard := func(seconds int) func(*view) {
		return channel(func(c *Channel) { c.Heard = noon.Add(-time.Duration(seconds) * time.Second) })
	}
	full := func(v *view) { v.f.Volume = Space{Free: fullBelow - 1, Size: 10 << 30} }
	ends := func(times int) func(*view) {
		return func(v *view) {
			v.f.Container = Container{Restarts: times, Failed: true, State: "the server's container ended with exit code 7: unknown option"}
			v.f.completeTrouble()
		}
	}
	for _, tt := range []struct {
		name string
		v    view
		want string
		help bool
	}{
		{"nothing", primary(at), "", false},
		{"a replica with which all is well", replica(at, heard(100)), "", false},
		{"paused", replica(at, paused, sqlFailed, full), "", false},
		{"a report", replica(at, sqlFailed), "1062", true},
		{"a full primary", primary(at, full), "the volume is full: less than 64 MiB of 10240 MiB are free; commits wait or fail", true},
		{"a full replica", replica(at, full), "cannot store what its source sends", true},
		{"a server that starts", primary(noAnswer), "", false},
		{"a server that ended", primary(noAnswer, ends(1)), "the server's container ended with exit code 7: unknown option", false},
		{"a server that ends again and again", primary(noAnswer, ends(3)), "unknown option", true},
		{"commits wait for a moment", primary(at, stuck(9)), "", false},
		{"commits wait", primary(at, stuck(10)), "since 2026-03-01T11:59:50Z", false},
		{"the primary restarts", replica(at, cannotReach, heard(29)), "", false},
		{"the primary is away", replica(at, cannotReach, heard(3600)), "nothing has come from its source db-0.db:3306 since 2026-03-01T11:00:00Z: error 2003", false},
		{"the primary is silent", replica(at, silent, heard(60)), "not even a heartbeat", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := trouble(tt.v.s, tt.v.f, Decide(tt.v.s, tt.v.f), Futile{})
			if !strings.Contains(got.Text, tt.want) || (got.Text == "") != (tt.want == "") || got.Help != tt.help {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestSpace(t *testing.T) {
	for _, tt := range []struct {
		s    Space
		full bool
		text string
	}{
		{Space{}, false, ""},
		{Space{Free: 0, Size: 10 << 30}, true, "less than 64 MiB of 10240 MiB are free"},
		{Space{Free: fullBelow, Size: 10 << 30}, false, ""},
		{Space{Free: 50 << 20, Size: 200 << 20}, false, ""},
		{Space{Free: 9 << 20, Size: 200 << 20}, true, "less than 10 MiB of 200 MiB are free"},
	} {
		if tt.s.Full() != tt.full || tt.full && tt.s.String() != tt.text {
			t.Errorf("%+v: full: %v, %q", tt.s, tt.s.Full(), tt.s)
		}
	}
}

func TestAlarm(t *testing.T) {
	var a alarm
	for _, tt := range []struct {
		at                int
		text, wrong, over string
	}{
		{0, "", "", ""},
		{2, "A", "A", ""},
		{4, "A", "", ""},
		{6, "", "", ""},    // too soon to be over
		{8, "A", "", ""},   // it was not
		{10, "B", "B", ""}, // another one in its place
		{12, "", "", ""},
		{25, "", "", "over after 8s: B"},
		{27, "", "", ""},
		{29, "B", "B", ""},
	} {
		wrong, over := a.next(noon.Add(time.Duration(tt.at)*time.Second), Trouble{Text: tt.text})
		if wrong != tt.wrong || over != tt.over {
			t.Errorf("at %d s: %q, %q", tt.at, wrong, over)
		}
	}
}

// The words are MySQL's from 8.0.26 on; older ones, and MariaDB, have others.
func TestHeartbeatStatements(t *testing.T) {
	for v, want := range map[flavor.Version]string{version: "MASTER_HEARTBEAT_PERIOD = 2, ", versions["mysql 9.7"]: "SOURCE_HEARTBEAT_PERIOD = 2, "} {
		d := dialectOf(v)
		for _, st := range []statement{d.repointStatements(source)[1], d.loginStatements(source)[1]} {
			if !strings.Contains(st.text, want) {
				t.Errorf("%s: %s", v, st.text)
			}
		}
	}
}

// An applier that a full volume stopped is started again when there is room, once.
func TestWatchRoom(t *testing.T) {
	var w standstill
	little, much := Space{Free: 0, Size: 10 << 30}, Space{Free: 5 << 30, Size: 10 << 30}
	for i, tt := range []struct {
		volume Space
		runs   bool
		want   bool
	}{
		{much, true, false},
		{much, false, false},
		{little, true, false},
		{little, false, false},
		{Space{}, false, false}, // it is not known
		{much, false, true},
		{much, false, true},
		{much, true, false},
		{much, false, false},
	} {
		f := Facts{Volume: tt.volume, Channel: &Channel{SQLRunning: tt.runs}}
		if w.watch(&f); f.RoomAgain != tt.want {
			t.Errorf("look %d: %v", i, f.RoomAgain)
		}
	}
}
