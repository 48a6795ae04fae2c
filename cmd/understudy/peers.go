package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"understudy/clone/wire"
	"understudy/replicate"
)

// answer is what one member says, or why it says nothing.
type answer struct {
	name, host string
	member     wire.Member
	err        error
	check      *check // nil without --verify
}

// ask asks members at once. c lacks the address.
func (s *setFlags) ask(ctx context.Context, ordinals []int, port int, timeout time.Duration, c wire.ClientConfig, log *slog.Logger) []answer {
	all := make([]answer, len(ordinals))
	c.Protocol, c.Stall, c.Log = wire.V1, 2*timeout, log // the timeout comes first, and says more
	var wg sync.WaitGroup
	for i, ordinal := range ordinals {
		a := &all[i]
		a.name, a.host = s.name(ordinal), s.host(ordinal)
		c.Addr = net.JoinHostPort(a.host, strconv.Itoa(port))
		client := wire.NewClient(c)
		wg.Go(func() {
			defer client.Close()
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			a.member, a.err = client.Member(ctx)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) && a.err != nil {
				a.err = fmt.Errorf("no answer within %v: %w", timeout, a.err)
			}
			log.Debug("member asked", "member", a.name, "addr", client.Addr(), "error", a.err)
		})
	}
	wg.Wait()
	return all
}

// exists says whether a name of that member is known. A name server that does not answer
// does not say that it is not.
func (a answer) exists() bool {
	dns, ok := errors.AsType[*net.DNSError](a.err)
	return !ok || !dns.IsNotFound
}

// peerTimeout is the time that a member has to say what it has.
const peerTimeout = 2 * time.Second

// silentPatience is for how long a member that does not answer is waited for before the
// first ordinal opens for writes. Its name may be one that nobody has, where names are
// addresses.
const silentPatience = 5 * time.Second

// peersOf asks all other members what they have.
func (m *memberFlags) peersOf(ctx context.Context, port int, pair tlsPair, log *slog.Logger) []replicate.Peer {
	c := wire.ClientConfig{TLS: pair.client, Member: m.podName}
	var all []replicate.Peer
	for _, a := range m.ask(ctx, m.peers(), port, peerTimeout, c, log) {
		all = append(all, a.peer())
	}
	return all
}

func (a answer) peer() replicate.Peer {
	said := a.member
	p := replicate.Peer{
		Name: a.name, Host: a.host, Absent: !a.exists(), Answers: a.err == nil, ServerID: said.ServerID, UUID: said.UUID,
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
