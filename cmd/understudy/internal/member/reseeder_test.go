package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/k8s"
	"understudy/replicate"
)

// rig is a reseeder on a volume with data, whose member cannot be healed, and whose source is well.
type rig struct {
	*Reseeder

	status replicate.Status
	member wire.Member
	away   error // of the source
	evict  error
	asked  int // times that the eviction was asked for
	events []string
	now    time.Time
}

func newRig(t *testing.T) *rig {
	t.Helper()
	root := t.TempDir()
	v, err := volume.Open(t.Context(), root, time.Second, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	r := &rig{
		status: replicate.Status{
			Attached: true, Action: replicate.Action{Step: replicate.Reseed, Reason: "they differ"},
			Facts: replicate.Facts{Source: &replicate.SourceFacts{Errant: "0-101-8", OnlyOurs: true}},
		},
		member: wire.Member{Name: "db-0", Role: wire.Primary, Phase: "attached", Ready: true},
		now:    time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	r.Reseeder = &Reseeder{
		config: ReseedConfig{Auto: true, Keep: time.Hour}, member: "db-1", root: root, volume: v,
		status: func() replicate.Status { return r.status },
		source: func(context.Context) (wire.Member, error) { return r.member, r.away },
		evict:  func(context.Context) error { r.asked++; return r.evict },
		event:  func(_ bool, reason, _ string) { r.events = append(r.events, reason) },
		log:    slog.New(slog.DiscardHandler),
	}
	return r
}

// lasts turns the loop every two seconds for so long.
func (r *rig) lasts(t *testing.T, d time.Duration) {
	t.Helper()
	const interval = 2 * time.Second
	for end := r.now.Add(d); r.now.Before(end); r.now = r.now.Add(interval) {
		if err := r.turn(t.Context(), interval, r.now); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *rig) request(t *testing.T) *volume.Request {
	t.Helper()
	request, err := volume.ReadRequest(r.root)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// Whether a member asks for a reseed by itself.
func TestReseedAsks(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*rig)
		want   bool
		says   string // what speaks against it
	}{
		{"it cannot be healed", func(*rig) {}, true, ""},
		{"what it needs is purged", func(r *rig) { r.status.Facts.Source = &replicate.SourceFacts{Purged: "0-100-6", OnlyOurs: true} }, true, ""},
		{"never", func(r *rig) { r.config.Auto = false }, false, ""},
		{"it needs manual action", func(r *rig) { r.status.Action.Step = replicate.Report }, false, ""},
		{"the primary", func(r *rig) { r.first = true }, false, "it is the primary"},
		{"the source may have lost it", func(r *rig) { r.status.Facts.Source.OnlyOurs = false }, false, "the primary may have lost them"},
		{"it was a leader, whose tail bears the name of its term", func(r *rig) { r.status.Facts.Source.OnlyOurs, r.status.Judged = false, true }, true, ""},
		{"without GTIDs", func(r *rig) { r.status.Facts.Source = nil }, false, "by GTID"},
		{"the source is away", func(r *rig) { r.away = errors.New("connection refused") }, false, "connection refused"},
		{"the source is not ready", func(r *rig) { r.member.Ready, r.member.Reason = false, "the primary is read-only" }, false, "the primary is read-only"},
		{"the source is being cloned", func(r *rig) { r.member.Phase = "cloning" }, false, "cloning"},
		{"the source is a replica", func(r *rig) { r.member.Role = wire.Replica }, false, "(replica"},
		{"it would not fit", func(r *rig) { r.member.Offer = &wire.Offer{NeededBytes: 1 << 60} }, false, "MiB free"},
		{"it fits", func(r *rig) { r.member.Offer = &wire.Offer{NeededBytes: 1 << 10} }, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			tt.change(r)
			r.lasts(t, time.Minute)
			request := r.request(t)
			if (request != nil) != tt.want || (r.asked > 0) != tt.want || !strings.Contains(r.said, tt.says) || (tt.says == "") != (r.said == "") {
				t.Fatalf("request %+v, %d evictions, said %q", request, r.asked, r.said)
			}
			if tt.want && (!request.Automatic || request.Reason != "they differ" || request.Errant != r.status.Facts.Source.Errant) {
				t.Errorf("%+v", request)
			}
		})
	}
}

// A verdict has to stand for a while, and the hour counts from the last request.
func TestReseedTakesItsTime(t *testing.T) {
	r := newRig(t)
	r.lasts(t, 18*time.Second)
	r.status.Action.Step = replicate.Start
	r.lasts(t, 2*time.Second)
	r.status.Action.Step = replicate.Reseed
	r.lasts(t, 18*time.Second)
	if got := r.request(t); got != nil {
		t.Errorf("after less than ten looks: %+v", got)
	}
	r.lasts(t, 6*time.Second)
	if r.request(t) == nil {
		t.Fatal("no request")
	}
	if err := r.volume.CloseRequest(); err != nil {
		t.Fatal(err)
	}
	r.lasts(t, 58*time.Minute)
	if got := r.request(t); got != nil || !strings.Contains(r.said, "one an hour") {
		t.Errorf("within the hour: %+v, said %q", got, r.said)
	}
	r.lasts(t, 3*time.Minute)
	if r.request(t) == nil {
		t.Error("no request after an hour")
	}
}

// A clock that was set back does not make the last request one of the future for good: then
// the hour counts from the start of the sidecar.
func TestReseedAfterClockWasSetBack(t *testing.T) {
	r := newRig(t)
	r.begun = r.now
	if err := volume.WriteRequest(r.root, volume.Request{At: r.now.AddDate(10, 0, 0)}); err != nil {
		t.Fatal(err)
	}
	if err := r.volume.CloseRequest(); err != nil {
		t.Fatal(err)
	}
	r.lasts(t, 59*time.Minute)
	if got := r.request(t); got != nil || !strings.Contains(r.said, "one an hour") {
		t.Errorf("within the hour: %+v, said %q", got, r.said)
	}
	r.lasts(t, 2*time.Minute)
	if r.request(t) == nil {
		t.Error("no request after an hour")
	}
}

// An eviction that is not allowed is requested again, and reported once; one that cannot be
// requested is explained.
func TestReseedEvicts(t *testing.T) {
	r := newRig(t)
	r.evict = fmt.Errorf("evict: %w", k8s.ErrBudget)
	r.lasts(t, 2*time.Minute)
	if r.asked < 9 || r.asked > 11 || fmt.Sprint(r.events) != "[ReseedRequested ReseedWaits]" {
		t.Errorf("%d tries, events %v", r.asked, r.events)
	}
	r.evict = nil
	r.lasts(t, 11*time.Second)
	if r.events[len(r.events)-1] != "Evicted" {
		t.Errorf("events %v", r.events)
	}

	r = newRig(t)
	r.Reseeder.evict = nil
	r.lasts(t, time.Minute)
	if r.request(t) == nil || !strings.Contains(r.said, "run init") {
		t.Errorf("said %q", r.said)
	}
}

// A request of the sidecar's own is withdrawn when replication runs again; a person's is not,
// and of the primary neither is carried out.
func TestReseedRequests(t *testing.T) {
	running := replicate.Status{
		Attached: true, Action: replicate.Action{Step: replicate.Rest}, Facts: replicate.Facts{Channel: &replicate.Channel{IO: "Yes", SQLRunning: true}},
	}
	for _, tt := range []struct {
		name             string
		automatic, first bool
		stays            bool
		evictions        int
	}{
		{"its own", true, false, false, 0},
		{"a person's", false, false, true, 1},
		{"of the primary", false, true, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.status, r.first = running, tt.first
			if err := volume.WriteRequest(r.root, volume.Request{Automatic: tt.automatic}); err != nil {
				t.Fatal(err)
			}
			r.lasts(t, 8*time.Second)
			if stays := r.request(t) != nil; stays != tt.stays || r.asked != tt.evictions {
				t.Errorf("it stays: %v, %d evictions", stays, r.asked)
			}
		})
	}
}

// The old data go when the new copy has replicated for the whole of --keep-replaced without
// an error in between.
func TestReplacedIsRemoved(t *testing.T) {
	r := newRig(t)
	old := filepath.Join(r.root, ".understudy", "replaced-x")
	if err := errors.Join(os.MkdirAll(old, 0o750), os.WriteFile(old+".json", []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	r.config.Auto = false
	there := func() bool {
		_, err := os.Stat(old)
		return err == nil
	}
	broken := r.status
	r.status = replicate.Status{
		Attached: true, Action: replicate.Action{Step: replicate.Rest}, Facts: replicate.Facts{Channel: &replicate.Channel{IO: "Yes", SQLRunning: true}},
	}
	running := r.status
	r.lasts(t, 59*time.Minute)
	r.status = broken
	r.lasts(t, 2*time.Second)
	r.status = running
	r.lasts(t, time.Hour)
	if !there() {
		t.Error("it was removed although replication broke within the hour")
	}
	r.lasts(t, 4*time.Second)
	if there() {
		t.Error("it is still there")
	}
}
