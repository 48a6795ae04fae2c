//go:build failover

package failover

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"understudy/e2e/set"
	"understudy/replicate/guard"
)

// trial is a schedule that lets a fault show that a guard prevents. play starts with a set that is
// whole and without the guard; a and b are the replicas. What it has stopped or cut is left so.
type trial struct {
	guard guard.Guard
	late  bool // play has the guard switched off
	// double says that two members that are open at one instant have to be found, else lost rows.
	// open says that two are open with the guard, too: only lost rows count.
	double, open bool
	play         func(ctx context.Context, n *nemesis, a, b *set.Member)
}

// untilOpen is how long a trial waits for a leader that there should not be; twice that on MariaDB.
const untilOpen = 20 * time.Second

var trials = []trial{
	// Only a has c11. b elects itself.
	{guard: guard.Quorum, play: func(ctx context.Context, n *nemesis, a, b *set.Member) {
		n.cuts.pair(n.leader.Ordinal, b.Ordinal)
		n.work(ctx, time.Second)
		n.cuts.alone(a.Ordinal)
		n.lose(ctx)
	}},
	// Both lose their relay logs, with c11 that they have not executed, and are named anew at once.
	// Whom the Lease does not name yet has another guard as well: nearest, of the leader.
	{guard: guard.Position, play: func(ctx context.Context, n *nemesis, a, b *set.Member) {
		_, _ = n.holdOne(ctx, a), n.holdOne(ctx, b) // until their servers end
		n.work(ctx, time.Second)
		n.cuts.onlyServer(n.leader.Ordinal, a.Ordinal, b.Ordinal)
		n.pause(ctx, time.Second)
		named := n.lease(ctx).Acknowledgers
		kill(ctx, a, processServer)
		kill(ctx, b, processServer)
		done, word := n.poll(15*time.Second, func() (bool, string) {
			now := n.lease(ctx).Acknowledgers
			return !slices.ContainsFunc(now, func(x acknowledger) bool { return slices.Contains(named, x) }), fmt.Sprintf("%+v", now)
		})
		n.t.Logf("both are named with other relay logs: %v, %s", done, word)
		n.lose(ctx)
	}},
	// a is removed while it is stopped. It wakes with its side on and acknowledges c11 alone.
	{guard: guard.Bar, play: func(ctx context.Context, n *nemesis, a, b *set.Member) {
		n.stop(a, processSidecar)
		wake := n.stop(a, processServer)
		n.acknowledgers(ctx, 20*time.Second, 1)
		wake()
		n.work(ctx, 2*time.Second)
		n.cuts.pair(n.leader.Ordinal, b.Ordinal)
		n.work(ctx, 2*time.Second)
		n.cuts.alone(a.Ordinal)
		n.lose(ctx)
	}},
	// The leader, cut off from all but clients, is not ended.
	{guard: guard.Timer, double: true, play: func(_ context.Context, n *nemesis, _, _ *set.Member) {
		n.cuts.alone(n.leader.Ordinal)
	}},
	// The heir has received c11, and not executed it. An heir of MariaDB ends the session that holds its
	// applier: then c11 is behind a large transaction.
	{guard: guard.Drained, play: func(ctx context.Context, n *nemesis, a, b *set.Member) {
		defer n.holdOne(ctx, a)()
		defer n.holdOne(ctx, b)()
		n.pause(ctx, time.Second) // rows wait at the lock, and what follows behind them
		if _, err := n.leader.Server.DB().ExecContext(ctx, "INSERT INTO acked.h (b) SELECT REPEAT('x', 200) FROM acked.r CROSS JOIN (SELECT k FROM acked.r LIMIT 8) x"); err != nil {
			n.t.Fatal(err)
		}
		n.work(ctx, time.Second)
		n.lose(ctx)
		n.opens(ctx)
		n.pause(ctx, 300*time.Millisecond) // it stops its applier before it opens
	}},
	// Commits of the second leader wait for nobody, and the Lease names two.
	{guard: guard.Waiting, play: func(ctx context.Context, n *nemesis, _, _ *set.Member) {
		kill(ctx, n.leader, processServer)
		n.moved(ctx, n.before)
		n.together(ctx)
		n.leader = n.byName(n.lease(ctx).Holder)
		n.clients.more(ctx, 20)
		for i := range n.n {
			if i != n.leader.Ordinal {
				n.cuts.pair(n.leader.Ordinal, i)
			}
		}
		n.work(ctx, 2*time.Second)
		n.lose(ctx)
	}},
	// a is not named, as it cannot apply, and turns its side on by itself. It acknowledges c11 alone.
	{guard: guard.Side, late: true, play: func(ctx context.Context, n *nemesis, a, b *set.Member) {
		defer n.holdOne(ctx, a)()
		wake := n.stop(a, processServer, processSidecar)
		n.acknowledgers(ctx, 20*time.Second, 1)
		wake()
		n.await(ctx, a.Name()+" follows without acknowledging", func() (bool, string) { return n.follows(ctx, a, false) })
		n.without(ctx, n.off, a)
		_, word := n.poll(5*time.Second, func() (bool, string) { return n.follows(ctx, a, true) })
		n.t.Log(word)
		n.cuts.pair(n.leader.Ordinal, b.Ordinal)
		n.work(ctx, 2*time.Second)
		n.stopClients() // or commits of b wait for two members with a tail, whose clone waits for them: a known fault
		n.cuts.alone(a.Ordinal)
		n.lose(ctx)
	}},
}

