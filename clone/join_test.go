package clone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"understudy/clone/engine"
	"understudy/clone/trust"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

func newJoiner(v *volume.Volume, addr string) *Joiner {
	return &Joiner{
		Volume: v, Engines: Engines{newEngine()}, Flavor: flavor.MariaDB,
		Ordinal: 1, Candidates: []Candidate{{Name: "db-0", Addr: addr}}, Connect: clientConfig(""),
		Tracker: &Tracker{}, Wait: soon, Memory: 64 << 20, Log: slog.New(slog.DiscardHandler),
	}
}

// wantPublished fails unless the volume holds a published clone and nothing else.
func wantPublished(t *testing.T, v *volume.Volume) *volume.Journal {
	t.Helper()
	f, err := v.Facts(false, false)
	if err != nil {
		t.Fatal(err)
	}
	if verdict, why := volume.Decide(f); verdict != volume.Keep || f.Journal.Phase != volume.Published {
		t.Fatalf("%s (%s), journal %+v", verdict, why, f.Journal)
	}
	if d := cmp.Diff([]string{"journal", "lock"}, leftovers(t, v)); d != "" {
		t.Error(d)
	}
	return f.Journal
}

// wantNothing fails unless the volume holds nothing that a server would start on, and
// no more below .understudy than left.
func wantNothing(t *testing.T, v *volume.Volume, left ...string) {
	t.Helper()
	if live, err := v.InspectLive(); err != nil || live.Content != volume.Empty {
		t.Errorf("the live directory: %+v, %v", live, err)
	}
	if d := cmp.Diff(left, leftovers(t, v)); d != "" {
		t.Error(d)
	}
}

// The real stream, after a try that was cut.
func TestJoinRecorded(t *testing.T) {
	b := recordedStream(t)
	_, addr := serve(t, cut(b[:len(b)/8]), whole(b))
	v := openVolume(t)
	j := newJoiner(v, addr)
	e := newEngine()
	e.prepare = func(_ context.Context, dir string, memory int64) error {
		if memory != j.Memory || filepath.Dir(filepath.Dir(dir)) != filepath.Dir(v.Live()) {
			t.Errorf("prepare in %s with %d bytes", dir, memory)
		}
		return markPrepared(dir)
	}
	j.Engines = Engines{e}
	if err := j.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	o, err := volume.Origin(v.Live(), flavor.MariaDB)
	if err != nil || o == nil || o.Mode != origin.GTID || o.Of != origin.Donor {
		t.Fatal(o, err)
	}
	want := &volume.Journal{
		Format: 1, Phase: volume.Published, Donor: "db-0", Engine: engine.MariaDBBackupName, ServerVersion: header().ServerVersion,
		Bytes: int64(len(b)), Digest: fmt.Sprintf("xxh64:%016x", xxhash.Sum64(b)), Origin: o,
	}
	got := wantPublished(t, v)
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(volume.Journal{}, "ID", "InfoMade")); d != "" || got.ID == "" || got.InfoMade.IsZero() {
		t.Error(d)
	}
	files := unpacked(t)
	delete(files, "xtrabackup_checkpoints") // what prepare changes
	there := digests(t, v.Live())
	delete(there, "xtrabackup_checkpoints")
	if d := cmp.Diff(files, there); d != "" {
		t.Error(d)
	}
}

// unpacked is what the tool's own unpacker made of the recorded stream.
func unpacked(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(recordedName + ".sha256")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(text)) {
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		files[name] = sum
	}
	return files
}

// A stream that ends too early anywhere, in whatever way, is noticed, and the next try
// does. Where the tool says that it ended well, and the donor's proof is right, only
// the files tell.
func TestJoinAfterTruncatedStreams(t *testing.T) {
	b := stream(t, small())
	places := borders(t, b)
	places = append(places[1:len(places)-1], 1, len(b)/2, len(b)-1)
	for i, n := range places {
		first := []func([]byte) play{cut, failing}[i%2]
		t.Run(fmt.Sprintf("%d of %d bytes", n, len(b)), func(t *testing.T) {
			d, addr := serve(t, first(b[:n]), whole(b[:n]), whole(b))
			v := openVolume(t)
			if err := newJoiner(v, addr).Join(t.Context()); err != nil {
				t.Fatal(err)
			}
			if j := wantPublished(t, v); j.Bytes != int64(len(b)) || d.asked.Load() != maxBroken {
				t.Errorf("%d requests, journal %+v", d.asked.Load(), j)
			}
		})
	}
}

