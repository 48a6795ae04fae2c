package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"understudy/clone/wire"
	"understudy/replicate"
)

// Answer is another member's answer, or why there is none.
//
// Another member has one name on each floor, for what that floor knows of it: a wire.Member is what
// it says of itself, as JSON; an Answer adds whether it was reached and whether Kubernetes knows
// it; a replicate.Peer is the part that the comparison of histories needs, made by Answer.peer; a
// clone.Candidate is what a joiner needs to ask it for a clone.
type Answer struct {
	Ordinal    int
	Name, Host string
	// Remembered says that Kubernetes knows the member, even if its name does not resolve.
	Remembered bool
	Said       wire.Member
	Err        error
}

// Asking says how members are asked.
type Asking struct {
	// As is the name of the asker in the members' logs.
	As      string
	Timeout time.Duration
}

// Ask asks these members at once.
func (m *Member) Ask(ctx context.Context, ordinals []int, how Asking) []Answer {
	all := make([]Answer, len(ordinals))
	var wg sync.WaitGroup
	for i, ordinal := range ordinals {
		a := &all[i]
		a.Ordinal, a.Name, a.Host = ordinal, m.NameOf(ordinal), m.HostOf(ordinal)
		client := wire.NewClient(wire.ClientConfig{
			Addr: m.address(ordinal), Expect: a.Name, Member: how.As, TLS: m.TLS.Client, Dial: m.Dial(),
			Protocol: wire.V1, Stall: 2 * how.Timeout, Log: m.Log, // the timeout ends first, with a clearer error
		})
		wg.Go(func() {
			defer client.Close()
			ctx, cancel := context.WithTimeout(ctx, how.Timeout)
			defer cancel()
			a.Said, a.Err = client.Member(ctx)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) && a.Err != nil {
				a.Err = fmt.Errorf("no answer within %v: %w", how.Timeout, a.Err)
			}
			m.Log.Debug("member asked", "member", a.Name, "addr", client.Addr(), "error", a.Err)
		})
	}
	wg.Wait()
	return all
}

const (
	// askBlock is how many further members are asked at once.
	askBlock = 10
	// askBound is how many members are asked at most.
	askBound = 1000
)

// AskAll asks all other members, and returns their answers by ordinal: those that Asked and the
// roster name and, for as long as one of the last ones answers, the next ten, without those of
// these that do not exist.
func (m *Member) AskAll(ctx context.Context, r Roster, how Asking) []Answer {
	ordinals := m.Peers(r)
	all := m.Ask(ctx, ordinals, how)
	for i := range all {
		all[i].Remembered = r.remembers(all[i].Ordinal)
	}
	next := m.Ordinal + 1
	if n := len(ordinals); n > 0 {
		next = max(next, ordinals[n-1]+1)
	}
	for last := all; slices.ContainsFunc(last, Answer.answers) && len(all) < askBound && ctx.Err() == nil; next += askBlock {
		block := make([]int, askBlock)
		for i := range block {
			block[i] = next + i
		}
		last = slices.DeleteFunc(m.Ask(ctx, block, how), func(a Answer) bool { return !a.answers() && !a.named() })
		all = append(all, last...)
	}
	return all
}

func (a Answer) answers() bool { return a.Err == nil }

// Exists says whether the member's name resolves. It is also true while name service does not
// answer.
func (a Answer) Exists() bool {
	dns, ok := errors.AsType[*net.DNSError](a.Err)
	return !ok || !dns.IsNotFound
}

// named says that name service knows the member. Where names are addresses it is false.
func (a Answer) named() bool {
	_, unknown := errors.AsType[*net.DNSError](a.Err)
	_, noName := netip.ParseAddr(a.Host)
	return !unknown && noName != nil
}

// peerTimeout is the time that a member has to say what it has.
const peerTimeout = 2 * time.Second

// Histories asks all other members which transactions they have. An error says that the list of
// members is not complete.
func (m *Member) Histories(ctx context.Context) ([]replicate.Peer, error) {
	r, err := m.Kube.Roster(ctx)
	var all []replicate.Peer
	for _, a := range m.AskAll(ctx, r, Asking{As: m.Name, Timeout: peerTimeout}) {
		all = append(all, a.peer())
	}
	return all, err
}

// oldLook is how old the last look of a sidecar at its server may be where its answer must hold now.
const oldLook = 15 * time.Second

// IsOpen asks the sidecar of the member at that host whether its server is the primary, and open
// for writes. An answer that rests on an old look is no.
func (m *Member) IsOpen(ctx context.Context, host string) (bool, error) {
	for ordinal := range askBound {
		if m.HostOf(ordinal) == host {
			a := m.Ask(ctx, []int{ordinal}, Asking{As: m.Name, Timeout: peerTimeout})[0]
			fresh := a.Said.SeenSeconds <= oldLook.Seconds()
			return a.Err == nil && a.Said.Role == wire.Primary && a.Said.Ready && fresh, a.Err
		}
	}
	return false, fmt.Errorf("no member has the host %s", host)
}

// peer is the part of the answer that replication needs.
func (a Answer) peer() replicate.Peer {
	said := a.Said
	p := replicate.Peer{
		Name: a.Name, Host: a.Host, Absent: !a.Exists(), Remembered: a.Remembered, Answers: a.Err == nil,
		ServerID: said.ServerID, UUID: said.UUID, Executed: said.GTID, Parted: said.Parted,
		Received: said.Received, Read: said.Read, Age: time.Duration(said.SeenSeconds * float64(time.Second)),
	}
	if p.Received == "" && p.Read == "" { // an older version without the field, or a member without transactions
		p.Received = said.GTID
	}
	if !said.Ready {
		p.Trouble = said.Reason
	}
	switch {
	case a.Err != nil:
		p.Silence = a.Err.Error()
	case said.Phase == PhaseEmpty || said.Phase == PhaseCloning:
		p.Empty = true
	case said.ServerID == 0: // its server was not observed
		p.Silence = said.Reason
	}
	return p
}
