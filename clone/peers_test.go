package clone

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"understudy/clone/wire"

	"github.com/google/go-cmp/cmp"
)

// known is a candidate that has answered.
func known(ordinal int, role wire.Role, change ...func(*peer)) *peer {
	p := &peer{Candidate: Candidate{Name: fmt.Sprintf("db-%d", ordinal), Ordinal: ordinal}}
	p.member = wire.Member{Name: p.Name, Role: role, Ready: true, Slots: 1}
	for _, f := range change {
		f(p)
	}
	return p
}

func names(all []*peer) []string {
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	return names
}

func TestRanked(t *testing.T) {
	unready := func(p *peer) { p.member.Ready = false }
	broken := func(p *peer) { p.broken = 1 }
	busy := func(p *peer) { p.err = wire.ErrBusy }
	const primary, replica = wire.Primary, wire.Replica
	for _, tt := range []struct {
		name string
		all  []*peer
		want []string
	}{
		{"only the primary", []*peer{known(0, primary)}, []string{"db-0"}},
		{"replicas spare the primary", []*peer{known(0, primary), known(1, replica)}, []string{"db-1", "db-0"}},
		{"downwards, then upwards", []*peer{
			known(0, primary), known(1, replica), known(2, replica), known(3, replica), known(5, replica), known(6, replica), known(7, replica),
		}, []string{"db-3", "db-2", "db-1", "db-5", "db-6", "db-7", "db-0"}},
		{"busy is out", []*peer{known(0, primary), known(3, replica, busy)}, []string{"db-0"}},
		{"not ready is the last resort", []*peer{known(0, primary), known(3, replica, unready)}, []string{"db-0", "db-3"}},
		{"not the one that just failed", []*peer{known(0, primary), known(3, replica, broken)}, []string{"db-0", "db-3"}},
		{"nobody", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &peers{ordinal: 4, all: tt.all}
			if d := cmp.Diff(tt.want, names(p.ranked())); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	unfit := func(n Need) error {
		if n.StreamBytes > 10 {
			return fmt.Errorf("%w: too large", ErrRefused)
		}
		return nil
	}
	p := &peers{self: "db-1", suitable: unfit}
	for _, tt := range []struct {
		name   string
		member wire.Member
		want   error
	}{
		{"free", wire.Member{Slots: 1, Offer: &wire.Offer{StreamBytes: 10}}, nil},
		{"says nothing of its clones", wire.Member{Slots: 1}, nil},
		{"busy", wire.Member{Slots: 2, SlotsBusy: 2}, wire.ErrBusy},
		{"busy with our own orphan", wire.Member{Slots: 1, SlotsBusy: 1, Giving: []wire.Giving{{Joiner: "db-1"}}}, nil},
		{"gives none", wire.Member{Slots: 1, NoOffer: "its init is at work"}, wire.ErrNotServing},
		{"can give none", wire.Member{Slots: 1, NoOffer: "its account lacks RELOAD", Unable: true}, wire.ErrUnable},
		{"does not fit", wire.Member{Slots: 1, Offer: &wire.Offer{StreamBytes: 11}}, ErrRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := p.judge(tt.member); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// What a joiner says when nobody gives a clone, and whether it goes on waiting.
func TestFailure(t *testing.T) {
	gone := &net.OpError{Op: "dial", Err: errors.New("no such host")}
	because := func(err error) func(*peer) { return func(p *peer) { p.err = err } }
	small := fmt.Errorf("%w: too small a disk", ErrRefused)
	unable := &wire.RefusedError{Reason: wire.ErrUnable, Text: "GRANT RELOAD"}
	busy := &wire.RefusedError{Reason: wire.ErrBusy, Text: "all taken", RetryAfter: 7 * time.Second}
	for _, tt := range []struct {
		name    string
		all     []*peer
		text    string
		refused bool
		after   time.Duration
	}{
		{"nobody there", []*peer{known(0, "", because(gone)), known(2, "", because(gone))}, "db-0: dial: no such host", false, 0},
		{"refused by the only one", []*peer{known(0, "", because(small)), known(2, "", because(gone))}, "db-0: refused: too small a disk", true, 0},
		{
			"refused by one, another is busy",
			[]*peer{known(0, "", because(small)), known(2, "", because(busy))},
			"db-0: refused: too small a disk; db-2: the donor is busy: all taken (ask again in 7s)", false, 7 * time.Second,
		},
		{
			"none can ever, one does not exist",
			[]*peer{known(0, "", because(unable)), known(2, "", because(gone))},
			"db-0: " + unable.Error(), true, 0,
		},
		{
			"one can never, one not yet",
			[]*peer{known(0, "", because(wire.ErrNotServing)), known(2, "", because(unable))},
			"db-0: the member gives no clones; db-2: " + unable.Error(), false, 0,
		},
		{"no candidate", nil, "no candidate", false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			after, err := (&peers{ordinal: 1, all: tt.all}).failure()
			if err.Error() != tt.text || errors.Is(err, ErrRefused) != tt.refused || after != tt.after {
				t.Errorf("%v (refused %v), after %v", err, errors.Is(err, ErrRefused), after)
			}
		})
	}
}

// The donor that breaks is not asked again while there is another.
func TestJoinFromAnother(t *testing.T) {
	b := stream(t, small())
	bad, badAddr := serve(t, cut(b[:1000]))
	good, goodAddr := serve(t, whole(b))
	v := openVolume(t)
	var log strings.Builder
	j := newJoiner(v, goodAddr)
	j.Ordinal = 2
	j.Candidates = append(j.Candidates, Candidate{Name: "db-1", Ordinal: 1, Addr: badAddr}, Candidate{Name: "db-3", Ordinal: 3, Addr: "127.0.0.1:1"})
	j.Log = slog.New(slog.NewTextHandler(io.Writer(&log), nil))
	if err := j.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := wantPublished(t, v); got.Donor != "db-0" || bad.asked.Load() != 1 || good.asked.Load() != 1 {
		t.Errorf("journal %+v after %d and %d requests", got, bad.asked.Load(), good.asked.Load())
	}
	if n := strings.Count(log.String(), "donor chosen"); n != 2 || strings.Contains(log.String(), "db-3") {
		t.Errorf("the choice is not explained:\n%s", log.String())
	}
}
