//go:build failover

package failover

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
)

// verb calls one of the commands that ask the members.
func (f *fixture) verb(ctx context.Context, name string, flags ...string) set.Run {
	f.t.Helper()
	args := []string{name, "--set=db", "--namespace=default", "--peer-host=" + f.Hosts(), fmt.Sprintf("--members=%d", f.n), "--secret-file=" + f.SecretFile()}
	r, err := f.Call(ctx, nil, append(args, flags...)...)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// says waits until understudy status says something, and ends as it should.
func (f *fixture) says(ctx context.Context, code int, texts ...string) {
	f.t.Helper()
	f.await(ctx, fmt.Sprintf("status says %q", texts), func() (bool, string) {
		r := f.verb(ctx, "status")
		for _, text := range texts {
			if !strings.Contains(r.Stdout, text) {
				return false, r.Stdout + r.Stderr
			}
		}
		return r.Code == code, fmt.Sprintf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	})
}

// measures waits until a member exports these samples.
func (f *fixture) measures(ctx context.Context, m *set.Member, samples ...string) {
	f.t.Helper()
	f.await(ctx, fmt.Sprintf("%s exports %q", m.Name(), samples), func() (bool, string) {
		_, body, err := m.Get(ctx, "/metrics")
		for _, sample := range samples {
			if !strings.Contains("\n"+body+"\n", "\n"+sample+"\n") {
				return false, fmt.Sprint(sample, " is missing ", err)
			}
		}
		return true, ""
	})
}

// What people see of who leads, and what they may say about it, in a set of two: one acknowledger.
func TestStatus(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 2, false, "--semi-sync=required", "--fence=sidecar")
	for i := range f.n {
		f.up(ctx, f.Member(i))
	}
	f.named(ctx, 1)
	leader, replica := f.Member(0), f.Member(1)
	f.completed(ctx)
	f.says(ctx, 0, "leader: db-0, term 1;", "semi-sync: required; acknowledgers: db-1\n", "failover: possible, to db-1")
	f.measures(ctx, leader, "understudy_lease_term 1", "understudy_lease_leader 1", "understudy_lease_acknowledgers_named 1", "understudy_lease_acknowledgers_valid 1", "understudy_failover_possible 1", "understudy_lease_degraded 0")
	f.measures(ctx, replica, "understudy_lease_term 1", "understudy_lease_leader 0", `understudy_elections_total{result="elected"} 0`)
	var all []struct {
		Lead struct {
			Leader   string `json:"leader"`
			Failover *struct {
				Possible bool   `json:"possible"`
				To       string `json:"to"`
			} `json:"failover"`
		} `json:"lead"`
	}
	if r := f.verb(ctx, "status", "-o", "json"); json.Unmarshal([]byte(r.Stdout), &all) != nil || len(all) != 2 || all[1].Lead.Leader != "db-0" || all[0].Lead.Failover == nil || all[0].Lead.Failover.To != "db-1" {
		t.Errorf("status -o json: %s", r.Stdout)
	}

	// A label that another pod bears wrongly is taken off it.
	f.must(f.api.Do(ctx, http.MethodPatch, "/api/v1/namespaces/default/pods/db-1", "application/merge-patch+json", `{"metadata":{"labels":{"understudy/role":"primary"}}}`))
	f.await(ctx, "db-1 is labelled as a replica again", func() (bool, string) { r := f.role(ctx, replica); return r == "replica", r })

	// The leader's data are the only ones that are sure to have all.
	for _, flags := range [][]string{{"--kube=off"}, {"--kube=on", "--namespace=default", "--pod-uid=" + f.uid(ctx, leader)}} {
		r, err := f.Call(ctx, nil, append([]string{"reseed", "--volume=" + leader.Volume, "--pod-name=db-0", "--primary=lease"}, flags...)...)
		if err != nil || r.Code != 3 || !strings.Contains(r.LastLine(), "understudy switchover") {
			t.Errorf("reseed of the leader with %q ended with %d: %s %v", flags, r.Code, r.LastLine(), err)
		}
	}

	// The only acknowledger's server is away, then restarted.
	replica.KillServer()
	f.says(ctx, 1, "acknowledgers: db-1 (away: ", "failover: not possible: db-1: ")
	f.measures(ctx, leader, "understudy_lease_acknowledgers_valid 0", "understudy_failover_possible 0")
	if err := replica.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	f.says(ctx, 0, "acknowledgers: db-1\n", "failover: possible, to db-1")

	// A paused leader goes on leading, and its server is left alone.
	f.paused(ctx, leader)

	// Failover is forbidden: the leader's server is killed, and nobody else leads; when it is back, it
	// leads again.
	if r := f.verb(ctx, "failover", "--forbid", "--reason=a restore"); r.Code != 0 {
		t.Fatalf("failover --forbid: %s", r.LastLine())
	}
	f.says(ctx, 0, "failover: not possible: failover is forbidden: a restore")
	leader.KillServer()
	f.says(ctx, 1, "leader: none: ", "failover is forbidden: a restore")
	time.Sleep(10 * time.Second) // longer than the Lease's duration and an election
	if r := f.lease(ctx); r.Holder == "db-1" || r.Term > 1 {
		t.Errorf("failover is forbidden, and the Lease says %+v", r)
	}
	if err := leader.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	f.says(ctx, 0, "leader: db-0, term 2;", "acknowledgers: db-1\n")

	// Without a leader, any other member allows it.
	leader.KillServer()
	f.says(ctx, 1, "leader: none: ")
	if r := f.verb(ctx, "failover", "--allow"); r.Code != 0 {
		t.Fatalf("failover --allow: %s", r.LastLine())
	}
	f.says(ctx, 1, "leader: db-1, term ")
	if err := leader.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	f.says(ctx, 0, "leader: db-1, term ", "acknowledgers: db-0\n", "failover: possible, to db-0")
	f.measures(ctx, replica, `understudy_elections_total{result="elected"} 1`)

	events := f.must(f.api.Do(ctx, http.MethodGet, "/api/v1/namespaces/default/events", "", ""))
	for _, reason := range []string{"Leads", "Elected", "Resigned", "AcknowledgerNamed", "FailoverForbidden", "FailoverAllowed"} {
		if !strings.Contains(events, `"reason":"`+reason+`"`) && !strings.Contains(events, `"reason": "`+reason+`"`) {
			t.Errorf("there is no Event %s", reason)
		}
	}
}

