//go:build failover

package failover

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/set"
	"understudy/replicate/guard"
)

const (
	// defaultRounds is what takes about 7 minutes; ROUNDS= changes it.
	defaultRounds = 24
	// roundTimeout bounds one round, in which there are several waits.
	roundTimeout = 20 * time.Minute
)

// nemesis makes one fault after another.
type nemesis struct {
	*fixture
	clients *clients
	cuts    *cuts
	random  *rand.Rand
	leader  *set.Member
	// In a trial: what stops the clients, the Lease before the fault, what wakes what was stopped, and
	// the guard that is switched off.
	stopClients func()
	before      record
	asleep      []func()
	off         guard.Guard
}

// fault is one kind of it.
type fault struct {
	name string
	// counts says among which times without writes this one counts.
	counts string
	// do makes the fault and returns what ends it, nil: it needs no end. Then what does not run is
	// started, and members that ask for it are reseeded.
	do func(ctx context.Context, n *nemesis) (heal func())
}

const (
	crash    = "crash"
	nodeLoss = "node loss"
	planned  = "switchover"
)

// lasting is how long a fault lasts that ends: less than the leader's permission, about that, and
// longer than acknowledgers may be away.
func (n *nemesis) lasting() time.Duration {
	return []time.Duration{time.Second, 3 * time.Second, 7 * time.Second, 14 * time.Second}[n.random.IntN(4)]
}