func TestJoinBroken(t *testing.T) {
	corrupt := stream(t, small())
	corrupt[len(corrupt)/2] ^= 1
	replica := func(b []byte) play { return announced(b, func(h *wire.Header) { h.Role = wire.Replica }) }
	tests := []struct {
		name string
		play play
		want string
	}{
		{"cut", cut(stream(t, small())[:1000]), "incomplete stream"},
		{"the tool fails", failing(stream(t, small())), "the disk is on fire"},
		{"a flipped bit", whole(corrupt), "corrupt"},
		{"no xbstream", whole([]byte("<html>")), "corrupt"},
		{"no info file", whole(stream(t, without(small(), "xtrabackup_info"))), `none of the files ["xtrabackup_info"`},
		{"no checkpoints file", whole(stream(t, without(small(), "xtrabackup_checkpoints"))), "no checkpoints file"},
		{"already prepared", whole(stream(t, with(without(small(), "xtrabackup_checkpoints"), file{"xtrabackup_checkpoints", "backup_type = log-applied\n"}))), `says "log-applied"`},
		{"no system tablespace", whole(stream(t, without(small(), "ibdata1"))), "ibdata1 is missing"},
		{"no coordinate", whole(stream(t, without(small(), "xtrabackup_binlog_info"))), "no replication coordinate"},
		{"a coordinate that is none", whole(stream(t, with(without(small(), "xtrabackup_binlog_info"), file{"xtrabackup_binlog_info", "x"}))), "malformed"},
		{"a replica without the source's coordinate", replica(stream(t, small())), "the source's coordinate did not come"},
		{"a replica with an empty slave info", replica(stream(t, with(small(), file{"xtrabackup_slave_info", ""}))), "the source's coordinate did not come"},
		{"a way out", whole(escaping(t)), ".."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, addr := serve(t, tt.play)
			v := openVolume(t)
			err := newJoiner(v, addr).Join(t.Context())
			if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "3 times in a row") {
				t.Errorf("err = %v", err)
			}
			if n := d.asked.Load(); n != maxBroken {
				t.Errorf("%d tries", n)
			}
			wantNothing(t, v, "journal", "lock")
		})
	}
}

// escaping is a stream whose first file would lie outside of the directory.
func escaping(t *testing.T) []byte {
	t.Helper()
	b := stream(t, with(small(), file{"aa/evil", "x"}))
	return []byte(strings.ReplaceAll(string(b), "aa/evil", "../evil"))
}

func TestJoinReplica(t *testing.T) {
	b := stream(t, with(small(), file{"xtrabackup_slave_info", slaveInfo}, file{"auto.cnf", "[auto]\n"}))
	_, addr := serve(t, announced(b, func(h *wire.Header) { h.Role, h.Origin = wire.Replica, origin.Position }))
	v := openVolume(t)
	if err := newJoiner(v, addr).Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := &origin.Origin{Mode: origin.Position, Of: origin.Source, File: "binlog.000003", Position: 671}
	if d := cmp.Diff(want, wantPublished(t, v).Origin); d != "" {
		t.Error(d)
	}
	if _, ok := digests(t, v.Live())["auto.cnf"]; ok {
		t.Error("the donor's identity was copied")
	}
}

