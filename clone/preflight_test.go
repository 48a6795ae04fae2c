package clone

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"

	"github.com/google/go-cmp/cmp"
)

// tools are the versions that a member with mariadb-backup, and the engine clone, has.
func tools(v flavor.Version) map[string]flavor.Version {
	return map[string]flavor.Version{engine.MariaDBBackupName: v, engine.MySQLCloneName: {Flavor: flavor.MySQL, Major: 8, Patch: 17}}
}

func version(f flavor.Flavor, major, minor, patch int) *flavor.Version {
	return &flavor.Version{Flavor: f, Major: major, Minor: minor, Patch: patch}
}

const gib = 1 << 30

func TestCheck(t *testing.T) {
	snapshot := func(n *Need) { n.Engine, n.ServerVersion = engine.MySQLCloneName, "8.4.7" }
	denied := errors.New("the volume cannot be written by uid 999, gid 999")
	tests := []struct {
		name string
		need func(n *Need)
		have func(h *Have)
		want []string // parts of the refusal, in their order; none when it passes
	}{
		{"all is well", nil, nil, nil},
		{"just enough", func(n *Need) { n.NeededBytes, n.Files = 20*gib, 50000 }, nil, nil},
		{"nothing is known", func(n *Need) { n.StreamBytes, n.NeededBytes, n.Files, n.BinlogExpiry = 0, 0, 0, 1 }, nil, nil},
		{"bytes", func(n *Need) { n.NeededBytes = 20*gib + 1 }, nil, []string{"the clone needs about 20.1 GiB with its redo log and the prepare, the volume has 20.0 GiB free"}},
		{"bytes of an old donor", func(n *Need) { n.StreamBytes, n.NeededBytes = 30*gib, 0 }, nil, []string{"the clone needs about 30.0 GiB for its files alone, the volume has 20.0 GiB free"}},
		{"inodes", func(n *Need) { n.Files = 50001 }, nil, []string{"the clone needs 50001 files, the file system has 50000 inodes left"}},
		{"inodes without end", func(n *Need) { n.Files = 50001 }, func(h *Have) { h.Free.Inodes = math.MaxInt64 }, nil},
		{"engine", func(n *Need) { n.Engine = "xtrabackup" }, nil, []string{`the donor streams with "xtrabackup", this member unpacks ["mariadb-backup" "clone"]`}},
		{"no version", func(n *Need) { n.ServerVersion = "x" }, nil, []string{`no version number in "x"`}},
		{"tool", nil, func(h *Have) { h.Tools = tools(*version(flavor.MariaDB, 11, 8, 6)) }, []string{"is of series 11.8, the server is mariadb 10.11.18", "; put the tool of"}},
		{"server of another patch", nil, func(h *Have) { h.Server = version(flavor.MariaDB, 10, 11, 2) }, nil},
		{"later server", nil, func(h *Have) { h.Server = version(flavor.MariaDB, 11, 4, 2) }, nil},
		{"older server", nil, func(h *Have) { h.Server = version(flavor.MariaDB, 10, 6, 22) }, []string{"the donor's server is mariadb 10.11.18, this member's is to be mariadb 10.6.22, of an older series"}},
		{"other server", nil, func(h *Have) { h.Server = version(flavor.MySQL, 10, 11, 18) }, []string{"the donor's server is mariadb 10.11.18, this member's is to be mysql 10.11.18"}},
		{"snapshot of the same series", snapshot, func(h *Have) { h.Server = version(flavor.MySQL, 8, 4, 2) }, nil},
		{"snapshot of another series", snapshot, func(h *Have) { h.Server = version(flavor.MySQL, 9, 7, 0) }, []string{"the donor's server is mysql 8.4.7, this member's is to be mysql 9.7.0, of another series"}},
		{"snapshot of an old server", func(n *Need) { snapshot(n); n.ServerVersion = "8.0.16" }, nil, []string{"the engine clone copies MySQL 8.0.17 and later, the server is mysql 8.0.16"}},
		{"known at the first boot", func(n *Need) { snapshot(n); n.Origin = origin.FirstBoot }, nil, nil},
		{"known at the first boot, of a tool", func(n *Need) { n.Origin = origin.FirstBoot }, nil, []string{"no replication coordinate"}},
		{"coordinate", func(n *Need) { n.Origin = "" }, nil, []string{"no replication coordinate"}},
		{"not carried", func(n *Need) { n.CannotCarry = []string{"the table a.b is far", "rocksdb_datadir is /r"} }, nil, []string{"would not be whole: the table a.b is far, rocksdb_datadir is /r"}},
		{"keys", func(n *Need) { n.Encrypted = "file_key_management" }, nil, []string{"the key management plugin file_key_management"}},
		{"not writable", nil, func(h *Have) { h.Writable = denied }, []string{denied.Error()}},
		{"what is not known beforehand", func(n *Need) { n.StreamBytes, n.BinlogExpiry = 15*gib, time.Minute }, nil, nil},
		{"kept for ever", func(n *Need) { n.StreamBytes, n.BinlogExpiry = 15*gib, 0 }, nil, nil},
		{"a size beyond reason", func(n *Need) { n.StreamBytes = math.MaxInt64 }, nil, []string{"needs about"}},
		{"everything at once", func(n *Need) { n.NeededBytes, n.Files, n.Encrypted = 30*gib, 60000, "k" }, func(h *Have) { h.Writable = denied }, []string{
			"the key management plugin k", "; the clone needs about 30.0 GiB", "; the clone needs 60000 files", "; " + denied.Error(),
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			need := Need{
				Engine: engine.MariaDBBackupName, ServerVersion: "10.11.18-MariaDB-log", Origin: origin.GTID,
				StreamBytes: 10 * gib, NeededBytes: 11 * gib, Files: 12034, BinlogExpiry: 7 * 24 * time.Hour,
			}
			have := Have{Engines: Engines{engine.MariaDBBackup{}, &engine.MySQLClone{}}, Tools: tools(*version(flavor.MariaDB, 10, 11, 19)), Free: volume.Space{Bytes: 20 * gib, Inodes: 50000}}
			if tt.need != nil {
				tt.need(&need)
			}
			if tt.have != nil {
				tt.have(&have)
			}
			checkRefusal(t, Check(need, have), tt.want)
		})
	}
}

