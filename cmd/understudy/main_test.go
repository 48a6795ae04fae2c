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
	"understudy/replicate"
	"understudy/replicate/fence"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"understudy": main, fence.WatchdogName: main})
}

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
		{serverEnded{fence.End{Code: 137}}, 137},
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

// Init and sidecar wait for the other members by the same rule.
func TestLevelWait(t *testing.T) {
	for wait, want := range map[time.Duration]replicate.Patience{
		0:           {},
		time.Second: {Silent: time.Second, Starting: time.Second},
		time.Minute: {Silent: silentPatience, Starting: time.Minute},
	} {
		l := levelFlags{wait: wait}
		if got := l.patience(); got != want {
			t.Errorf("--level-wait=%v: %+v", wait, got)
		}
	}
	for _, n := range []int{-1, maxParallel + 1} {
		if err := (&engineFlags{name: engineAuto, parallel: n}).validate(); err == nil {
			t.Errorf("--parallel=%d was accepted", n)
		}
	}
	if err := (&levelFlags{wait: -1}).validate(); err == nil {
		t.Error("--level-wait=-1ns is taken")
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
			if err != nil || m.id.Host() != tt.wantHost || m.id.ServerID() != 103 {
				t.Errorf("%v: host %s, server_id %d", err, m.id.Host(), m.id.ServerID())
			}
		})
	}
}