func TestJoinRefused(t *testing.T) {
	tests := []struct {
		name   string
		change func(*wire.Header)
		want   string
	}{
		{"another engine", func(h *wire.Header) { h.Engine = "xtrabackup" }, `streams with "xtrabackup"`},
		{"another series", func(h *wire.Header) { h.ServerVersion = "11.4.2-MariaDB" }, "11.4.2"},
		{"another flavour", func(h *wire.Header) { h.ServerVersion = "8.0.36" }, "mysql 8.0.36"},
		{"no version", func(h *wire.Header) { h.ServerVersion = "unknown" }, "the donor's server"},
		{"no origin", func(h *wire.Header) { h.Origin = "" }, "no replication coordinate"},
		{"an origin that only a server knows", func(h *wire.Header) { h.Origin = origin.FirstBoot }, "first-boot"},
		{"too large", func(h *wire.Header) { h.EstimatedBytes = 1 << 60 }, "the clone needs about 1048576.0 TiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, addr := serve(t, announced(stream(t, small()), tt.change))
			v := openVolume(t)
			err := newJoiner(v, addr).Join(t.Context())
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.want) || d.asked.Load() != 1 {
				t.Errorf("err = %v after %d requests", err, d.asked.Load())
			}
			wantNothing(t, v, "lock") // and no journal
		})
	}
}

// Without its tool a member does not even ask.
func TestJoinWithoutTool(t *testing.T) {
	d, addr := serve(t, whole(stream(t, small())))
	v := openVolume(t)
	j, e := newJoiner(v, addr), newEngine()
	e.version = func() (flavor.Version, error) { return flavor.Version{}, engine.ErrTool }
	j.Engines = Engines{e}
	if err := j.Join(t.Context()); !errors.Is(err, engine.ErrTool) || d.asked.Load() != 0 {
		t.Errorf("err = %v after %d requests", err, d.asked.Load())
	}
	wantNothing(t, v, "lock")
}

func TestJoinPrepareFails(t *testing.T) {
	failed := fmt.Errorf("%w: exit status 1: no memory", engine.ErrTool)
	d, addr := serve(t, whole(stream(t, small())))
	v := openVolume(t)
	j, e := newJoiner(v, addr), newEngine()
	e.prepare = func(context.Context, string, int64) error { return failed }
	j.Engines = Engines{e}
	err := j.Join(t.Context())
	if !errors.Is(err, failed) || errors.Is(err, ErrBroken) || d.asked.Load() != 1 {
		t.Errorf("err = %v after %d requests", err, d.asked.Load())
	}
	wantNothing(t, v, "journal", "lock")
	if entry, err := v.ReadJournal(); err != nil || entry.Phase != volume.Preparing {
		t.Errorf("%+v, %v", entry, err)
	}
	// A tool that says it did well, and did not.
	e.prepare = func(context.Context, string, int64) error { return nil }
	if err := j.Join(t.Context()); !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "full-backuped") {
		t.Errorf("err = %v", err)
	}
	wantNothing(t, v, "journal", "lock")
}

// What is there stays, whatever the caller was thinking.
func TestJoinOverData(t *testing.T) {
	_, addr := serve(t, whole(stream(t, small())))
	v := openVolume(t)
	precious := filepath.Join(v.Live(), "ibdata1")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newJoiner(v, addr).Join(t.Context()); !errors.Is(err, volume.ErrOccupied) {
		t.Errorf("err = %v", err)
	}
	if b, err := os.ReadFile(precious); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
}

