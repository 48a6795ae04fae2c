package e2e

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
	"understudy/e2e/testserver"

	"golang.org/x/sys/unix"
)

// everyKind are tables of all kinds that a set of long ago may have.
const everyKind = `CREATE DATABASE kinds
USE kinds
CREATE TABLE plain (id INT PRIMARY KEY, v VARCHAR(20))
CREATE TABLE packed (id INT PRIMARY KEY, v TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4
CREATE TABLE redundant (id INT PRIMARY KEY, v TEXT) ROW_FORMAT=REDUNDANT
CREATE TABLE ` + "`Mixed Case-tablé.x/y#z$ 我`" + ` (id INT PRIMARY KEY)
CREATE TABLE ` + "`select`" + ` (id INT PRIMARY KEY) ENGINE=MyISAM
CREATE TABLE ` + "`my.isam-é 我`" + ` (id INT PRIMARY KEY) ENGINE=MyISAM
CREATE TABLE con (id INT PRIMARY KEY) ENGINE=MyISAM
CREATE TABLE csv (id INT NOT NULL) ENGINE=CSV
CREATE TABLE mem (id INT) ENGINE=MEMORY
CREATE TABLE words (id INT AUTO_INCREMENT PRIMARY KEY, t TEXT, FULLTEXT(t))
CREATE TABLE part (id INT PRIMARY KEY) PARTITION BY HASH(id) PARTITIONS 3
CREATE TABLE ` + "`Part-é`" + ` (id INT, d DATE) PARTITION BY RANGE(id) SUBPARTITION BY HASH(TO_DAYS(d)) SUBPARTITIONS 2 (PARTITION ` + "`P-zéro`" + ` VALUES LESS THAN (10), PARTITION pmax VALUES LESS THAN MAXVALUE)
CREATE TABLE m1 (id INT) ENGINE=MyISAM
CREATE TABLE m2 (id INT) ENGINE=MyISAM
CREATE TABLE merged (id INT) ENGINE=MERGE UNION=(m1,m2)
CREATE VIEW seen AS SELECT * FROM plain
CREATE TRIGGER fires BEFORE INSERT ON plain FOR EACH ROW SET NEW.v='x'
SET GLOBAL innodb_file_per_table=OFF
CREATE TABLE insystem (id INT PRIMARY KEY, v TEXT, FULLTEXT(v))
CREATE TABLE syspart (id INT PRIMARY KEY) PARTITION BY HASH(id) PARTITIONS 2
SET GLOBAL innodb_file_per_table=ON
CREATE DATABASE ` + "`we-ird.schéma`" + `
CREATE TABLE ` + "`we-ird.schéma`" + `.t (id INT PRIMARY KEY)
CREATE TABLE ` + "`we-ird.schéma`" + `.m (id INT PRIMARY KEY) ENGINE=MyISAM
CREATE DATABASE nothing
CREATE TEMPORARY TABLE passing (id INT PRIMARY KEY)
CREATE TABLE dropped (id INT PRIMARY KEY)
DROP TABLE dropped
CREATE TABLE altered (id INT PRIMARY KEY)
ALTER TABLE altered ADD COLUMN v INT, ADD INDEX (v)
INSERT INTO plain VALUES (1,'a')`

// Kinds that only one flavour has.
var moreKinds = map[string]string{
	"mariadb": `CREATE TABLE aria (id INT PRIMARY KEY) ENGINE=Aria TRANSACTIONAL=1
CREATE TABLE aria0 (id INT PRIMARY KEY) ENGINE=Aria TRANSACTIONAL=0
CREATE TABLE ariapart (id INT, d DATE) ENGINE=Aria PARTITION BY RANGE(id) SUBPARTITION BY HASH(TO_DAYS(d)) SUBPARTITIONS 2 (PARTITION ` + "`P-zéro`" + ` VALUES LESS THAN (10), PARTITION pmax VALUES LESS THAN MAXVALUE)
CREATE TABLE mypart (id INT) ENGINE=MyISAM PARTITION BY HASH(id) PARTITIONS 5
CREATE SEQUENCE numbers
CREATE SEQUENCE numbersa ENGINE=Aria
CREATE SEQUENCE numbersm ENGINE=MyISAM
CREATE TABLE pages (id INT PRIMARY KEY, v TEXT) PAGE_COMPRESSED=1
CREATE TABLE versions (id INT) WITH SYSTEM VERSIONING
CREATE TABLE elsewhere (id INT PRIMARY KEY) DATA DIRECTORY='ELSEWHERE'
CREATE TABLE myelsewhere (id INT PRIMARY KEY) ENGINE=MyISAM DATA DIRECTORY='ELSEWHERE'`,
	"mysql": `CREATE TABLE arch (id INT) ENGINE=ARCHIVE
CREATE TABLE hole (id INT) ENGINE=BLACKHOLE
CREATE TABLESPACE shared ADD DATAFILE 'shared.ibd'
CREATE TABLE ingeneral (id INT PRIMARY KEY) TABLESPACE shared
CREATE TABLE emptied (id INT PRIMARY KEY)
ALTER TABLE emptied DISCARD TABLESPACE
CREATE UNDO TABLESPACE undo_more ADD DATAFILE 'undo_more.ibu'`,
}

