package replicate

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"understudy/replicate/flavor"
)

func TestParseSemiSync(t *testing.T) {
	for _, name := range []string{"off", "preferred", "required"} {
		if mode, err := ParseSemiSync(name); err != nil || string(mode) != name || mode.wanted() == (name == "off") {
			t.Errorf("%s: %q, %v", name, mode, err)
		}
	}
	for _, name := range []string{"", "on", "Required"} {
		if _, err := ParseSemiSync(name); err == nil {
			t.Errorf("%q is a mode", name)
		}
	}
}

func TestSemiSyncStatements(t *testing.T) {
	texts := func(all []statement) (got []string) {
		for _, st := range all {
			got = append(got, st.text)
		}
		return got
	}
	newSource := []string{
		"SET GLOBAL rpl_semi_sync_source_timeout = 4294967295", "SET GLOBAL rpl_semi_sync_source_wait_point = AFTER_SYNC",
		"SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON", "SET GLOBAL rpl_semi_sync_source_enabled = ON",
	}
	oldSource := []string{
		"SET GLOBAL rpl_semi_sync_master_timeout = 4294967295", "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC",
		"SET GLOBAL rpl_semi_sync_master_wait_no_slave = ON", "SET GLOBAL rpl_semi_sync_master_enabled = ON",
	}
	tests := []struct {
		v               flavor.Version
		source, replica []string
	}{
		{versions["mariadb"], oldSource, []string{
			"STOP SLAVE IO_THREAD", "SET GLOBAL rpl_semi_sync_slave_enabled = ON", "SET GLOBAL rpl_semi_sync_slave_kill_conn_timeout = 1", "START SLAVE IO_THREAD",
		}},
		{versions["mysql 5.7"], oldSource, []string{"STOP SLAVE IO_THREAD", "SET GLOBAL rpl_semi_sync_slave_enabled = ON", "START SLAVE IO_THREAD"}},
		{
			flavor.Version{Flavor: flavor.MySQL, Major: 8, Patch: 25},
			oldSource,
			[]string{"STOP REPLICA IO_THREAD", "SET GLOBAL rpl_semi_sync_slave_enabled = ON", "START REPLICA IO_THREAD"},
		},
		{
			flavor.Version{Flavor: flavor.MySQL, Major: 8, Patch: 26},
			newSource,
			[]string{"STOP REPLICA IO_THREAD", "SET GLOBAL rpl_semi_sync_replica_enabled = ON", "START REPLICA IO_THREAD"},
		},
		{versions["mysql 9.7"], newSource, []string{"STOP REPLICA IO_THREAD", "SET GLOBAL rpl_semi_sync_replica_enabled = ON", "START REPLICA IO_THREAD"}},
	}
	for _, tt := range tests {
		t.Run(tt.v.String(), func(t *testing.T) {
			d := dialectOf(tt.v)
			if diff := cmp.Diff(tt.source, texts(d.sourceStatements(SemiSyncRequired))); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.replica, texts(d.acknowledgeStatements(true))); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.replica[1:len(tt.replica)-1], texts(d.acknowledgeStatements(false))); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := dialectOf(version).sourceStatements(SemiSyncPreferred)[0].text; !strings.HasSuffix(got, " = 10000") {
		t.Error(got)
	}
}

// semiSyncPair are two members of a new set, the second of which has not been told whom to follow.
func semiSyncPair(t *testing.T, name string, mode SemiSync) (p, r *member) {
	t.Helper()
	in := installed(t, name)
	p, r = newPair(t, in)
	for _, m := range []*member{p, r} {
		m.settings.SemiSync = mode
		m.boot(t)
	}
	p.follow(t, nil)
	r.follow(t, p)
	return p, r
}

// commit tries to commit a row on the primary.
func (m *member) commit(t *testing.T, text string) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := m.server.DB().ExecContext(context.WithoutCancel(t.Context()), text)
		ended <- err
	}()
	return ended
}

func waits(t *testing.T, commit <-chan error, d time.Duration) {
	t.Helper()
	select {
	case err := <-commit:
		t.Fatalf("a commit did not wait for a replica: %v", err)
	case <-time.After(d): // nothing tells that nothing happens
	}
}

func ends(t *testing.T, commit <-chan error) {
	t.Helper()
	select {
	case err := <-commit:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("a commit did not end")
	}
}

