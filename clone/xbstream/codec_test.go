package xbstream

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

func zstdFrame(tb testing.TB, content string, opts ...zstd.EOption) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, append(opts, zstd.WithEncoderConcurrency(1))...)
	if err == nil {
		_, err = w.Write([]byte(content))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func lz4Frame(tb testing.TB, content string, opts ...lz4.Option) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := lz4.NewWriter(&b)
	err := w.Apply(opts...)
	if err == nil {
		_, err = w.Write([]byte(content))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// inChunks puts a packed file into chunks of n bytes.
func inChunks(path string, packed []byte, n int) *stream {
	var s stream
	for at := 0; at < len(packed); at += n {
		s.data(path, int64(at), string(packed[at:min(at+n, len(packed))]))
	}
	return s.end(path)
}

func TestPacked(t *testing.T) {
	long := strings.Repeat("0123456789abcdef--", 200_000)
	small := lz4.BlockSizeOption(lz4.Block64Kb)
	tests := []struct {
		name   string
		path   string
		packed []byte
		want   string
	}{
		{"zstd", "t.ibd.zst", zstdFrame(t, long), long},
		{"zstd, best", "t.ibd.zst", zstdFrame(t, long, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(maxWindow)), long},
		{"zstd, two frames", "t.ibd.zst", append(zstdFrame(t, "one "), zstdFrame(t, long)...), "one " + long},
		{"zstd, empty frame", "t.ibd.zst", zstdFrame(t, "", zstd.WithZeroFrames(true)), ""},
		{"zstd, no frame", "t.ibd.zst", nil, ""},
		{"lz4", "t.ibd.lz4", lz4Frame(t, long), long},
		{"lz4, small blocks", "t.ibd.lz4", lz4Frame(t, long, small, lz4.BlockChecksumOption(true)), long},
		{"lz4, two frames", "t.ibd.lz4", append(lz4Frame(t, "one "), lz4Frame(t, long)...), "one " + long},
		{"lz4, empty frame", "t.ibd.lz4", lz4Frame(t, ""), ""},
		{"lz4, no frame", "t.ibd.lz4", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := inChunks(tt.path, tt.packed, max(1, len(tt.packed)/3))
			got, summary, err := extract(t, s.b, Options{})
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			if len(want) > 4096 {
				want = digest([]byte(want))
			}
			if diff := cmp.Diff(map[string]string{"t.ibd": want}, got); diff != "" {
				t.Error(diff)
			}
			if summary.LastFile != "t.ibd" || summary.Bytes != int64(len(tt.packed)) {
				t.Errorf("summary is %+v", summary)
			}
		})
	}
}

// TestPackedTools unpacks what the reference implementations packed.
func TestPackedTools(t *testing.T) {
	content := strings.Repeat("0123456789abcdef--", 300_000)
	for _, args := range [][]string{
		{"zstd", "-1"},
		{"zstd", "-19"},
		{"zstd", "-T2", "--no-check"},
		{"lz4", "-1"},
		{"lz4", "-9", "-BD", "-B4"},
		{"lz4", "-BX", "--no-frame-crc"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			tool, err := exec.LookPath(args[0])
			if err != nil {
				t.Skip("needs the program: ", err)
			}
			cmd := exec.CommandContext(t.Context(), tool, append(args[1:], "-c")...)
			cmd.Stdin = strings.NewReader(content)
			packed, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			suffix := map[string]string{"zstd": ".zst", "lz4": ".lz4"}[args[0]]
			got, _, err := extract(t, inChunks("f"+suffix, packed, 1000).b, Options{})
			if diff := cmp.Diff(map[string]string{"f": digest([]byte(content))}, got); diff != "" || err != nil {
				t.Error(diff, err)
			}
		})
	}
}

// TestPackedBroken cuts packed files short and turns bits over: checksums in the stream are right,
// those inside are not. Extract sees it, and so does Check in a file that is captured.
func TestPackedBroken(t *testing.T) {
	content := strings.Repeat("content ", 20) + "end"
	all := Options{Capture: func(string) bool { return true }}
	for path, packed := range map[string][]byte{"t.zst": zstdFrame(t, content), "t.lz4": lz4Frame(t, content)} {
		for n := 1; n < len(packed); n++ {
			_, _, err := extract(t, inChunks(path, packed[:n], 1000).b, Options{})
			wantError(t, err, ErrCorrupt, path)
			_, err = check(t, inChunks(path, packed[:n], 1000).b, all)
			wantError(t, err, ErrCorrupt, path)
		}
		for i := range len(packed) * 8 {
			b := bytes.Clone(packed)
			b[i/8] ^= 1 << (i % 8)
			got, _, err := extract(t, inChunks(path, b, 1000).b, Options{})
			if err == nil && got["t"] == content {
				continue // a bit without a meaning
			}
			wantError(t, err, ErrCorrupt, path)
		}
	}
}