// work lets the clients work.
func (n *nemesis) work(ctx context.Context, d time.Duration) {
	begin := n.clients.count()
	n.pause(ctx, d)
	n.t.Logf("%d rows were acknowledged meanwhile", n.clients.count()-begin)
}

// lose kills all of the leader, for good. What it was asked is not answered any more.
func (n *nemesis) lose(ctx context.Context) {
	n.before = n.lease(ctx)
	n.t.Logf("%s is gone: %+v", n.leader.Name(), n.before)
	kill(ctx, n.leader, processServer, processSidecar, processRun)
}

// stop stops processes of a member until wake is called, or the trial has been played.
func (n *nemesis) stop(m *set.Member, processes ...string) (wake func()) {
	wake = stopped(m, processes...)
	n.asleep = append(n.asleep, wake)
	return wake
}

// poll polls until ok, for that long at most.
func (n *nemesis) poll(d time.Duration, ok func() (bool, string)) (done bool, word string) {
	for begun := time.Now(); !done && time.Since(begun) < d; time.Sleep(20 * time.Millisecond) {
		done, word = ok()
	}
	return done, word
}

// acknowledgers waits until the Lease names so many, for that long at most.
func (n *nemesis) acknowledgers(ctx context.Context, d time.Duration, many ...int) {
	begun := time.Now()
	done, word := n.poll(d, func() (bool, string) {
		r := n.lease(ctx)
		return slices.Contains(many, len(r.Acknowledgers)), fmt.Sprintf("%+v", r)
	})
	n.t.Logf("%v acknowledgers: %v after %v: %s", many, done, time.Since(begun).Round(time.Millisecond), word)
}

// follows says that a member receives, and whether it acknowledges.
func (n *nemesis) follows(ctx context.Context, m *set.Member, acknowledges bool) (bool, string) {
	query := `SELECT (SELECT SERVICE_STATE FROM performance_schema.replication_connection_status WHERE CHANNEL_NAME = ''),
		(SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Rpl_semi_sync_replica_status')`
	if n.mariaDB { // its applier runs as well
		query = `SELECT (SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'Slave_running'),
			(SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'Rpl_semi_sync_slave_status')`
	}
	var on, side string
	err := m.Server.DB().QueryRowContext(ctx, query).Scan(&on, &side)
	return err == nil && on == "ON" && (side == "ON") == acknowledges, fmt.Sprintf("receiver %s, semi-sync %s, %v", on, side, err)
}

// without has sidecars go on without a guard; with all of them if it is empty.
func (n *nemesis) without(ctx context.Context, off guard.Guard, members ...*set.Member) {
	n.t.Helper()
	for _, m := range members {
		m.KillSidecar()
		before := m.Before
		m.Before = append([]string{"env", guard.Variable + "=" + string(off)}, before...)
		err := m.StartSidecar("--pod-uid=" + n.uid(ctx, m))
		m.Before = before
		if err != nil {
			n.t.Fatal(err)
		}
	}
}

// Without a guard the checker finds a fault: it can. Each trial provokes the fault that the guard
// prevents. CONTROL=1 plays the same with all guards, and then there must be none.
func TestMutants(t *testing.T) {
	mutants(t, trials, true, "--semi-sync=required", "--stable-after=1s")
}

// The server stays open for writes, as it has no fence that works, so that reports have to stop it
// from having commits acknowledged.
func TestMutantReports(t *testing.T) {
	mutants(t, []trial{{guard: guard.Binding, open: true, play: func(ctx context.Context, n *nemesis, a, b *set.Member) {
		if a.Ordinal > b.Ordinal {
			b = a // of equals the lower one is the heir
		}
		n.stopClients()
		n.stop(n.leader, processSidecar)
		n.cuts.pair(b.Ordinal, n.cuts.api())
		n.opens(ctx)
		begin := n.clients.count()
		for range 10 {
			n.clients.appendRow(ctx, 0, n.clients.dbs[n.leader.Ordinal])
		}
		n.t.Logf("%d rows were acknowledged by %s after that", n.clients.count()-begin, n.leader.Name())
	}}}, false, "--semi-sync=required", "--stable-after=1s", "--fence=sidecar")
}

