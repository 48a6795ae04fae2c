package lead

import (
	"context"
	"sync"
)

// Role is what the Lease lets the member be.
type Role struct {
	// Number is another one for each role.
	Number uint64
	// Leads says that it leads; Begins that it is to open the first term, as soon as it lacks nothing:
	// then Leads, too.
	Leads, Begins bool
	// Waits says why the first term is not open yet; empty: nothing is known.
	Waits string
	// Follows is the member that it follows, or would without Reseed; empty: none.
	Follows string
	// Plain says that it follows as before the first term: by the account that all members share, and
	// without acknowledging.
	Plain bool
	// Tail says, with Reseed, that no commit of what has to go was acknowledged: terms went from one to the
	// next by elections, which needed all that was.
	Tail bool
	// Reseed says why its data have to be replaced, Hold why it neither leads nor follows; both empty:
	// it does.
	Reseed, Hold string
}

func (r Role) same(o Role) bool {
	r.Number = o.Number
	return r == o
}

// gate lets one party at a time change the server: the agent for a step, or the controller.
type gate struct {
	free chan struct{}

	mu   sync.Mutex
	role Role
}

func newGate(r Role) *gate {
	g := &gate{free: make(chan struct{}, 1), role: r}
	g.free <- struct{}{}
	return g
}

func (g *gate) lock(ctx context.Context) error {
	select {
	case <-g.free:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) unlock() { g.free <- struct{}{} }

// Role is the member's.
func (g *gate) Role() Role {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.role
}

// become is called with the gate locked, so that no step is under way by the role before.
func (g *gate) become(r Role) (changed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.role.same(r) {
		return false
	}
	r.Number = g.role.Number + 1
	g.role = r
	return true
}

// Enter waits until nobody else changes the server. It is false where the member's role is not r
// any more, or ctx has ended; otherwise leave has to be called.
func (g *gate) Enter(ctx context.Context, r Role) (leave func(), ok bool) {
	if g.lock(ctx) != nil {
		return nil, false
	}
	if g.Role() != r {
		g.unlock()
		return nil, false
	}
	return g.unlock, true
}
