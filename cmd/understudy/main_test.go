package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"understudy/clone"
	"understudy/clone/trust"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/replicate"
	"understudy/replicate/origin"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"understudy": main}) }

// The commands, as a person or a manifest calls them: testdata/*.txtar.
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", RequireExplicitExec: true})
}

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, exitDone},
		{errors.New("anything"), exitFailed},
		{context.Canceled, exitFailed},
		{usageError{errors.New("flag")}, exitUsage},
		{trust.ErrSecret, exitUsage},
		{trust.ErrCertificate, exitUsage},
		{clone.ErrRefused, exitRefused},
		{volume.ErrJournal, exitRefused},
		{volume.ErrOccupied, exitRefused},
		{clone.ErrNoDonor, exitNoDonor},
		{clone.ErrBroken, exitBroken},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.err, got, tt.want)
		}
		if tt.err == nil {
			continue
		}
		if got := exitCode(fmt.Errorf("context: %w", tt.err)); got != tt.want {
			t.Errorf("wrapped %v: %d, want %d", tt.err, got, tt.want)
		}
	}
}

func TestLastWordsAreOneLine(t *testing.T) {
	var b bytes.Buffer
	code := conclude("init", errors.Join(errors.New("first"), errors.New("second")), &b)
	if d := cmp.Diff("understudy init: first; second\n", b.String()); d != "" || code != exitFailed {
		t.Errorf("code %d: %s", code, d)
	}
}

func TestEnvironment(t *testing.T) {
	env := map[string]string{"UNDERSTUDY_CONFIG_DIR": "/from/env", "POD_NAME": "db-7", "UNDERSTUDY_WAIT": "5s", "UNDERSTUDY_BOOTSTRAP": "true"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	var v initVerb
	f := newFlagSet("init", os.Stdout)
	v.define(f)
	if _, err := f.parse([]string{"--wait=1m"}, lookup); err != nil {
		t.Fatal(err)
	}
	if v.configDir != "/from/env" || v.member.podName != "db-7" || v.wait.String() != "1m0s" || !v.bootstrap {
		t.Errorf("%+v", v)
	}
	env["UNDERSTUDY_WAIT"] = "soon"
	f = newFlagSet("init", os.Stdout)
	(&initVerb{}).define(f)
	if _, err := f.parse(nil, lookup); err == nil || !strings.Contains(err.Error(), "UNDERSTUDY_WAIT") {
		t.Errorf("a bad variable: %v", err)
	}
}

func TestMember(t *testing.T) {
	tests := []struct {
		name           string
		change         func(*memberFlags)
		wantHost, fail string
	}{
		{"plain", func(*memberFlags) {}, "db-3.db", ""},
		{"a set with dashes", func(m *memberFlags) { m.podName = "my-own-db-3" }, "my-own-db-3.my-own-db", ""},
		{"template", func(m *memberFlags) { m.peerHost = "{set}-{ordinal}.{service}.{namespace}.svc" }, "db-3.db.default.svc", ""},
		{"another service", func(m *memberFlags) { m.service = "mysql" }, "db-3.mysql", ""},
		{"no ordinal", func(m *memberFlags) { m.podName = "db" }, "", "SET-ORDINAL"},
		{"no flavor", func(m *memberFlags) { m.flavorName = "" }, "", "--flavor is required"},
		{"unknown flavor", func(m *memberFlags) { m.flavorName = "oracle" }, "", "neither mysql nor mariadb"},
		{"before the first", func(m *memberFlags) { m.firstOrdinal = 4 }, "", "--first-ordinal"},
		{"server_id 0", func(m *memberFlags) { m.serverIDBase = -3 }, "", "server_id"},
		{"a template for one", func(m *memberFlags) { m.peerHost = "db" }, "", "{ordinal}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := memberFlags{
				setFlags:     setFlags{podName: "db-3", namespace: "default", peerHost: "{set}-{ordinal}.{service}"},
				serverIDBase: 100, flavorName: "mariadb",
			}
			tt.change(&m)
			err := m.validate()
			if tt.fail != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fail) {
					t.Errorf("err = %v, want %q in it", err, tt.fail)
				}
				return
			}
			if err != nil || m.host(m.ordinal) != tt.wantHost || m.serverID() != 103 {
				t.Errorf("%v: host %s, server_id %d", err, m.host(m.ordinal), m.serverID())
			}
		})
	}
}

