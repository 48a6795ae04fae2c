package clone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// tool is a shell script in the place of mariadb-backup. Its backup runs the lines
// given, in which $STREAM is a whole stream, and its prepare does what markPrepared does.
func tool(t *testing.T, backup string) engine.MariaDBBackup {
	t.Helper()
	dir := t.TempDir()
	whole := filepath.Join(dir, "stream")
	script := fmt.Sprintf(`#!/bin/sh
STREAM=%s
case "$*" in
--version) echo "tool based on MariaDB server 10.11.19-MariaDB Linux" ;;
*--backup*) %s ;;
*--prepare*) for last; do :; done
	sed -i s/full-backuped/log-applied/ "${last#--target-dir=}/xtrabackup_checkpoints" ;;
esac
`, whole, backup)
	if err := os.WriteFile(whole, stream(t, small()), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "tool")
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil { //nolint:gosec // it has to be executable
		t.Fatal(err)
	}
	return engine.MariaDBBackup{Program: program, Log: slog.New(slog.DiscardHandler)}
}

// measured is an engine whose look at the server finds nothing against a clone: there is none.
type measured struct{ engine.MariaDBBackup }

func (measured) Inventory(ctx context.Context, _ engine.Account, dir string) (engine.Inventory, error) {
	data, err := engine.MeasureData(ctx, dir)
	return engine.Inventory{Data: data, CannotCarry: data.Elsewhere}, err
}

// newDonor gives clones of a data directory of 10 bytes, without a server.
func newDonor(t *testing.T, e engine.MariaDBBackup) *Donor {
	t.Helper()
	v := openVolume(t)
	if err := os.WriteFile(filepath.Join(v.Live(), "ibdata1"), []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Donor{
		Volume: v, Engines: []DonorEngine{measured{e}},
		Account: func(context.Context) (engine.Account, error) {
			return engine.Account{Host: "127.0.0.1", Port: 1, User: "root"}, nil
		},
		Describe: func() wire.Member { return wire.Member{Name: "db-0"} },
		Serving: func() (wire.Header, error) {
			return wire.Header{ServerVersion: "10.11.18-MariaDB-log", Role: wire.Primary, Origin: origin.GTID}, nil
		},
		Log: slog.New(slog.DiscardHandler),
	}
}

func TestDonorBackup(t *testing.T) {
	d := newDonor(t, tool(t, `cat "$STREAM"`))
	b, err := d.Backup(t.Context(), wire.Ask{StreamID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if left := leftovers(t, d.Volume); !strings.Contains(strings.Join(left, " "), "backup-1") {
		t.Errorf("no working directory: %q", left)
	}
	got, err := io.ReadAll(b.Stream)
	if err = errors.Join(err, b.Finish()); err != nil || string(got) != string(stream(t, small())) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	want := wire.Header{
		Engine: engine.MariaDBBackupName, ServerVersion: "10.11.18-MariaDB-log", ToolVersion: "mariadb 10.11.19",
		Role: wire.Primary, Origin: origin.GTID, EstimatedBytes: 10,
		NeededBytes: engine.Data{FileBytes: 10, Files: 10}.NeededBytes(),
	}
	if d := cmp.Diff(want, b.Header); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"lock"}, leftovers(t, d.Volume)); d != "" {
		t.Error(d)
	}
}

func TestDonorEnds(t *testing.T) {
	tests := []struct {
		name, backup string
		read         int64
		cancel       bool
		want         string
	}{
		{"the tool fails", `echo the disk is on fire >&2; exit 1`, 1 << 20, false, "the disk is on fire"},
		{"the tool fails midway", `head -c 1000 "$STREAM"; echo no more >&2; exit 1`, 1 << 20, false, "no more"},
		{"nobody reads while it writes", `exec cat /dev/zero`, 10, false, "signal: broken pipe"},
		{"it is cancelled while it writes", `exec cat /dev/zero`, 10, true, "context canceled"},
		{"it is cancelled while it waits", `echo some bytes; exec sleep 60`, 10, true, "context canceled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			d := newDonor(t, tool(t, tt.backup))
			b, err := d.Backup(ctx, wire.Ask{StreamID: "1"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, b.Stream, tt.read); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if tt.cancel {
				cancel()
			}
			if err := b.Finish(); !errors.Is(err, engine.ErrTool) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v", err)
			}
			if d := cmp.Diff([]string{"lock"}, leftovers(t, d.Volume)); d != "" {
				t.Error(d)
			}
		})
	}
}

// looked is an engine with a look at the server of the test's own.
type looked struct {
	engine.MariaDBBackup
	look func(engine.Account) (engine.Inventory, error)
}

func (l looked) Inventory(_ context.Context, a engine.Account, _ string) (engine.Inventory, error) {
	return l.look(a)
}