func TestSemiSyncRequired(t *testing.T) {
	for name := range installations {
		t.Run(name, func(t *testing.T) {
			p, r := semiSyncPair(t, name, SemiSyncRequired)
			d := p.dialect()
			// A lone primary opens, and commits.
			p.steps(t, MakeAccount, MarkAttached, OpenForWrites, Rest)
			if reason := p.agent.Status().Reason; !strings.Contains(reason, "takes effect when a replica is attached") {
				t.Error(reason)
			}
			p.run(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)")
			// The first replica brings it into force.
			r.steps(t, Configure, SetSemiSync, Start, MarkAttached, Rest)
			p.reaches(t, func(f Facts) bool { return f.SemiSync.Replicas == 1 })
			p.steps(t, SetSemiSync, Rest)
			if !p.recorded.SemiSynced {
				t.Error("not recorded")
			}
			p.run(t, "INSERT INTO d.t VALUES (1)")
			p.reaches(t, func(f Facts) bool { return f.SemiSync.Active && f.SemiSync.Safe && f.SemiSync.Wait == requiredWait })
			r.reaches(t, func(f Facts) bool { return f.SemiSync.Acknowledging })
			p.steps(t, Rest)
			r.steps(t, Rest)

			// Somebody turns it off, on either side.
			p.run(t, "SET GLOBAL "+d.semiSyncWords.Replace("rpl_semi_sync_source_enabled")+" = OFF")
			p.steps(t, SetSemiSync, Rest)
			r.run(t, "SET GLOBAL "+d.semiSyncWords.Replace("rpl_semi_sync_replica_enabled")+" = OFF")
			r.steps(t, SetSemiSync, Rest)
			p.run(t, "INSERT INTO d.t VALUES (2)")
			r.reaches(t, func(f Facts) bool { return f.SemiSync.Acknowledging })

			// Without a replica, commits wait, and the replication account can be changed all the
			// same; the others later.
			r.run(t, d.stopReceiver)
			commit := p.commit(t, "INSERT INTO d.t VALUES (3)")
			p.reaches(t, func(f Facts) bool { return f.SemiSync.Replicas == 0 })
			waits(t, commit, 2*time.Second)
			p.password, p.clone = "an0ther", "the clone's next"
			p.steps(t, MakeAccount, Wait)
			if s := p.agent.Status(); !s.Ready || !strings.Contains(s.Reason, "no replica is attached") || !strings.Contains(s.Action.Reason, "commits wait") {
				t.Errorf("%+v", s)
			}
			r.password = p.password
			r.steps(t, Start, Repoint, Rest)
			ends(t, commit)
			p.steps(t, MakeAccount, Rest)
			p.isIn(t, sidecarUser, cloneUser)
			r.arrives(t, rows, "1,2,3")

			// A primary that restarts alone opens with it, and acknowledges nothing alone.
			if err := r.server.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.reboot(t)
			p.steps(t, SetSemiSync, OpenForWrites, Wait)
			commit = p.commit(t, "INSERT INTO d.t VALUES (4)")
			waits(t, commit, 2*time.Second)
			r.boot(t)
			r.steps(t, SetSemiSync, Start, Rest)
			ends(t, commit)
			p.steps(t, Rest)
			r.arrives(t, rows, "1,2,3,4")
		})
	}
}

// A commit waits for ten seconds, the next ones for none.
func TestSemiSyncPreferred(t *testing.T) {
	for name := range installations {
		t.Run(name, func(t *testing.T) {
			p, r := semiSyncPair(t, name, SemiSyncPreferred)
			p.steps(t, MakeAccount, MarkAttached, OpenForWrites, Rest)
			p.run(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)")
			r.steps(t, Configure, SetSemiSync, Start, MarkAttached, Rest)
			p.reaches(t, func(f Facts) bool { return f.SemiSync.Replicas == 1 })
			p.steps(t, SetSemiSync, Rest)
			p.run(t, "INSERT INTO d.t VALUES (1)")
			p.reaches(t, func(f Facts) bool { return f.SemiSync.Active })
			r.run(t, p.dialect().stopReceiver)
			begin := time.Now()
			ends(t, p.commit(t, "INSERT INTO d.t VALUES (2)"))
			if took := time.Since(begin); took < 8*time.Second {
				t.Errorf("a commit waited only for %v", took)
			}
			begin = time.Now()
			ends(t, p.commit(t, "INSERT INTO d.t VALUES (3)"))
			if took := time.Since(begin); took > 8*time.Second { // or it has waited, too
				t.Errorf("the next commit waited for %v", took)
			}
			p.reaches(t, func(f Facts) bool { return !f.SemiSync.Active })
			p.steps(t, Rest)
			r.steps(t, Start, Rest)
			p.run(t, "INSERT INTO d.t VALUES (4)")
			p.reaches(t, func(f Facts) bool { return f.SemiSync.Active })
			if p.recorded.SemiSynced {
				t.Error("recorded as required")
			}
		})
	}
}

// MySQL needs what init writes for it.
func TestSemiSyncNotLoaded(t *testing.T) {
	in := installed(t, "mysql-9.7")
	first, _ := freshDirs(t, in)
	p := newMember(t, in, 100, first)
	p.boot(t)
	p.settings.SemiSync = SemiSyncRequired
	p.follow(t, nil)
	p.reports(t, semiSyncMismatch)
	if !p.agent.Status().Facts.ReadOnly {
		t.Error("it has opened")
	}
}