// Only the primary, or a replica whose applier runs, gives clones, and only once it is
// attached.
func TestServing(t *testing.T) {
	running := &replicate.Channel{SQLRunning: true, UsingGTID: true}
	byPosition := &replicate.Channel{SQLRunning: true}
	lacking := &replicate.SourceFacts{Errant: "0-101-8"}
	ok := replicate.Status{ServerVersion: "10.11.19-MariaDB", Facts: replicate.Facts{UsesGTID: true}}
	with := func(change func(*replicate.Status)) replicate.Status { s := ok; change(&s); return s }
	tests := []struct {
		name   string
		phase  volume.Phase
		status replicate.Status
		want   string // the origin's mode; empty: refused
	}{
		{"primary", volume.Attached, with(func(s *replicate.Status) { s.Primary = true }), "gtid"},
		{"primary without GTIDs", volume.Attached, with(func(s *replicate.Status) { s.Primary, s.Facts.UsesGTID = true, false }), "position"},
		{"primary, not attached", volume.Published, with(func(s *replicate.Status) { s.Primary = true }), ""},
		{"primary whose server is away", volume.Attached, with(func(s *replicate.Status) { s.Primary, s.Facts.Trouble = true, "away" }), ""},
		{"replica", volume.Attached, with(func(s *replicate.Status) { s.Facts.Channel = running }), "gtid"},
		{"replica by position", volume.Attached, with(func(s *replicate.Status) { s.Facts.Channel = byPosition }), "position"},
		{"replica, not attached", volume.Published, with(func(s *replicate.Status) { s.Facts.Channel = running }), ""},
		{"replica without a channel", volume.Attached, ok, ""},
		{"replica whose applier stopped", volume.Attached, with(func(s *replicate.Status) { s.Facts.Channel = &replicate.Channel{UsingGTID: true} }), ""},
		{"nothing seen yet", volume.Attached, replicate.Status{Primary: true}, ""},
		{"replica that needs help", volume.Attached, with(func(s *replicate.Status) { s.Facts.Channel, s.Verdict = running, replicate.Report }), ""},
		{"replica that is to be cloned anew", volume.Attached, with(func(s *replicate.Status) { s.Facts.Channel, s.Verdict = running, replicate.Reseed }), ""},
		{"paused replica that is to be cloned anew", volume.Attached, with(func(s *replicate.Status) {
			s.Facts.Channel, s.Verdict, s.Action.Step = running, replicate.Reseed, replicate.Leave
		}), ""},
		{"replica by position that needs help", volume.Attached, with(func(s *replicate.Status) { s.Facts.Channel, s.Verdict = byPosition, replicate.Report }), ""},
		{"replica with a transaction of its own", volume.Attached, with(func(s *replicate.Status) { s.Facts.Channel, s.Facts.Source = running, lacking }), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			errant := func() string {
				if tt.status.Facts.Source == lacking {
					return lacking.Errant
				}
				return ""
			}
			h, err := serving(tt.phase, tt.status, errant)
			if tt.want == "" {
				if !errors.Is(err, wire.ErrNotServing) {
					t.Errorf("err = %v", err)
				}
				return
			}
			if err != nil || string(h.Origin) != tt.want {
				t.Errorf("origin %q, %v", h.Origin, err)
			}
		})
	}
}

// What the agent has the journal remember is there after a restart.
func TestRecord(t *testing.T) {
	root := t.TempDir()
	vol, err := volume.Open(t.Context(), root, time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = vol.Close() }()
	byFile := &origin.Origin{Mode: origin.Position, Of: origin.Source, File: "binlog.000003", Position: 671}
	if err := vol.WriteJournal(volume.Journal{Phase: volume.Published, ID: "a", Origin: byFile}); err != nil {
		t.Fatal(err)
	}
	open := func() *record {
		t.Helper()
		r, err := newRecord(vol, func(context.Context) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	want := replicate.Recorded{Origin: byFile}
	check := func(what string, r *record) {
		t.Helper()
		if d := cmp.Diff(want, r.Standing()); d != "" {
			t.Error(what, d)
		}
	}
	r := open()
	check("at first", r)
	if err := r.MarkConfigured(); err != nil {
		t.Fatal(err)
	}
	want.Configured = true
	check("configured", r)
	check("configured, and read again", open())
	checkPause(t, vol, r)
	if err := r.MarkAttached(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.MarkSemiSynced(); err != nil {
		t.Fatal(err)
	}
	want.Attached, want.SemiSynced = true, true
	check("attached", r)
	check("attached, and read again", open())
}

func TestKeepGTIDMode(t *testing.T) {
	tests := []struct {
		name string
		j    volume.Journal
		want bool
	}{
		{"a set that was made by us", volume.Journal{}, false},
		{"a copy by GTID", volume.Journal{Origin: &origin.Origin{Mode: origin.GTID}}, false},
		{"a copy by file and position", volume.Journal{Origin: &origin.Origin{Mode: origin.Position}}, true},
		{"a copy that says so once it has booted", volume.Journal{Origin: &origin.Origin{Mode: origin.FirstBoot}}, true},
		{"adopted", volume.Journal{Adopted: true, Origin: &origin.Origin{Mode: origin.GTID}}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := keepGTIDMode(&tt.j); got != tt.want {
				t.Error(got)
			}
		})
	}
}