// opens waits until a later term is open than before the fault, for about untilOpen at most.
func (n *nemesis) opens(ctx context.Context) bool {
	begun, limit := time.Now(), untilOpen
	if n.mariaDB { // a member stops receiving before it reports, and STOP SLAVE waits for a leader that is cut off
		limit *= 2
	}
	open, word := n.poll(limit, func() (bool, string) {
		r := n.lease(ctx)
		return r.Phase == "opened" && r.Holder != "" && r.Term > n.before.Term, fmt.Sprintf("%+v", r)
	})
	n.t.Logf("a later term is open: %v after %v: %s", open, time.Since(begun).Round(time.Millisecond), word)
	return open
}

func mutants(t *testing.T, trials []trial, run bool, flags ...string) {
	t.Helper()
	set.WithProgram(func(built string) int {
		defer func(p string) { program = p }(program)
		program = built
		for _, x := range trials {
			t.Run(string(x.guard), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), roundTimeout)
				defer cancel()
				f := newFixture(ctx, t, 3, run, flags...)
				n := &nemesis{fixture: f, cuts: f.cuttable(), random: rand.New(rand.NewPCG(1, 0))} //nolint:gosec // as good as any
				f.onDisks()
				f.first(ctx)
				n.try(ctx, x)
			})
		}
		return 0
	}, "-tags=mutant")
}

// try plays a trial.
func (n *nemesis) try(ctx context.Context, x trial) {
	n.t.Helper()
	off := x.guard
	if number(n.t, "CONTROL", 0) != 0 {
		off = ""
	}
	n.off = off
	n.t.Logf("without %q", off)
	var all []*set.Member
	for i := range n.n {
		all = append(all, n.Member(i))
	}
	if !x.late {
		n.without(ctx, off, all...)
	}
	n.together(ctx)
	n.before = n.named(ctx, n.n-1)
	n.leader = n.byName(n.before.Holder)
	n.clients = n.newClients(ctx)
	n.wanted = make(chan finding, 1000)
	stopSampling := func() {}
	if !x.open {
		_, stopSampling = n.sample(ctx)
	}
	n.stopClients = n.clients.run(ctx)
	n.clients.more(ctx, 20)
	begun := time.Now()
	x.play(ctx, n, n.Member((n.leader.Ordinal+1)%n.n), n.Member((n.leader.Ordinal+2)%n.n))
	open := n.opens(ctx)
	n.pause(ctx, time.Second)
	n.stopClients()
	if open {
		n.lookThrough(ctx)
	}
	if off == "" {
		n.mend(ctx)
	}
	stopSampling()
	close(n.wanted)
	var found []string
	is := false // what the trial provokes
	for f := range n.wanted {
		found = append(found, f.text)
		is = is || x.double && f.doubles > 0 || !x.double && f.lost > 0
	}
	n.wanted = nil
	n.t.Logf("played for %v", time.Since(begun).Round(time.Second))
	switch {
	case off == "" && len(found) > 0:
		n.t.Errorf("with all guards, in the trial of %s: %v", x.guard, found)
	case off == "":
		n.t.Logf("with all guards, in the trial of %s, nothing is found", x.guard)
	case !is:
		n.t.Errorf("without %s the checker does not find the fault: %.300q", x.guard, found)
	default:
		n.t.Logf("without %s it is found: %.300q", x.guard, found)
	}
}

// lookThrough looks for all acknowledged rows at the leader.
func (n *nemesis) lookThrough(ctx context.Context) {
	n.t.Helper()
	n.await(ctx, "the leader was looked through", func() (bool, string) {
		n.clients.lookBack(ctx)
		n.clients.mu.Lock()
		defer n.clients.mu.Unlock()
		return n.clients.checked == len(n.clients.acked), n.lease(ctx).Holder
	})
}

// mend ends all faults. Then the members are a set that has all that was acknowledged, and takes
// writes.
func (n *nemesis) mend(ctx context.Context) {
	n.t.Helper()
	kill(ctx, n.leader, processServer, processSidecar, processRun) // without run it may be open
	for _, wake := range n.asleep {
		wake()
	}
	n.cuts.heal()
	n.together(ctx)
	if leader := n.byName(n.named(ctx, n.n-1).Holder); !n.clients.appendRow(ctx, 0, n.clients.dbs[leader.Ordinal]) {
		n.t.Errorf("%s takes no writes: %v", leader.Name(), n.clients.err)
	}
	n.clients.check(ctx)
}
