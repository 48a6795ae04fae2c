package clone

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// Prepare does to a copy what the rest of the program sees of XtraBackup's.
func (fakeXtraBackup) Prepare(_ context.Context, dir string, _ int64) error {
	path := filepath.Join(dir, "xtrabackup_checkpoints")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes.Replace(text, []byte("full-backuped"), []byte("full-prepared"), 1), 0o600)
}

// Streams that the real XtraBackup 8.0.6 wrote, taken raw and by our own protocol.
func TestXtraBackupRecorded(t *testing.T) {
	const set = "1aba3785-e6b2-11f1-86a0-02fc00000001"
	tests := []struct {
		name string
		role wire.Role
		log  string // the binary log that was shipped
		want origin.Origin
	}{
		{"primary-gtid", wire.Primary, "binlog.000002", origin.Origin{Mode: origin.GTID, Of: origin.Donor, GTID: set + ":1-24", File: "binlog.000002", Position: 195}},
		{"primary-filepos", wire.Primary, "binlog.000002", origin.Origin{Mode: origin.Position, Of: origin.Donor, File: "binlog.000002", Position: 155}},
		{"replica-gtid", wire.Replica, "binlog.000004", origin.Origin{Mode: origin.GTID, Of: origin.Source, GTID: set + ":1-64"}},
		{"replica-filepos", wire.Replica, "binlog.000004", origin.Origin{Mode: origin.Position, Of: origin.Source, File: "binlog.000002", Position: 671}},
	}
	e := xtraBackup(8, 0, 14)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := xtraBackupStream(t, tt.name)
			announced := announced(b, func(h *wire.Header) {
				h.Engine, h.ServerVersion, h.Role = engine.XtraBackupName, "8.0.14", tt.role
			})
			_, own := serve(t, announced)
			raw, err := takeRaw(t, playRaw(t, b), tt.role)
			if err != nil {
				t.Fatal(err)
			}
			for how, s := range map[string]*wire.Stream{"raw": raw, "own": ask(t, own)} {
				dir := t.TempDir()
				if _, err := (Incoming{s, e, flavor.MySQL, nil}).Receive(t.Context(), dir); err != nil {
					t.Fatal(how, err)
				}
				if live, err := volume.Inspect(dir); err != nil || live.Content != volume.Incomplete {
					t.Errorf("%s: before the prepare it is %v, %v", how, live, err)
				}
				o, err := Incoming{s, e, flavor.MySQL, nil}.Prepare(t.Context(), dir, 1<<20)
				if d := cmp.Diff(tt.want, o); d != "" || err != nil {
					t.Error(how, err, d)
				}
				// The first start needs the log to resolve what was prepared.
				index, err := os.ReadFile(filepath.Join(dir, "binlog.index"))
				if err != nil || string(index) != "./"+tt.log+"\n" {
					t.Errorf("%s: index %q, %v", how, index, err)
				}
				if name, err := volume.BinlogBasename(dir); err != nil || name != "binlog" {
					t.Errorf("%s: basename %q, %v", how, name, err)
				}
				if info, err := os.Stat(filepath.Join(dir, tt.log)); err != nil || info.Size() == 0 {
					t.Errorf("%s: %v", how, err)
				}
			}
		})
	}
}

// A copy that cannot be unpacked must not be half of one.
func TestXtraBackupQuicklz(t *testing.T) {
	s, err := takeRaw(t, playRaw(t, xtraBackupStream(t, "primary-gtid-qp")), wire.Primary)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Incoming{s, xtraBackup(8, 0, 14), flavor.MySQL, nil}.Receive(t.Context(), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "--compress=zstd") {
		t.Errorf("err = %v, want one that says what to do", err)
	}
}

func xtraBackupStream(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("xbstream/testdata/pxb-8.0.6-" + name + ".xbstream.zst")
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	b, err := z.DecodeAll(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What --compress makes of a stream is taken as if it had not been asked for: no file
// keeps its suffix, with which a server would not find it.
func TestXtraBackupCompressed(t *testing.T) {
	files := described(info80, file{tablespacesName, "{}"}, file{"empty.ibd", ""}, file{"long.ibd", strings.Repeat("page", 1<<20)})
	pack := map[string]func(*bytes.Buffer) io.WriteCloser{
		".zst": func(b *bytes.Buffer) io.WriteCloser {
			z, err := zstd.NewWriter(b)
			if err != nil {
				t.Fatal(err)
			}
			return z
		},
		".lz4": func(b *bytes.Buffer) io.WriteCloser { return lz4.NewWriter(b) },
	}
	for suffix, writer := range pack {
		t.Run(suffix, func(t *testing.T) {
			var packed []file
			want := map[string]string{}
			for _, f := range files {
				var b bytes.Buffer
				w := writer(&b)
				if _, err := io.WriteString(w, f.text); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				packed = append(packed, file{f.name + suffix, b.String()})
				want[f.name] = fmt.Sprintf("%x", sha256.Sum256([]byte(f.text)))
			}
			addr, e := playRaw(t, stream(t, packed)), xtraBackup(8, 0, 35)
			s, err := takeRaw(t, addr, wire.Primary)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if _, err := (Incoming{s, e, flavor.MySQL, nil}).Receive(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, digests(t, dir)); d != "" {
				t.Error(d)
			}
			if s, err = takeRaw(t, addr, wire.Primary); err != nil {
				t.Fatal(err)
			}
			if o, err := (Incoming{s, e, flavor.MySQL, nil}).Save(t.Context(), io.Discard); err != nil || o.File != "binlog.000001" {
				t.Errorf("%v, %v", o, err)
			}
		})
	}
}