// busyFirst answers the first n requests as a busy donor does.
func busyFirst(n int32, h http.Handler) http.Handler {
	var asked atomic.Int32
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > n {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"code":"busy","error":"all 1 clone slots are taken"}`)
	})
}

func TestJoinBusyDonor(t *testing.T) {
	d := &donor{plays: []play{whole(stream(t, small()))}}
	s := wire.NewServer(d, wire.ServerConfig{Slots: 1, Stall: soon, Log: slog.New(slog.DiscardHandler)})
	v := openVolume(t)
	begun := time.Now()
	if err := newJoiner(v, serveHTTP(t, busyFirst(1, s.Handler()))).Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(begun); waited < time.Second {
		t.Errorf("it waited %v, the donor asked for 1 s", waited)
	}
	wantPublished(t, v)
}

func TestJoinNoDonor(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, refuses := serve(t, refusing("it is not attached yet"))
	never := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	stranger, err := trust.FromSecrets("prod", "db", []byte(strings.Repeat("x", trust.MinSecret)))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, want string
		addr       string
		connect    wire.ClientConfig
	}{
		{"nobody", "connection refused", nobody, clientConfig("")},
		{"not serving", "it is not attached yet", refuses, clientConfig("")},
		{"always busy", "all 1 clone slots are taken", serveHTTP(t, busyFirst(1<<30, nil)), clientConfig("")},
		{"silent", "no byte came for 100ms", serveHTTP(t, never), wire.ClientConfig{Member: "db-1", Stall: 100 * time.Millisecond}},
		{"insecure", "--insecure", refuses, wire.ClientConfig{TLS: stranger.Client(), Member: "db-1", Stall: soon}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := openVolume(t)
			j := newJoiner(v, tt.addr)
			j.Connect, j.Wait = tt.connect, time.Second // in which the donor has answered
			err := j.Join(t.Context())
			if !errors.Is(err, ErrNoDonor) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "db-0: ") {
				t.Errorf("err = %v", err)
			}
			if errors.Is(err, ErrBroken) || errors.Is(err, ErrRefused) {
				t.Errorf("ambiguous: %v", err)
			}
			wantNothing(t, v, "lock")
		})
	}
}

// A donor that says no more when the time is up does not hide what it said before.
func TestJoinDonorFallsSilent(t *testing.T) {
	var asked atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > 1 {
			<-r.Context().Done()
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"code":"not_serving","error":"it is not attached yet"}`)
	})
	j := newJoiner(openVolume(t), serveHTTP(t, h))
	j.Wait = 4 * time.Second // in which it is asked again
	err := j.Join(t.Context())
	if asked.Load() < 2 || !errors.Is(err, ErrNoDonor) || !strings.Contains(err.Error(), "it is not attached yet") {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
}

// told is a log that closes the channel at the first message of this text.
func told(msg string) (*slog.Logger, <-chan struct{}) {
	h := &listener{Handler: slog.DiscardHandler, msg: msg, heard: make(chan struct{})}
	return slog.New(h), h.heard
}

type listener struct {
	slog.Handler
	msg   string
	heard chan struct{}
	once  sync.Once
}

func (*listener) Enabled(context.Context, slog.Level) bool { return true }

func (l *listener) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *listener) Handle(_ context.Context, r slog.Record) error {
	if r.Message == l.msg {
		l.once.Do(func() { close(l.heard) })
	}
	return nil
}

func TestJoinCancelled(t *testing.T) {
	b := stream(t, small())
	block := func(ctx context.Context, _ string, _ int64) error { <-ctx.Done(); return context.Cause(ctx) }
	begun := []string{"journal", "lock"}
	tests := []struct {
		name string
		play play
		when string // the log's message at which it is cancelled
		left []string
	}{
		{"while waiting", refusing("not yet"), "waiting for a donor", []string{"lock"}},
		{"in the middle", stuck(b[:len(b)/2]), "clone started", begun},
		{"after the last byte", stuck(b), "clone started", begun},
		{"while preparing", whole(b), "clone received", begun},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, addr := serve(t, tt.play)
			v := openVolume(t)
			j, e := newJoiner(v, addr), newEngine()
			e.prepare = block
			j.Engines = Engines{e}
			log, heard := told(tt.when)
			j.Log = log
			ended := make(chan error, 1)
			go func() { ended <- j.Join(ctx) }()
			<-heard
			cancel()
			cancelled := time.Now()
			err := <-ended
			if took := time.Since(cancelled); took > soon/2 { // or it has waited for the donor
				t.Errorf("it took %v", took)
			}
			if !errors.Is(err, context.Canceled) || errors.Is(err, ErrBroken) || errors.Is(err, ErrNoDonor) {
				t.Errorf("err = %v", err)
			}
			wantNothing(t, v, tt.left...)
		})
	}
}