// A donor that does not know what its copy would lack gives none, whoever asks and however;
// nor does one that knows that it would not be whole. What no waiting mends is told apart.
func TestDonorKnowsWhatItGives(t *testing.T) {
	for _, tt := range []struct {
		name string
		inv  engine.Inventory
		err  error
		want error
		text string
	}{
		{"not known", engine.Inventory{}, errors.New("server has gone away"), wire.ErrNotServing, "what a copy would lack is not known: server has gone away"},
		{"not whole", engine.Inventory{CannotCarry: []string{"the table shop.old is of the engine MyISAM"}}, nil, wire.ErrUnable, "a physical copy would not be whole: the table shop.old"},
		{"no privilege", engine.Inventory{Unable: fmt.Errorf("%w: GRANT RELOAD", engine.ErrUnable)}, nil, wire.ErrUnable, "GRANT RELOAD"},
		{"no room", engine.Inventory{Unable: engine.ErrNoRoom}, nil, wire.ErrNotServing, engine.ErrNoRoom.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDonor(t, tool(t, `cat "$STREAM"`))
			d.Engines = []DonorEngine{looked{d.Engines[0].(measured).MariaDBBackup, func(engine.Account) (engine.Inventory, error) { return tt.inv, tt.err }}}
			if _, err := d.Backup(t.Context(), wire.Ask{StreamID: "1"}); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("err = %v", err)
			}
			m := d.Member(t.Context())
			if m.Offer == nil && (m.Unable != errors.Is(tt.want, wire.ErrUnable) || !strings.Contains(m.NoOffer, tt.text) || strings.HasPrefix(m.NoOffer, wire.ErrNotServing.Error())) {
				t.Errorf("member %+v", m)
			}
			// So it comes to the joiner: it refuses, or waits.
			s := wire.NewServer(d, wire.ServerConfig{Slots: 1, Stall: soon, Log: slog.New(slog.DiscardHandler)})
			v := openVolume(t)
			j := newJoiner(v, serveHTTP(t, s.Handler()))
			j.Wait = time.Second // in which the donor has answered
			err := j.Join(t.Context())
			if errors.Is(err, ErrRefused) != errors.Is(tt.want, wire.ErrUnable) || errors.Is(err, ErrNoDonor) == errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("the joiner: %v", err)
			}
			if left := leftovers(t, d.Volume); len(left) != 1 {
				t.Errorf("left over: %q", left)
			}
		})
	}
}

// An engine hears whether the server follows another one.
func TestDonorTellsTheRole(t *testing.T) {
	for role, want := range map[wire.Role]bool{wire.Primary: false, wire.Replica: true} {
		d := newDonor(t, tool(t, `cat "$STREAM"`))
		serving := d.Serving
		d.Serving = func() (wire.Header, error) {
			h, err := serving()
			h.Role = role
			return h, err
		}
		var got engine.Account
		d.Engines = []DonorEngine{looked{d.Engines[0].(measured).MariaDBBackup, func(a engine.Account) (engine.Inventory, error) { got = a; return engine.Inventory{}, nil }}}
		if m := d.Member(t.Context()); m.Offer == nil || got.Replica != want {
			t.Errorf("%s: %+v, %+v", role, m, got)
		}
	}
}

func TestDonorRefuses(t *testing.T) {
	good := tool(t, `cat "$STREAM"`)
	boom := errors.New("boom")
	tests := []struct {
		name  string
		spoil func(d *Donor)
		want  error
	}{
		{"not serving", func(d *Donor) {
			d.Serving = func() (wire.Header, error) { return wire.Header{}, wire.ErrNotServing }
		}, wire.ErrNotServing},
		{"no version", func(d *Donor) {
			d.Serving = func() (wire.Header, error) { return wire.Header{ServerVersion: "x"}, nil }
		}, flavor.ErrUnknown},
		{"another series", func(d *Donor) {
			d.Serving = func() (wire.Header, error) { return wire.Header{ServerVersion: "11.4.2-MariaDB"}, nil }
		}, engine.ErrPairing},
		{"another series, lasting", func(d *Donor) {
			d.Serving = func() (wire.Header, error) { return wire.Header{ServerVersion: "11.4.2-MariaDB"}, nil }
		}, wire.ErrUnable},
		{"no tool", func(d *Donor) { d.Engines = []DonorEngine{engine.MariaDBBackup{Program: "/nonexistent"}} }, engine.ErrTool},
		{"no tool, lasting", func(d *Donor) { d.Engines = []DonorEngine{engine.MariaDBBackup{Program: "/nonexistent"}} }, wire.ErrUnable},
		{"no password", func(d *Donor) {
			d.Account = func(context.Context) (engine.Account, error) { return engine.Account{}, boom }
		}, boom},
		{"the same backup twice", func(d *Donor) { _, _ = d.Volume.NewBackup("1") }, os.ErrExist},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDonor(t, good)
			tt.spoil(d)
			before := leftovers(t, d.Volume)
			if _, err := d.Backup(t.Context(), wire.Ask{StreamID: "1"}); !errors.Is(err, tt.want) {
				t.Errorf("err = %v", err)
			}
			if d := cmp.Diff(before, leftovers(t, d.Volume)); d != "" {
				t.Error(d)
			}
		})
	}
}

// Both sides together, with everything real but the tool.
func TestDonorToJoiner(t *testing.T) {
	e := tool(t, `cat "$STREAM"`)
	d := newDonor(t, e)
	s := wire.NewServer(d, wire.ServerConfig{Slots: 1, Stall: soon, Log: slog.New(slog.DiscardHandler)})
	v := openVolume(t)
	j := newJoiner(v, serveHTTP(t, s.Handler()))
	j.Engines = Engines{e}
	if err := j.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantPublished(t, v)
	s.Drain(t.Context())
	if d := cmp.Diff([]string{"lock"}, leftovers(t, d.Volume)); d != "" {
		t.Error(d)
	}
	if live, err := d.Volume.InspectLive(); err != nil || live.Content == volume.Empty {
		t.Errorf("the donor's own data: %+v, %v", live, err)
	}
}
