package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"understudy/e2e/network"
	"understudy/e2e/set"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

// recorded is a stream as the real mariadb-backup 10.11 wrote it on a primary.
func recorded(t *testing.T) []byte {
	t.Helper()
	f, err := os.Open("../clone/xbstream/testdata/mariadb-10.11.19-primary.xbstream.zst")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	d, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var b strings.Builder
	if _, err := d.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}

// liar is a donor that speaks the protocol and lies in it.
type liar struct {
	role, origin string
	estimate     int
	body         []byte
	// The trailers; without an exit status none are sent.
	exit, digest string
	bytes        int

	asked atomic.Int64
}

// honest is a liar that does not lie.
func honest(body []byte) *liar {
	return &liar{
		role: "primary", origin: "gtid", estimate: len(body), body: body,
		exit: "0", digest: fmt.Sprintf("xxh64:%016x", xxhash.Sum64(body)), bytes: len(body),
	}
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/v1/member":
		_, _ = io.WriteString(w, `{"name":"db-0","clone_slots":1}`)
		return
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
		return
	}
	l.asked.Add(1)
	h := w.Header()
	h.Set("Content-Type", "application/vnd.understudy.xbstream")
	h.Set("Understudy-Stream", "0123456789abcdef")
	h.Set("Understudy-Engine", "mariadb-backup")
	h.Set("Understudy-Server-Version", "10.11.19-MariaDB")
	h.Set("Understudy-Role", l.role)
	h.Set("Understudy-Origin", l.origin)
	h.Set("Understudy-Estimated-Bytes", strconv.Itoa(l.estimate))
	h.Set("Understudy-Encoding", "none")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(l.body) // the joiner may have gone
	if l.exit != "" {
		h.Set(http.TrailerPrefix+"Understudy-Exit-Status", l.exit)
		h.Set(http.TrailerPrefix+"Understudy-Bytes", strconv.Itoa(l.bytes))
		h.Set(http.TrailerPrefix+"Understudy-Digest", l.digest)
		h.Set(http.TrailerPrefix+"Understudy-Error", "the tool said no")
	}
}

// serveLies makes l answer on the clone port of member 0.
func serveLies(t *testing.T, s *set.Set, h http.Handler) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", s.Host(0)+":3307")
	if err != nil {
		t.Fatal(err)
	}
	network.Serve(t, l, h)
}

// insecure makes the members of a set talk to any peer.
func insecure(c *set.Config) {
	c.InitFlags = []string{"--secret-file=", "--insecure"}
	c.SidecarFlags = []string{"--secret-file=", "--insecure"}
}

// A donor that ends early, lies, or sends something else makes init end with the documented exit
// code, and leaves nothing that a server would start on.
func TestLyingDonor(t *testing.T) {
	t.Parallel()
	stream := recorded(t)
	flipped := slices.Clone(stream)
	flipped[len(flipped)/2] ^= 1
	tests := []struct {
		name string
		lie  func(*liar)
		code int
		say  string
	}{
		{"says it failed", func(l *liar) { l.exit = "1" }, 5, "the tool said no"},
		{"ends without trailers", func(l *liar) { l.exit = "" }, 5, "no trailers"},
		{"ends inside a chunk", func(l *liar) { *l = *honest(stream[:len(stream)/2]) }, 5, "corrupt"},
		{"ends after a file", func(l *liar) { *l = *honest(stream[:borderBefore(t, stream, "ibdata1")]) }, 5, "none of the files"},
		{"leaves the info file out", func(l *liar) { *l = *honest(stream[:borderBefore(t, stream, "xtrabackup_info")]) }, 5, "xtrabackup_info"},
		{"sends garbage", func(l *liar) { *l = *honest([]byte(strings.Repeat("no xbstream at all ", 1000))) }, 5, "corrupt"},
		{"sends nothing", func(l *liar) { *l = *honest(nil) }, 5, "no file"},
		{"one bit flipped", func(l *liar) { *l = *honest(flipped) }, 5, "corrupt"},
		{"lies about the digest", func(l *liar) { l.digest = "xxh64:00" }, 5, "digest"},
		{"lies about the length", func(l *liar) { l.bytes++ }, 5, "bytes arrived"},
		{"a replica without its source's coordinate", func(l *liar) { l.role = "replica" }, 5, "the source's coordinate"},
		{"announces no coordinate", func(l *liar) { l.origin = "" }, 3, "no replication coordinate"},
		{"announces more than fits", func(l *liar) { l.estimate = 1 << 50 }, 3, "iB free"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, s := newSet(t, install(t), insecure)
			l := honest(stream)
			tt.lie(l)
			serveLies(t, s, l)
			m := s.Member(1)
			r := initCode(ctx, t, m, tt.code)
			if !strings.Contains(r.LastLine(), tt.say) {
				t.Errorf("the last line does not say %q: %s", tt.say, r.LastLine())
			}
			if want := map[int]int64{5: 3, 3: 1}[tt.code]; l.asked.Load() != want {
				t.Errorf("the donor was asked %d times, not %d", l.asked.Load(), want)
			}
			nothingBootable(t, m)
			nothingLeft(t, m)
			if _, err := os.Stat(filepath.Join(m.Config, "understudy.cnf")); err == nil {
				t.Error("a configuration was written for a member without data")
			}
		})
	}
	t.Run("an honest one", func(t *testing.T) {
		ctx, s := newSet(t, install(t), insecure)
		serveLies(t, s, honest(stream))
		initCode(ctx, t, s.Member(1), 0)
		isComplete(t, s.Member(1))
	})
}

// borderBefore is the offset of the file's first chunk. All chunks before it are whole, so the
// format does not show a cut there.
func borderBefore(t *testing.T, stream []byte, file string) int {
	t.Helper()
	i := strings.Index(string(stream), string(append(binary.LittleEndian.AppendUint32(nil, uint32(len(file))), file...))) //nolint:gosec // a short name
	const header = 8 + 1 + 1                                                                                              // magic, flags, type
	if i < header || string(stream[i-header:i-2]) != "XBSTCK01" {
		t.Fatalf("no chunk of %s", file)
	}
	return i - header
}

// An HTML page is not a stream.
func TestForeignDonor(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), insecure)
	serveLies(t, s, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<html>It works!</html>"))
	}))
	m := s.Member(1)
	r := initCode(ctx, t, m, 4, "--wait=6s")
	if !strings.Contains(r.LastLine(), "does not speak the clone protocol") {
		t.Errorf("last line %q", r.LastLine())
	}
	nothingBootable(t, m)
}

// A full disk is noticed before the first byte where the donor's estimate allows it, and survived
// where it does not.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small tmpfs needs root")
	}
	stream := recorded(t)
	for _, tt := range []struct {
		name     string
		estimate int
		code     int
		say      string
	}{
		{"announced", len(stream), 3, "the clone needs about"},
		{"a surprise", 1 << 20, 1, "the volume is full"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, s := newSet(t, install(t), insecure)
			l := honest(stream)
			l.estimate = tt.estimate
			serveLies(t, s, l)
			m := s.Member(1)
			if err := m.MakeDirs(); err != nil {
				t.Fatal(err)
			}
			mountTmpfs(t, m.Volume, 6<<20)
			r := initCode(ctx, t, m, tt.code)
			if !strings.Contains(r.LastLine(), tt.say) {
				t.Errorf("the last line does not say %q: %s", tt.say, r.LastLine())
			}
			nothingBootable(t, m)
			nothingLeft(t, m)
		})
	}
}