// paused pauses the leader, closes its server by hand, and resumes.
func (f *fixture) paused(ctx context.Context, leader *set.Member) {
	f.t.Helper()
	for _, verb := range []string{"pause", "resume"} {
		if r, err := f.Call(ctx, nil, verb, "--volume="+leader.Volume); err != nil || r.Code != 0 {
			f.t.Fatalf("%s: %s %v", verb, r.LastLine(), err)
		}
		if verb == "resume" {
			break
		}
		if _, err := leader.Server.DB().ExecContext(ctx, f.closing()); err != nil {
			f.t.Fatal(err)
		}
		for begun := time.Now(); time.Since(begun) < 3*time.Second; time.Sleep(100 * time.Millisecond) {
			var open bool
			if err := leader.Server.DB().QueryRowContext(ctx, "SELECT "+f.isOpen()).Scan(&open); err != nil || open {
				f.t.Fatalf("a paused leader's server was opened: %v", err)
			}
		}
		if r := f.verb(ctx, "switchover", "--to=db-1"); r.Code == 0 || !strings.Contains(r.LastLine(), "understudy resume") && !strings.Contains(r.LastLine(), "no member that answers is the primary") {
			f.t.Errorf("switchover of a paused leader ended with %d: %s", r.Code, r.LastLine())
		}
		if r := f.lease(ctx); r.Holder != "db-0" || r.Term != 1 {
			f.t.Errorf("the paused leader leads no more: %+v", r)
		}
	}
	f.await(ctx, "the server is open again", func() (bool, string) {
		var open bool
		err := leader.Server.DB().QueryRowContext(ctx, "SELECT "+f.isOpen()).Scan(&open)
		return err == nil && open, fmt.Sprint(err)
	})
	f.says(ctx, 0, "leader: db-0, term 1;", "failover: possible, to db-1")
}
