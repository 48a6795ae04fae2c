package clone

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/clone/xbstream"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon is far more than anything here takes, and less than a person waits for.
const soon = 20 * time.Second

// The engine of these tests has the real one's names and rules, and functions instead
// of the tool.
type fakeEngine struct {
	engine.MariaDBBackup
	version func() (flavor.Version, error)
	prepare func(ctx context.Context, dir string, memory int64) error
}

func (e *fakeEngine) Version(context.Context) (flavor.Version, error) { return e.version() }

func (e *fakeEngine) Prepare(ctx context.Context, dir string, memory int64) error {
	return e.prepare(ctx, dir, memory)
}

func newEngine() *fakeEngine {
	return &fakeEngine{
		version: func() (flavor.Version, error) {
			return flavor.Version{Flavor: flavor.MariaDB, Major: 10, Minor: 11, Patch: 19}, nil
		},
		prepare: func(_ context.Context, dir string, _ int64) error { return markPrepared(dir) },
	}
}

// markPrepared does to a copy what the rest of the program sees of a real prepare.
func markPrepared(dir string) error {
	const name = "xtrabackup_checkpoints"
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	text, err := root.ReadFile(name)
	if err != nil {
		return err
	}
	return root.WriteFile(name, bytes.Replace(text, []byte("full-backuped"), []byte("log-applied"), 1), 0o600)
}

const recordedName = "xbstream/testdata/mariadb-10.11.19-primary"

// recorded is a stream of the real tool. The zstd around it is only there to save space.
var recorded = sync.OnceValues(func() ([]byte, error) {
	text, err := os.ReadFile(recordedName + ".xbstream.zst")
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return z.DecodeAll(text, nil)
})