// A data directory with tables of all kinds is adopted, and nobody is asked for anything. The same
// with files left out, as an interrupted cp leaves it, starts, and is never opened, until somebody
// vouches for it.
func TestAdoptedWhole(t *testing.T) {
	t.Parallel()
	for name, find := range testserver.All {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, err := find(t.Context())
			if err != nil {
				t.Skip(err)
			}
			adoptedWhole(t, in)
		})
	}
}

// lost are files by pattern, and for how many files of the dictionary they count: of a table without
// a .frm, the others are not known. Without some files a server would not start.
var lost = map[string]struct {
	absent []string
	count  int
	// short are the lengths to which files are cut, in bytes.
	short map[string]int64
}{
	"mariadb": {
		[]string{
			"kinds/plain.ibd", "kinds/plain.frm", "kinds/part#P#p1.ibd", "kinds/insystem.frm", "kinds/csv.CSV", "kinds/aria.MAD", "kinds/mypart#P#p3.MYI",
			"kinds/ariapart.par", "kinds/merged.MRG", "mysql/proc.frm", "mysql/proc.MAD", "mysql/proc.MAI", "mysql/time_zone_transition.MAI", "we@002dird@002esch@0pma",
		},
		13,
		map[string]int64{"kinds/words.ibd": 40000, "kinds/pages.ibd": 0, "kinds/select.MYI": 0},
	},
	"mysql": {
		[]string{"kinds/plain.ibd", "kinds/part#p#p1.ibd", "kinds/csv.CSV", "kinds/arch.ARZ", "kinds/my@002eisam*", "kinds/merged.MRG", "we@002dird@002esch@0pma"},
		8, nil,
	},
}