// checkRefusal wants an error of one line with the parts in their order, or none.
func checkRefusal(t *testing.T, err error, parts []string) {
	t.Helper()
	if len(parts) == 0 {
		if err != nil {
			t.Error(err)
		}
		return
	}
	if !errors.Is(err, ErrRefused) {
		t.Fatalf("err = %v", err)
	}
	rest := err.Error()
	for _, part := range parts {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Errorf("%q is not said, or too early, in: %v", part, err)
		}
		rest = after
	}
	if reasons := 1 + strings.Count(err.Error(), "; "); reasons != len(parts) {
		t.Errorf("%d reasons, want %d: %v", reasons, len(parts), err)
	}
}

// What is measured travels as it is.
func TestNeeds(t *testing.T) {
	h := wire.Header{Engine: "e", ServerVersion: "v", Origin: origin.GTID, EstimatedBytes: 1, NeededBytes: 2}
	if d := cmp.Diff(Need{Engine: "e", ServerVersion: "v", Origin: origin.GTID, StreamBytes: 1, NeededBytes: 2}, HeaderNeed(h)); d != "" {
		t.Error(d)
	}
	m := wire.Member{ServerVersion: "v", Offer: &wire.Offer{
		Engine: "e", Origin: origin.Position, StreamBytes: 1, NeededBytes: 2, Files: 3, BinlogExpirySeconds: 4, CannotCarry: []string{"c"}, Encrypted: "k",
	}}
	want := Need{
		Engine: "e", ServerVersion: "v", Origin: origin.Position, StreamBytes: 1, NeededBytes: 2, Files: 3,
		BinlogExpiry: 4 * time.Second, CannotCarry: []string{"c"}, Encrypted: "k",
	}
	if d := cmp.Diff(want, OfferNeed(m)); d != "" {
		t.Error(d)
	}
}

func TestSize(t *testing.T) {
	tests := []struct {
		n        int64
		up, down string
	}{
		{0, "0.0 KiB", "0.0 KiB"},
		{1, "0.1 KiB", "0.0 KiB"},
		{10 << 10, "10.0 KiB", "10.0 KiB"},
		{400<<20 + 1, "400.1 MiB", "400.0 MiB"},
		{12*gib + gib/4, "12.3 GiB", "12.2 GiB"},
		{5 << 50, "5120.0 TiB", "5120.0 TiB"},
	}
	for _, tt := range tests {
		if up, down := sizeUp(tt.n), sizeDown(tt.n); up != tt.up || down != tt.down {
			t.Errorf("%d: %s, %s", tt.n, up, down)
		}
	}
}

// How long a clone takes is measured, and said while something can be done about it.
func TestTooSlow(t *testing.T) {
	const gib = 1 << 30
	at := func(mib float64, total int64) Progress {
		rate := mib * (1 << 20)
		return Progress{Bytes: total / 10, Total: total, BytesPerSecond: rate, ETA: time.Duration(float64(total) * 0.9 / rate * float64(time.Second))}
	}
	for _, tt := range []struct {
		name          string
		p             Progress
		expiry, taken time.Duration
		want          string
	}{
		{"2.1 TB on a fast line", at(2500, 2100*gib), 2 * time.Hour, 2 * time.Minute, ""},
		{"a slow line", at(5, 100*gib), 8 * time.Hour, 34 * time.Minute, "takes about 5h41m12s at 5.0 MiB/s, the donor's server keeps its binary logs for 8h0m0s (binlog_expire_logs_seconds), and the copy may need them for 11h22m24s"},
		{"too early to tell", at(5, 100*gib), time.Hour, time.Second, ""},
		{"kept for ever", at(5, 100*gib), 0, time.Hour, ""},
		{"nobody knows how much it is", Progress{Bytes: gib, BytesPerSecond: 1000}, time.Hour, time.Hour, ""},
	} {
		if got := tooSlow(tt.p, tt.expiry, tt.taken); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

// Servers of 8.0 recover a snapshot of each other from 8.0.37 on.
func TestCheckRecoveryBefore8037(t *testing.T) {
	for _, tt := range []struct {
		donor, own int
		want       bool
	}{{34, 36, false}, {36, 34, false}, {36, 36, true}, {36, 37, false}, {37, 40, true}, {36, 0, true}} {
		donor := *version(flavor.MySQL, 8, 0, tt.donor)
		if err := checkRecovery(donor, version(flavor.MySQL, 8, 0, tt.own)); (err == nil) != tt.want {
			t.Errorf("8.0.%d of 8.0.%d: %v", tt.own, tt.donor, err)
		}
	}
}
