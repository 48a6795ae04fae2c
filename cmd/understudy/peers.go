package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"understudy/clone/wire"
	"understudy/replicate"
)

// answer is what one member says, or why it says nothing.
type answer struct {
	ordinal    int
	name, host string
	// remembered says that Kubernetes knows the member, whatever name servers say.
	remembered bool
	member     wire.Member
	err        error
	check      *check // nil without --verify
}

// asking is how members are asked.
type asking struct {
	port    int
	timeout time.Duration
	client  wire.ClientConfig // lacks the address
	log     *slog.Logger
}

// ask asks these members at once.
func (s *setFlags) ask(ctx context.Context, ordinals []int, how asking) []answer {
	all := make([]answer, len(ordinals))
	c := how.client
	c.Protocol, c.Stall, c.Log, c.Dial = wire.V1, 2*how.timeout, how.log, s.dial() // the timeout comes first, and says more
	var wg sync.WaitGroup
	for i, ordinal := range ordinals {
		a := &all[i]
		a.ordinal, a.name, a.host = ordinal, s.name(ordinal), s.host(ordinal)
		c.Addr, c.Expect = net.JoinHostPort(a.host, strconv.Itoa(how.port)), a.name
		client := wire.NewClient(c)
		wg.Go(func() {
			defer client.Close()
			ctx, cancel := context.WithTimeout(ctx, how.timeout)
			defer cancel()
			a.member, a.err = client.Member(ctx)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) && a.err != nil {
				a.err = fmt.Errorf("no answer within %v: %w", how.timeout, a.err)
			}
			how.log.Debug("member asked", "member", a.name, "addr", client.Addr(), "error", a.err)
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

// askAll asks all members but self, by ordinal: those that --members and the roster name, and
// as long as one of these answers also the next ten, of which those count that exist.
func (s *setFlags) askAll(ctx context.Context, r roster, self int, how asking) []answer {
	ordinals := s.ordinals(r, self)
	all := s.ask(ctx, ordinals, how)
	for i := range all {
		all[i].remembered = r.remembers(all[i].ordinal)
	}
	next := self + 1
	if n := len(ordinals); n > 0 {
		next = max(next, ordinals[n-1]+1)
	}
	for last := all; slices.ContainsFunc(last, answer.answers) && len(all) < askBound && ctx.Err() == nil; next += askBlock {
		block := make([]int, askBlock)
		for i := range block {
			block[i] = next + i
		}
		last = slices.DeleteFunc(s.ask(ctx, block, how), func(a answer) bool { return !a.answers() && !a.named() })
		all = append(all, last...)
	}
	return all
}

// ordinals are those of the members that there are for all that is known, but self's.
func (s *setFlags) ordinals(r roster, self int) []int {
	known := map[int]bool{}
	for ordinal := s.firstOrdinal; ordinal < max(s.firstOrdinal+s.members, self); ordinal++ {
		known[ordinal] = true
	}
	maps.Copy(known, r.members)
	delete(known, self)
	return slices.Sorted(maps.Keys(known))
}

func (a answer) answers() bool { return a.err == nil }

// exists says whether a name of that member is known. A name server that does not answer
// does not say that it is not.
func (a answer) exists() bool {
	dns, ok := errors.AsType[*net.DNSError](a.err)
	return !ok || !dns.IsNotFound
}

// named says that a name server knows the member. Where names are addresses, nothing does.
func (a answer) named() bool {
	_, unknown := errors.AsType[*net.DNSError](a.err)
	_, noName := netip.ParseAddr(a.host)
	return !unknown && noName != nil
}

const (
	// peerTimeout is the time that a member has to say what it has.
	peerTimeout = 2 * time.Second
	// silentPatience is for how long a member that does not answer, and that Kubernetes does
	// not know of, is waited for before the first ordinal opens for writes. Its name may be
	// one that nobody has, where names are addresses.
	silentPatience = 5 * time.Second
	// noMember is no member's ordinal.
	noMember = -1
)

// peersOf asks all other members what they have. An error says that it is not known who they
// all are.
func (m *memberFlags) peersOf(ctx context.Context, kube *kube, port int, pair tlsPair, log *slog.Logger) ([]replicate.Peer, error) {
	r, err := kube.roster(ctx, &m.setFlags)
	how := asking{port: port, timeout: peerTimeout, client: wire.ClientConfig{TLS: pair.client, Member: m.podName}, log: log}
	var all []replicate.Peer
	for _, a := range m.askAll(ctx, r, m.ordinal, how) {
		all = append(all, a.peer())
	}
	return all, err
}

func (a answer) peer() replicate.Peer {
	said := a.member
	p := replicate.Peer{
		Name: a.name, Host: a.host, Absent: !a.exists(), Remembered: a.remembered, Answers: a.err == nil,
		ServerID: said.ServerID, UUID: said.UUID, Executed: said.GTID, Parted: said.Parted,
		Received: said.Received, Read: said.Read, Age: time.Duration(said.SeenSeconds * float64(time.Second)),
	}
	if p.Received == "" && p.Read == "" { // of a version before there was that field, or that has nothing
		p.Received = said.GTID
	}
	if !said.Ready {
		p.Trouble = said.Reason
	}
	switch {
	case a.err != nil:
		p.Silence = a.err.Error()
	case said.Phase == phaseEmpty || said.Phase == phaseCloning:
		p.Empty = true
	case said.ServerID == 0: // its server was not looked at
		p.Silence = said.Reason
	}
	return p
}