func adoptedWhole(t *testing.T, in testserver.Installation) {
	t.Helper()
	ctx, s := newSet(t, in, nil)
	m := s.Member(0)
	if err := errors.Join(m.MakeDirs(), in.Initialise(ctx, m.Live(), s.RootPassword())); err != nil {
		t.Fatal(err)
	}
	fillKinds(ctx, t, s, m.Live())
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(m.Live())); err != nil {
		t.Fatal(err)
	}

	up(ctx, t, m)
	if log := sidecarLog(t, m); !strings.Contains(log, `"absent":0,"short":0`) || strings.Contains(log, "manual action") {
		t.Errorf("an old set is looked through:\n%s", log)
	}
	if err := errors.Join(m.StopSidecar(ctx), m.StopServer(ctx), os.RemoveAll(m.Volume), m.MakeDirs(), os.CopyFS(m.Live(), os.DirFS(old))); err != nil {
		t.Fatal(err)
	}

	hurt := lost[in.Flavor]
	for _, pattern := range hurt.absent {
		paths, err := filepath.Glob(filepath.Join(m.Live(), pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v, %v", pattern, paths, err)
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	for file, size := range hurt.short {
		if err := os.Truncate(filepath.Join(m.Live(), file), size); err != nil {
			t.Fatal(err)
		}
	}
	neverOpens(ctx, t, m, "tables of the server's dictionary have no file, or one that is too short: kinds.")
	if log := sidecarLog(t, m); !strings.Contains(log, fmt.Sprintf(`"absent":%d,"short":%d`, hurt.count, len(hurt.short))) {
		t.Errorf("want %d absent, %d short:\n%s", hurt.count, len(hurt.short), log)
	}

	// It is not forgotten.
	if err := errors.Join(m.StopSidecar(ctx), m.StopServer(ctx)); err != nil {
		t.Fatal(err)
	}
	neverOpens(ctx, t, m, "tables of the server's dictionary have no file")
	if err := os.WriteFile(filepath.Join(m.Live(), ".understudy-complete"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.AwaitReady(ctx); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(m.Live(), ".understudy-complete")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mark is left: %v", err)
	}
}

// fillKinds makes tables of all kinds with a server of long ago.
func fillKinds(ctx context.Context, t *testing.T, s *set.Set, dir string) {
	t.Helper()
	in := s.Install()
	server, err := in.Start(ctx, testserver.Config{DataDir: dir, RootPassword: s.RootPassword()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	conn, err := server.DB().Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	elsewhere := t.TempDir()
	if err := os.Chmod(elsewhere, 0o777); err != nil { //nolint:gosec // the server's account writes there
		t.Fatal(err)
	}
	for statement := range strings.SplitSeq(everyKind+"\n"+moreKinds[in.Flavor], "\n") {
		if _, err := conn.ExecContext(ctx, strings.ReplaceAll(statement, "ELSEWHERE", elsewhere)); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := server.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

// neverOpens brings a member up that is adopted, and holds that it says what is wrong, and stays
// read-only and without clones.
func neverOpens(ctx context.Context, t *testing.T, m *set.Member, words string) {
	t.Helper()
	initCode(ctx, t, m, 0)
	if err := errors.Join(m.StartSidecar(), m.StartServer(ctx)); err != nil {
		t.Fatal(err)
	}
	staysClosed(ctx, t, m, words)
}

func staysClosed(ctx context.Context, t *testing.T, m *set.Member, words string) {
	t.Helper()
	says := ""
	eventually(t, time.Minute, "it says what is missing", func() bool {
		_, body, err := m.Get(ctx, "/readyz")
		says = body
		return err == nil && strings.Contains(body, words)
	})
	time.Sleep(time.Second)
	status, body, err := m.Get(ctx, "/readyz")
	if err != nil || status == 200 || !strings.Contains(body, words) {
		t.Errorf("it does not stay so: %d, %s, %v; before: %s", status, body, err, says)
	}
	var readOnly sql.NullString
	if err := m.Server.DB().QueryRowContext(ctx, "SELECT @@read_only").Scan(&readOnly); err != nil || readOnly.String == "0" || readOnly.String == "OFF" {
		t.Errorf("it is open: %s, %v", readOnly.String, err)
	}
	if j, err := m.Journal(); err != nil || j.Phase != "published" {
		t.Errorf("journal: %+v, %v", j, err)
	}
}

// A --copy-back that is killed at several places leaves what a server may start on. It is refused, or
// never attached and its missing tables are named; the complete one asks nobody anything.
func TestAdoptedInterruptedRestore(t *testing.T) {
	t.Parallel()
	in := install(t)
	ctx, s := newSet(t, in, nil)
	m0 := primary(ctx, t, s, 4<<20)
	execute(ctx, t, m0, "CREATE DATABASE zoo", "CREATE TABLE zoo.animals (id INT PRIMARY KEY)", "CREATE TABLE zoo.keepers (id INT PRIMARY KEY) ENGINE=Aria")
	file := filepath.Join(t.TempDir(), "stream.xbstream")
	r, err := s.Call(ctx, nil, "clone-from", m0.Host, "--to", file, "--set=db", "--secret-file="+s.SecretFile())
	if err != nil || r.Code != 0 {
		t.Fatalf("clone-from: %d, %v\n%s", r.Code, err, r.Stderr)
	}
	stream, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	unpackInto(ctx, t, in, backup, stream)
	tool := func(args ...string) *exec.Cmd {
		return exec.CommandContext(ctx, in.Backup, append([]string{"--no-defaults", "--target-dir=" + backup}, args...)...)
	}
	if out, err := tool("--prepare").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m1 := s.Member(1)
	started := 0
	for _, files := range []int{40, 70, 80, 85, 90} {
		if err := errors.Join(os.RemoveAll(m1.Volume), m1.MakeDirs()); err != nil {
			t.Fatal(err)
		}
		killedAfter(t, tool("--copy-back", "--datadir="+m1.Live()), files)
		if !lacksTables(t, backup, m1.Live()) { // but views, of which nothing tells
			continue
		}
		// Without the tool's info file it is known for a part, and replaced.
		if info, err := filepath.Glob(filepath.Join(m1.Live(), "*info")); err != nil || len(info) == 0 {
			continue
		}
		initCode(ctx, t, m1, 0)
		if err := m1.StartSidecar(); err != nil {
			t.Fatal(err)
		}
		if err := m1.StartServer(ctx); err != nil { // it lacks its accounts, for example
			t.Logf("cut after %d files, the server does not start", files)
		} else {
			started++
			staysClosed(ctx, t, m1, "tables of the server's dictionary have no file")
		}
		if err := errors.Join(m1.StopSidecar(ctx), m1.StopServer(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	if started == 0 { // the order is the file system's
		t.Log("no server started on a part")
	}
	if err := errors.Join(os.RemoveAll(m1.Volume), m1.MakeDirs()); err != nil {
		t.Fatal(err)
	}
	if out, err := tool("--copy-back", "--datadir="+m1.Live()).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	up(ctx, t, m1)
}

// lacksTables says whether a file of a table is in a backup, and not in what was restored of it.
func lacksTables(t *testing.T, backup, restored string) bool {
	t.Helper()
	for _, pattern := range []string{"*/*.ibd", "*/*.MAI", "*/*.MAD"} {
		paths, err := filepath.Glob(filepath.Join(backup, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			rel, err := filepath.Rel(backup, path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(restored, rel)); err != nil {
				return true
			}
		}
	}
	return false
}

// killedAfter kills a tool that restores once it has copied so many files.
func killedAfter(t *testing.T, cmd *exec.Cmd, files int) {
	t.Helper()
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if f, ok := said.(*os.File); ok { // so that the tool waits for its reader
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(said); files > 0 && lines.Scan(); {
		if strings.Contains(lines.Text(), "Copying ") {
			files--
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}
