package main

import (
	"log/slog"
	"testing"
	"time"

	"understudy/clone/volume"
	"understudy/cmd/understudy/internal/member"
)

// Without a Lease the volume says who led last, as far as it has seen.
func TestLedLast(t *testing.T) {
	for _, tt := range []struct {
		remembered volume.Term
		want       uint64
	}{
		{volume.Term{}, 0},
		{volume.Term{Seen: 4, Opened: 4}, 4},
		{volume.Term{Seen: 5, Opened: 4}, 0},
		{volume.Term{Seen: 5}, 0},
	} {
		if got, err := ledLast(t.Context(), "db-0", nil, tt.remembered); got != tt.want || err != nil {
			t.Errorf("%+v: %d, %v", tt.remembered, got, err)
		}
	}
}

// A request for a reseed on the volume of the member that led last is closed, and not obeyed: a
// request may be older than its term.
func TestRequestOnTheLastLeader(t *testing.T) {
	for _, tt := range []struct {
		name       string
		remembered volume.Term
		obeyed     bool
	}{
		{"a replica", volume.Term{Seen: 4}, true},
		{"a former leader", volume.Term{Seen: 5, Opened: 4}, true},
		{"the last leader", volume.Term{Seen: 4, Opened: 4}, false},
	} {
		m := &member.Member{Identity: member.Identity{Name: "db-0"}, Root: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
		m.Kube = member.NewKube(m.Identity, member.KubeConfig{}, m.Log)
		if err := m.OpenVolume(t.Context()); err != nil {
			t.Fatal(err)
		}
		request := volume.Request{By: "a test", At: time.Now()}
		if err := volume.WriteRequest(m.Root, request); err != nil {
			t.Fatal(err)
		}
		if err := m.Volume.WriteTerm(tt.remembered); err != nil {
			t.Fatal(err)
		}
		got, err := (&initVerb{}).requested(t.Context(), m, &request)
		left, readErr := m.Volume.Facts(false, false)
		if (got != nil) != tt.obeyed || (left.Request != nil) != tt.obeyed || err != nil || readErr != nil {
			t.Errorf("%s: obeyed %v, left %v, %v, %v", tt.name, got != nil, left.Request, err, readErr)
		}
		if err := m.Volume.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
