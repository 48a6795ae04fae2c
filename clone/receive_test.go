package clone

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"

	"understudy/clone/wire"
	"understudy/clone/xbstream"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

func TestReceive(t *testing.T) {
	files := with(small(), file{"auto.cnf", "[auto]\nserver-uuid=x\n"})
	b := stream(t, files)
	_, addr := serve(t, whole(b))
	dir, meter := t.TempDir(), NewMeter(0)
	result, err := Incoming{ask(t, addr), newEngine(), flavor.MariaDB, meter}.Receive(t.Context(), dir)
	want := wire.Result{Bytes: int64(len(b)), Digest: fmt.Sprintf("xxh64:%016x", xxhash.Sum64(b))}
	if d := cmp.Diff(want, result); d != "" || err != nil {
		t.Error(d, err)
	}
	if n := meter.Now().Bytes; n != want.Bytes {
		t.Errorf("the meter counted %d bytes", n)
	}
	sums := map[string]string{}
	for _, f := range small() { // without the donor's identity
		sums[f.name] = fmt.Sprintf("%x", sha256.Sum256([]byte(f.text)))
	}
	if d := cmp.Diff(sums, digests(t, dir)); d != "" {
		t.Error(d)
	}
}

// What is wrong with the local disk is no fault of the stream's.
func TestReceiveLocalTrouble(t *testing.T) {
	_, addr := serve(t, whole(stream(t, small())))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ibdata1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Incoming{ask(t, addr), newEngine(), flavor.MariaDB, nil}).Receive(t.Context(), dir); !errors.Is(err, os.ErrExist) || errors.Is(err, ErrBroken) {
		t.Errorf("err = %v", err)
	}
	if _, err := (Incoming{ask(t, addr), newEngine(), flavor.MariaDB, nil}).Receive(t.Context(), dir+"/absent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("err = %v", err)
	}
}

// Another try would bring the same: that is no broken stream.
func TestReceiveUnsupported(t *testing.T) {
	_, addr := serve(t, whole(stream(t, with(small(), file{"ibdata2.qp", "x"}))))
	if _, err := (Incoming{ask(t, addr), newEngine(), flavor.MariaDB, nil}).Receive(t.Context(), t.TempDir()); !errors.Is(err, xbstream.ErrUnsupported) || errors.Is(err, ErrBroken) {
		t.Errorf("err = %v", err)
	}
}

func save(t *testing.T, p play, w io.Writer) (*origin.Origin, error) {
	t.Helper()
	_, addr := serve(t, p)
	return Incoming{ask(t, addr), newEngine(), flavor.MariaDB, nil}.Save(t.Context(), w)
}

// The real stream, when only its last file is missing: the tools' own unpackers take it.
func TestSaveRecorded(t *testing.T) {
	b := recordedStream(t)
	at := borders(t, b)
	last := at[len(at)-3] // it has one chunk and one end
	var got bytes.Buffer
	got.Grow(len(b))
	o, err := save(t, whole(b[:last]), &got)
	if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "none of the files") || o != nil {
		t.Errorf("%v, %v", o, err)
	}
	if !bytes.Equal(got.Bytes(), b[:last]) {
		t.Errorf("%d bytes were written", got.Len())
	}
}

func TestSave(t *testing.T) {
	b := stream(t, small())
	corrupt := bytes.Clone(b)
	corrupt[len(corrupt)/2] ^= 1
	role := func(b []byte) play { return announced(b, func(h *wire.Header) { h.Role = wire.Replica }) }
	tests := []struct {
		name string
		play play
		want *origin.Origin
		text string
	}{
		{"a primary's", whole(b), &origin.Origin{Mode: origin.GTID, Of: origin.Donor, GTID: "0-100-5", File: "binlog.000001", Position: 330}, ""},
		{
			"a replica's", role(stream(t, with(small(), file{"xtrabackup_slave_info", slaveInfo}))),
			&origin.Origin{Mode: origin.Position, Of: origin.Source, File: "binlog.000003", Position: 671}, "",
		},
		{
			"the names since 11.1", whole(stream(t, renamed(small()))),
			&origin.Origin{Mode: origin.GTID, Of: origin.Donor, GTID: "0-100-5", File: "binlog.000001", Position: 330}, "",
		},
		{"a replica's without the source's coordinate", role(b), nil, "the source's coordinate did not come"},
		{"cut", cut(b[:1000]), nil, "incomplete"},
		{"cut at a border", whole(b[:borders(t, b)[2]]), nil, "none of the files"},
		{"cut in a file", whole(b[:borders(t, b)[1]]), nil, "truncated"},
		{"the tool fails", failing(b), nil, "the disk is on fire"},
		{"a flipped bit", whole(corrupt), nil, "corrupt"},
		{"no coordinate", whole(stream(t, without(small(), "xtrabackup_binlog_info"))), nil, "no replication coordinate"},
		{"a coordinate that is none", whole(stream(t, with(without(small(), "xtrabackup_binlog_info"), file{"xtrabackup_binlog_info", "x"}))), nil, "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got bytes.Buffer
			o, err := save(t, tt.play, &got)
			if d := cmp.Diff(tt.want, o); d != "" {
				t.Error(d)
			}
			if tt.want == nil && (!errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), tt.text)) || tt.want != nil && err != nil {
				t.Errorf("err = %v", err)
			}
			if tt.name == "a primary's" && !bytes.Equal(got.Bytes(), b) {
				t.Errorf("%d bytes were written", got.Len())
			}
		})
	}
}

func renamed(files []file) []file {
	for i, f := range files {
		files[i].name = strings.Replace(f.name, "xtrabackup_", "mariadb_backup_", 1)
	}
	return files
}

func TestSaveFullDisk(t *testing.T) {
	full := writerFunc(func([]byte) (int, error) { return 0, syscall.ENOSPC })
	o, err := save(t, whole(stream(t, small())), full)
	if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrBroken) || o != nil {
		t.Errorf("%v, %v", o, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Who ended the stream himself is not told that it was broken.
func TestCancelledIsNotBroken(t *testing.T) {
	b := stream(t, small())
	for name, take := range map[string]func(context.Context, *wire.Stream) error{
		"receive": func(ctx context.Context, s *wire.Stream) error {
			_, err := Incoming{s, newEngine(), flavor.MariaDB, nil}.Receive(ctx, t.TempDir())
			return err
		},
		"save": func(ctx context.Context, s *wire.Stream) error {
			_, err := Incoming{s, newEngine(), flavor.MariaDB, nil}.Save(ctx, io.Discard)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			opened := make(chan struct{})
			_, addr := serve(t, func(ctx context.Context) (wire.Backup, error) {
				wait := readerFunc(func([]byte) (int, error) { // when half of it is on its way
					<-opened
					cancel()
					<-ctx.Done()
					return 0, io.EOF
				})
				return wire.Backup{Header: header(), Stream: io.MultiReader(bytes.NewReader(b[:len(b)/2]), wait), Finish: finished}, nil
			})
			c := wire.NewClient(clientConfig(addr))
			defer c.Close()
			s, err := c.Clone(ctx)
			close(opened)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			if err := take(ctx, s); !errors.Is(err, context.Canceled) || errors.Is(err, ErrBroken) {
				t.Errorf("err = %v", err)
			}
		})
	}
}
