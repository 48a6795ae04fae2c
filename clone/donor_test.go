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

// newDonor gives clones of a data directory of 10 bytes, whose server does not answer.
func newDonor(t *testing.T, e engine.MariaDBBackup) *Donor {
	t.Helper()
	v := openVolume(t)
	if err := os.WriteFile(filepath.Join(v.Live(), "ibdata1"), []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Donor{
		Volume: v, Engines: []DonorEngine{e},
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
	b, err := d.Backup(t.Context(), "1")
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
			b, err := d.Backup(ctx, "1")
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
		{"no tool", func(d *Donor) { d.Engines = []DonorEngine{engine.MariaDBBackup{Program: "/nonexistent"}} }, engine.ErrTool},
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
			if _, err := d.Backup(t.Context(), "1"); !errors.Is(err, tt.want) {
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