func recordedStream(t *testing.T) []byte {
	t.Helper()
	b, err := recorded()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// file is one file of a stream that is made here.
type file struct{ name, text string }

const (
	binlogInfo = "binlog.000001\t330\t0-100-5\n"
	slaveInfo  = "CHANGE MASTER TO MASTER_LOG_FILE='binlog.000003', MASTER_LOG_POS=671;\n"
)

// small is a stream with all that a copy needs, in the order of the real one.
func small() []file {
	return []file{
		{"ibdata1", strings.Repeat("page", 5000)},
		{"mysql/db.MAD", strings.Repeat("row", 100)},
		{"shop/orders.ibd", strings.Repeat("order", 10000)},
		{"empty/db.opt", ""},
		{"xtrabackup_binlog_info", binlogInfo},
		{"xtrabackup_checkpoints", "backup_type = full-backuped\nfrom_lsn = 0\n"},
		{"xtrabackup_info", "tool_name = mariadb-backup\n"},
	}
}

// with puts more in front of files.
func with(files []file, more ...file) []file { return append(more, files...) }

func without(files []file, name string) []file {
	var left []file
	for _, f := range files {
		if f.name != name {
			left = append(left, f)
		}
	}
	return left
}

func stream(t *testing.T, files []file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := xbstream.NewWriter(&b)
	for _, f := range files {
		fw, err := w.Create(f.name)
		if err == nil {
			_, err = io.WriteString(fw, f.text)
		}
		if err == nil {
			err = fw.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// borders are the positions at which chunks begin, and the end.
func borders(t *testing.T, b []byte) []int {
	t.Helper()
	var at []int
	r := xbstream.NewReader(bytes.NewReader(b))
	for {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			return append(at, len(b))
		}
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, int(c.Start))
	}
}

// header is what the donors of these tests announce.
func header() wire.Header {
	return wire.Header{
		Engine: engine.MariaDBBackupName, ServerVersion: "10.11.18-MariaDB-log", ToolVersion: "mariadb 10.11.18",
		Role: wire.Primary, Origin: origin.GTID, EstimatedBytes: 1 << 20,
	}
}

// play is one backup.
type play func(ctx context.Context) (wire.Backup, error)

func finished() error { return nil }

// whole gives b, as a tool that ends well.
func whole(b []byte) play {
	return func(context.Context) (wire.Backup, error) {
		return wire.Backup{Header: header(), Stream: bytes.NewReader(b), Finish: finished}, nil
	}
}

// announced is whole with another header.
func announced(b []byte, change func(h *wire.Header)) play {
	return func(context.Context) (wire.Backup, error) {
		h := header()
		change(&h)
		return wire.Backup{Header: h, Stream: bytes.NewReader(b), Finish: finished}, nil
	}
}

// cut breaks the connection after b.
func cut(b []byte) play {
	return func(context.Context) (wire.Backup, error) {
		r := io.MultiReader(bytes.NewReader(b), readerFunc(func([]byte) (int, error) { return 0, errors.New("cut") }))
		return wire.Backup{Header: header(), Stream: r, Finish: finished}, nil
	}
}

// failing gives b, as a tool that fails then.
func failing(b []byte) play {
	return func(context.Context) (wire.Backup, error) {
		failed := func() error { return errors.New("the disk is on fire") }
		return wire.Backup{Header: header(), Stream: bytes.NewReader(b), Finish: failed}, nil
	}
}

// stuck gives b, and then nothing until its context ends.
func stuck(b []byte) play {
	return func(ctx context.Context) (wire.Backup, error) {
		r := io.MultiReader(bytes.NewReader(b), readerFunc(func([]byte) (int, error) { <-ctx.Done(); return 0, io.EOF }))
		return wire.Backup{Header: header(), Stream: r, Finish: func() error { return context.Cause(ctx) }}, nil
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// refusing is a member that gives no clones.
func refusing(text string) play {
	return func(context.Context) (wire.Backup, error) {
		return wire.Backup{}, fmt.Errorf("%w: %s", wire.ErrNotServing, text)
	}
}

// donor gives its plays one after the other, and the last one for ever.
type donor struct {
	plays []play
	asked atomic.Int32
	open  atomic.Int32 // backups that have not been finished
}

func (*donor) Member(context.Context) wire.Member { return wire.Member{} }

func (d *donor) Backup(ctx context.Context, _ wire.Ask) (wire.Backup, error) {
	n := int(d.asked.Add(1))
	b, err := d.plays[min(n, len(d.plays))-1](ctx)
	if err != nil {
		return b, err
	}
	d.open.Add(1)
	finish := b.Finish
	b.Finish = func() error { d.open.Add(-1); return finish() }
	return b, nil
}

// serve starts a donor on loopback, and fails the test when a backup of it stays open.
func serve(t *testing.T, plays ...play) (*donor, string) {
	t.Helper()
	d := &donor{plays: plays}
	s := wire.NewServer(d, wire.ServerConfig{Slots: 1, Stall: soon, Log: slog.New(slog.DiscardHandler)})
	addr := serveHTTP(t, s.Handler())
	t.Cleanup(func() { // before the server's end
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), soon)
		defer cancel()
		s.Drain(ctx)
		if n := d.open.Load(); n != 0 {
			t.Errorf("%d backups were not finished", n)
		}
	})
	return d, addr
}

func serveHTTP(t *testing.T, h http.Handler) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: soon}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func clientConfig(addr string) wire.ClientConfig {
	return wire.ClientConfig{Addr: addr, Member: "db-1", Stall: soon}
}

// ask opens a stream of the donor at addr.
func ask(t *testing.T, addr string) *wire.Stream {
	t.Helper()
	c := wire.NewClient(clientConfig(addr))
	t.Cleanup(c.Close)
	s, err := c.Clone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// openVolume makes a volume as the kubelet leaves it: the sub-path exists.
func openVolume(t *testing.T) *volume.Volume {
	t.Helper()
	v, err := volume.Open(t.Context(), t.TempDir(), time.Second, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	if err := v.MakeLive(); err != nil {
		t.Fatal(err)
	}
	return v
}

// leftovers lists what is below .understudy.
func leftovers(t *testing.T, v *volume.Volume) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(filepath.Dir(v.Live()), ".understudy"))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// digests maps the files below dir to their SHA-256 in hex.
func digests(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := fs.ReadFile(root, path)
		files[path] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