func TestPackedRefuses(t *testing.T) {
	z, l := string(zstdFrame(t, "content")), string(lz4Frame(t, "content"))
	tooMany := new(stream)
	for i := range maxPacked + 1 {
		tooMany.data(strings.Repeat("f", i+1)+".zst", 0, z)
	}
	long := strings.Repeat("0123456789abcdef", 3*bufferSize/16)
	tests := []struct {
		name string
		s    *stream
		file string
		want string
	}{
		{"not packed", new(stream).file("f.zst", "plain"), "f.zst", "broken or incomplete"},
		{"not packed, long", new(stream).file("f.lz4", long), "f.lz4", "broken or incomplete"},
		{"not packed, many chunks", inChunks("f.zst", []byte(long[:4096]), 16), "f.zst", "broken or incomplete"},
		{"more data", new(stream).file("f.zst", z+"x"), "f.zst", "broken or incomplete"},
		{"more data", new(stream).file("f.lz4", l+"x"), "f.lz4", "broken or incomplete"},
		{"much more data", new(stream).file("f.lz4", l+long), "f.lz4", "broken or incomplete"},
		{"out of order", new(stream).data("f.zst", 5, z[5:]).data("f.zst", 0, z[:5]), "f.zst", "do not follow one another"},
		{"holes", new(stream).sparse("f.lz4", 0, []Extent{{0, 5}}, l[:5]), "f.lz4", "do not follow one another"},
		{"window", new(stream).file("f.zst", string(zstdFrame(t, long, zstd.WithWindowSize(2*maxWindow)))), "f.zst", "window"},
		{"too many", tooMany, strings.Repeat("f", maxPacked+1) + ".zst", "too many files open"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := extract(t, tt.s.b, Options{})
			wantError(t, err, ErrCorrupt, tt.file)
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestCapture(t *testing.T) {
	info := "uuid = x\n" + strings.Repeat("g", 3000)
	var s stream
	s.file("ibdata1", "data").data("xtrabackup_info", 9, info[9:]).data("xtrabackup_info", 0, info[:9]).end("xtrabackup_info")
	s.file("d/slave.zst", string(zstdFrame(t, info))).file("d/binlog.lz4", string(lz4Frame(t, "binlog.1")))
	s.sparse("holes", 0, []Extent{{3, 2}, {4, 0}}, "xy").end("holes").end("empty")
	want := map[string][]byte{
		"xtrabackup_info": []byte(info), "d/slave": []byte(info), "d/binlog": []byte("binlog.1"),
		"holes": []byte("\x00\x00\x00xy\x00\x00\x00\x00"), "empty": nil,
	}
	opts := Options{Capture: func(name string) bool { return name != "ibdata1" }}
	_, summary, err := extract(t, s.b, opts)
	if diff := cmp.Diff(want, summary.Captured); diff != "" || err != nil {
		t.Error(diff, err)
	}
	summary, err = check(t, s.b, opts)
	if diff := cmp.Diff(want, summary.Captured); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestCaptureBound(t *testing.T) {
	long := strings.Repeat("x", maxCapture+1)
	opts := Options{Capture: func(name string) bool { return name == "f" }}
	tests := []struct {
		name string
		s    *stream
		file string
	}{
		{"data", new(stream).file("f", long), "f"},
		{"hole", new(stream).sparse("f", 0, []Extent{{1 << 31, 0}}, "").end("f"), "f"},
		{"zstd", new(stream).file("f.zst", string(zstdFrame(t, long))), "f.zst"},
		{"lz4", new(stream).file("f.lz4", string(lz4Frame(t, long))), "f.lz4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := extract(t, tt.s.b, opts)
			wantError(t, err, ErrCorrupt, tt.file)
			_, err = check(t, tt.s.b, opts)
			wantError(t, err, ErrCorrupt, tt.file)
		})
	}
	_, err := check(t, new(stream).data("f", 1<<40, "x").b, opts)
	wantError(t, err, ErrCorrupt, "f")
	_, summary, err := extract(t, new(stream).file("f", long[1:]).b, opts)
	if err != nil || len(summary.Captured["f"]) != maxCapture {
		t.Errorf("%d bytes captured, %v", len(summary.Captured["f"]), err)
	}
}
