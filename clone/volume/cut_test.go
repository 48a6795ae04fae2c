package volume

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy/clone/xbstream"

	"github.com/klauspost/compress/zstd"
)

// cutter unpacks a recorded stream as mbstream and xbstream do, and looks at what would be
// there if the stream ended.
type cutter struct {
	t    *testing.T
	dir  string
	rand *rand.Rand
	cuts []int64 // places in the stream that are still to come, ascending
	made int     // the cuts so far
}

// look holds what lies in the directory to be nothing that a server is started on: on a
// replica's volume it is moved aside, on the first ordinal's a person is asked.
func (c *cutter) look(where string) {
	c.t.Helper()
	live, err := Inspect(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	c.made++
	for first, want := range map[bool]Verdict{false: CloneAnew, true: Refuse} {
		if live.Content == Empty {
			want = Clone
		}
		if got, why := Decide(Facts{First: first, Live: live}); got != want {
			c.t.Errorf("%s, first ordinal %v: %s (%s), want %s; it is %s", where, first, got, why, want, live.Content)
		}
	}
	// A journal that says that the directory is complete does not make it so.
	for _, phase := range []Phase{Published, Attached} {
		if got, why := Decide(Facts{Journal: &Journal{Phase: phase}, Live: live}); got == Keep {
			c.t.Errorf("%s, the journal says %s: %s (%s)", where, phase, got, why)
		}
	}
}

// within says whether the next place to cut lies before end, and takes it.
func (c *cutter) within(end int64) bool {
	if len(c.cuts) == 0 || c.cuts[0] >= end {
		return false
	}
	c.cuts = c.cuts[1:]
	return true
}

// chunk writes one chunk, and cuts it where it has to be cut: the unpackers make the file
// when they see its first chunk, and fill it once they have read the chunk.
func (c *cutter) chunk(r *xbstream.Reader, chunk xbstream.Chunk, end int64) {
	path := filepath.Join(c.dir, chunk.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		c.t.Fatal(err)
	}
	c.look("the directory of " + chunk.Path)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c.look("the empty file " + chunk.Path)
	if chunk.Type != xbstream.Payload {
		return
	}
	payload, err := io.ReadAll(r)
	if err != nil {
		c.t.Fatal(err)
	}
	for c.within(end) { // killed while it writes the chunk
		if _, err := f.WriteAt(payload[:c.rand.IntN(len(payload)+1)], chunk.Offset); err != nil {
			c.t.Fatal(err)
		}
		c.look("in a chunk of " + chunk.Path)
	}
	if _, err := f.WriteAt(payload, chunk.Offset); err != nil {
		c.t.Fatal(err)
	}
}

// A recorded stream is cut at each border of its chunks and members, and at 200 random
// places: what is there then is never adopted. The whole stream is, once it is prepared.
func TestCutStreams(t *testing.T) {
	recorded, err := filepath.Glob("../xbstream/testdata/*.xbstream.zst")
	if err != nil || len(recorded) != 6 {
		t.Fatal(recorded, err)
	}
	for _, path := range recorded {
		name := strings.TrimSuffix(filepath.Base(path), ".xbstream.zst")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &cutter{t: t, dir: t.TempDir()}
			c.unpack(path)
			if c.made < 400 {
				t.Errorf("it was cut %d times only", c.made)
			}
			if strings.HasSuffix(name, "-qp") {
				return // which has to be decompressed before it is prepared
			}
			c.prepare()
			live, err := Inspect(c.dir)
			for _, first := range []bool{false, true} {
				if got, why := Decide(Facts{First: first, Live: live}); got != Adopt || err != nil {
					t.Errorf("prepared, first ordinal %v: %s (%s), %v", first, got, why, err)
				}
			}
		})
	}
}

func (c *cutter) unpack(path string) {
	z := c.open(path)
	seed := uint64(time.Now().UnixNano())
	c.t.Logf("seed %d", seed)
	c.rand = rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's places
	length := c.length(path)
	for range 200 {
		c.cuts = append(c.cuts, c.rand.Int64N(length))
	}
	slices.Sort(c.cuts)
	r := xbstream.NewReader(z)
	for {
		c.look("between two chunks")
		chunk, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			c.t.Fatal(err)
		}
		c.chunk(r, chunk, r.InputOffset()+chunk.Length)
	}
}

// open reads a recorded stream, until the test's end.
func (c *cutter) open(path string) io.Reader {
	c.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = f.Close() })
	z, err := zstd.NewReader(f)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(z.Close)
	return z
}

// length is that of a stream.
func (c *cutter) length(path string) int64 {
	z := c.open(path)
	n, err := io.Copy(io.Discard, z)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// prepare marks the copy as its tool's --prepare does.
func (c *cutter) prepare() {
	path := filepath.Join(c.dir, "xtrabackup_checkpoints")
	text, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	tool, err := value(filepath.Join(c.dir, "xtrabackup_info"), "tool_name")
	if err != nil {
		c.t.Fatal(err)
	}
	prepared := strings.Replace(string(text), TypeBackup, preparedBy(tool), 1)
	if err := os.WriteFile(path, []byte(prepared), fs.FileMode(0o600)); err != nil {
		c.t.Fatal(err)
	}
}