func (n *nemesis) pause(ctx context.Context, d time.Duration) {
	n.t.Logf("for %v", d)
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (n *nemesis) replica() *set.Member {
	return n.Member((n.leader.Ordinal + 1 + n.random.IntN(n.n-1)) % n.n)
}

// any is the leader as often as not.
func (n *nemesis) any() *set.Member {
	m := n.replica()
	if n.random.IntN(2) == 0 {
		m = n.leader
	}
	n.t.Logf("at %s, and %s leads", m.Name(), n.leader.Name())
	return m
}

// killed kills processes of the leader. A second later the kubelet starts the containers that have
// ended: the first time it waits for nothing.
func killed(counts string, processes ...string) fault {
	return fault{strings.Join(processes, " and ") + " of the leader killed", counts, func(ctx context.Context, n *nemesis) func() {
		kill(ctx, n.leader, processes...)
		time.Sleep(time.Second)
		if err := n.restart(ctx, n.leader); err != nil {
			n.t.Logf("%s is not started again yet: %v", n.leader.Name(), err)
		}
		return nil
	}}
}

func replicaKilled(processes ...string) fault {
	return fault{strings.Join(processes, " and ") + " of a replica killed", "", func(ctx context.Context, n *nemesis) func() {
		kill(ctx, n.replica(), processes...)
		return nil
	}}
}

func paused(processes ...string) fault {
	return fault{strings.Join(processes, ", ") + " stopped", "", func(ctx context.Context, n *nemesis) func() {
		wake := stopped(n.any(), processes...)
		n.pause(ctx, n.lasting())
		return wake
	}}
}

func cut(name, counts string, do func(n *nemesis)) fault {
	return fault{name, counts, func(ctx context.Context, n *nemesis) func() {
		do(n)
		n.pause(ctx, n.lasting())
		return n.cuts.heal
	}}
}

func disk(how string, do func(*fixture, *set.Member) (mend func())) fault {
	return fault{"a disk " + how, "", func(ctx context.Context, n *nemesis) func() {
		mend := do(n.fixture, n.any())
		n.pause(ctx, n.lasting())
		return mend
	}}
}

var faults = []fault{
	killed(crash, processServer), killed(crash, processRun), killed("", processSidecar),
	killed(crash, processServer, processSidecar), killed(crash, processRun, processSidecar), killed(crash, processServer, processRun), replicaKilled(processServer), replicaKilled(processRun, processSidecar),
	paused(processServer), paused(processSidecar), paused(processRun), paused(processServer, processSidecar), paused(processRun, processSidecar), paused(wholeMember...),
	{"all of the leader killed, and away", nodeLoss, func(ctx context.Context, n *nemesis) func() {
		kill(ctx, n.leader, processServer, processSidecar, processRun)
		n.pause(ctx, 10*time.Second)
		return nil
	}},
	{"all of all members killed", "", func(ctx context.Context, n *nemesis) func() {
		for i := range n.n {
			kill(ctx, n.Member(i), processServer, processSidecar, processRun)
		}
		return nil
	}},
	{"switchover", planned, func(ctx context.Context, n *nemesis) func() {
		if _, err := n.switchover(ctx, ""); err != nil {
			n.t.Error(err)
		}
		return nil
	}},
	{"API server stopped", "", func(ctx context.Context, n *nemesis) func() {
		n.api.Signal(syscall.SIGSTOP)
		n.pause(ctx, n.lasting())
		return func() { n.api.Signal(syscall.SIGCONT) }
	}},
	cut("two members cut off from one another", "", func(n *nemesis) {
		a := n.any().Ordinal
		n.cuts.pair(a, (a+1+n.random.IntN(n.n-1))%n.n)
	}),
	cut("one member hears another no more", "", func(n *nemesis) {
		a := n.any().Ordinal
		b := (a + 1 + n.random.IntN(n.n-1)) % n.n
		if n.random.IntN(2) == 0 {
			a, b = b, a
		}
		n.cuts.oneWay(a, b)
	}),
	cut("a member cut off from the API server", "", func(n *nemesis) { n.cuts.pair(n.any().Ordinal, n.cuts.api()) }),
	cut("the API server hears a member no more", "", func(n *nemesis) { n.cuts.oneWay(n.any().Ordinal, n.cuts.api()) }),
	cut("a member hears the API server no more", "", func(n *nemesis) { n.cuts.oneWay(n.cuts.api(), n.any().Ordinal) }),
	{"the leader cut off from everybody", nodeLoss, func(ctx context.Context, n *nemesis) func() {
		n.cuts.alone(n.leader.Ordinal)
		n.pause(ctx, 14*time.Second)
		return n.cuts.heal
	}},
	cut("a replica cut off from everybody", "", func(n *nemesis) { n.cuts.alone(n.replica().Ordinal) }),
	jumped(-time.Hour), jumped(time.Hour),
	disk("stands still", (*fixture).freeze), disk("is slow", (*fixture).slow), disk("is full", (*fixture).fill),
	{"the leader loses its power", nodeLoss, func(ctx context.Context, n *nemesis) func() {
		n.powerCut(ctx, n.leader)
		n.pause(ctx, 10*time.Second)
		return nil
	}},
	{"all members lose their power", "", func(ctx context.Context, n *nemesis) func() {
		var all []*set.Member
		for i := range n.n {
			all = append(all, n.Member(i))
		}
		n.powerCut(ctx, all...)
		return nil
	}},
	{"an acknowledger removed while it is cut off, then the leader killed", "", removedWhileAway},
	{"the leader killed while replicas apply a large transaction", crash, func(ctx context.Context, n *nemesis) func() {
		if _, err := n.leader.Server.DB().ExecContext(ctx, "INSERT INTO acked.h (b) SELECT REPEAT('x', 200) FROM acked.r"); err != nil {
			n.t.Logf("the large transaction: %v", err)
		}
		kill(ctx, n.leader, processServer)
		return nil
	}},
	{"the leader killed while no replica can apply", crash, func(ctx context.Context, n *nemesis) func() {
		n.hold(ctx, 3*time.Second)
		n.clients.more(ctx, 20)
		kill(ctx, n.leader, processServer)
		return nil
	}},
}

// removedWhileAway cuts an acknowledger off until the leader has removed it. When it is back, the
// leader dies at once.
func removedWhileAway(ctx context.Context, n *nemesis) func() {
	away := n.replica()
	n.cuts.pair(n.leader.Ordinal, away.Ordinal)
	n.await(ctx, away.Name()+" is removed", func() (bool, string) {
		r := n.lease(ctx)
		for _, a := range r.Acknowledgers {
			if a.Member == away.Name() {
				return false, fmt.Sprintf("%+v", r)
			}
		}
		return len(r.Acknowledgers) == 1, fmt.Sprintf("%+v", r)
	})
	n.clients.more(ctx, 20)
	n.cuts.heal()
	n.pause(ctx, time.Duration(n.random.IntN(1500))*time.Millisecond)
	kill(ctx, n.leader, processServer)
	return nil
}

// hold keeps all replicas' appliers from applying rows, for that long.
func (n *nemesis) hold(ctx context.Context, d time.Duration) {
	n.t.Helper()
	for i := range n.n {
		if m := n.Member(i); m != n.leader {
			time.AfterFunc(d, n.holdOne(ctx, m))
		}
	}
}

// holdOne keeps one replica's applier from applying rows.
func (n *nemesis) holdOne(ctx context.Context, m *set.Member) (release func()) {
	n.t.Helper()
	if n.mariaDB { // a sidecar that starts cuts root's sessions
		return n.holdBy(ctx, n.clients.dbs[m.Ordinal])
	}
	return n.holdBy(ctx, m.Server.DB())
}

func (f *fixture) holdBy(ctx context.Context, db *sql.DB) (release func()) {
	f.t.Helper()
	conn, err := db.Conn(ctx)
	if err == nil {
		_, err = conn.ExecContext(ctx, "LOCK TABLES acked.t READ")
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return func() {
		_, _ = conn.ExecContext(ctx, "UNLOCK TABLES") // its server may have ended
		_ = conn.Close()
	}
}

// number is a number from the environment.
func number(t *testing.T, name string, value uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return value
	}
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// One fault after another, by chance, under clients. No acknowledged row is ever lost, no two members
// take writes at one instant, and registers that are read through the primary are linearizable.
// SEED= repeats the faults of a run, ROUNDS= is how many there are, MODE= is required or preferred.
func TestNemesis(t *testing.T) {
	seed, rounds := number(t, "SEED", uint64(time.Now().UnixNano())%1_000_000), number(t, "ROUNDS", defaultRounds)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rounds+2)*roundTimeout) //nolint:gosec // few
	defer cancel()
	mode := cmp.Or(os.Getenv("MODE"), []string{"required", "preferred"}[seed%2])
	t.Logf("SEED=%d ROUNDS=%d MODE=%s", seed, rounds, mode)
	// Faults come faster than terms that count as long.
	f := newFixture(ctx, t, 3, true, "--semi-sync="+mode, "--stable-after=1s")
	n := &nemesis{fixture: f, cuts: f.cuttable(), random: rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // to be repeated
	f.onDisks()
	f.onClocks()
	f.first(ctx)
	n.clients = f.newClients(ctx)
	sampler, stopSampling := f.sample(ctx)
	stopClients := n.clients.run(ctx)
	defer func() {
		if t.Failed() {
			t.Logf("SEED=%d ROUNDS=%d MODE=%s", seed, rounds, mode)
			f.showServers()
		}
	}()
	var order []int
	for round := range rounds {
		if len(order) == 0 {
			order = n.random.Perm(len(faults))
		}
		n.round(ctx, round+1, faults[order[0]])
		order = order[1:]
		if t.Failed() {
			break
		}
	}
	stopClients()
	n.clients.check(ctx)
	stopSampling()
	sampler.check(ctx)
}

// whole waits until all replicas acknowledge with the relay logs that they were named with: after two
// faults at once the set may have to wait for the leader.
func (n *nemesis) whole(ctx context.Context) record {
	n.t.Helper()
	select { // what the leader says of them may be of before the last fault
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
	var r record
	n.await(ctx, "all replicas acknowledge", func() (bool, string) {
		if r = n.lease(ctx); r.Phase != "opened" || r.Holder == "" {
			return false, fmt.Sprintf("%+v", r)
		}
		_, body, err := n.byName(r.Holder).Get(ctx, "/metrics")
		valid := strings.Contains(body, fmt.Sprintf("\nunderstudy_lease_acknowledgers_valid %d\n", n.n-1))
		return valid && strings.Contains(body, "\nunderstudy_failover_possible 1\n"), fmt.Sprintf("%+v %v", r, err)
	})
	return r
}

// round makes one fault.
func (n *nemesis) round(ctx context.Context, number uint64, x fault) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	before := n.whole(ctx)
	n.leader = n.byName(before.Holder)
	n.clients.next()
	n.clients.more(ctx, 20)
	n.clients.away()
	n.t.Logf("round %d: %s", number, x.name)
	heal := x.do(ctx, n)
	away := time.Duration(0)
	if x.counts != "" { // others lead before anything is mended
		n.clients.more(ctx, 20)
		away = n.clients.away()
	}
	if heal != nil {
		heal()
	}
	tails := n.together(ctx)
	if now := n.lease(ctx).Holder; x.counts != planned && now != "" && now != before.Holder {
		sum.returned(tails[before.Holder])
	}
	n.clients.more(ctx, 20)
	if x.counts == "" {
		away = n.clients.away()
	}
	n.t.Logf("round %d: %s: writes were away for %v; term %d, now %d", number, x.name, away.Round(10*time.Millisecond), before.Term, n.lease(ctx).Term)
	switch x.counts {
	case planned:
		sum.switched(away)
	case crash, nodeLoss:
		sum.away(away, x.counts == crash)
	default:
		sum.other()
	}
	n.clients.lookBack(ctx)
	n.tidy()
}
