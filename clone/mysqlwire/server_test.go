package mysqlwire

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"understudy/e2e/testserver"

	"github.com/go-sql-driver/mysql"
)

const password = "secret"

// startServer starts a MySQL server that can be cloned.
func startServer(t *testing.T, extra ...string) (*testserver.Server, Account) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: no server is started")
	}
	in, err := testserver.MySQL97(t.Context(), "")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir() + "/data"
	if err := in.Initialise(t.Context(), dir, password); err != nil {
		t.Fatal(err)
	}
	s, err := in.Start(t.Context(), testserver.Config{
		DataDir: dir, RootPassword: password,
		Extra: append([]string{"--plugin-load-add=mysql_clone.so", "--log-bin=binlog"}, extra...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	c := s.Config()
	return s, Account{Address: net.JoinHostPort(c.Addr, strconv.Itoa(c.Port)), User: "root", Password: password}
}

func execute(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, text := range statements {
		if _, err := db.ExecContext(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

// fill gives a server about so many MiB.
func fill(t *testing.T, db *sql.DB, mib int) {
	t.Helper()
	execute(t, db, "CREATE DATABASE shop", "CREATE TABLE shop.pictures (id INT PRIMARY KEY AUTO_INCREMENT, picture LONGBLOB)")
	for range mib / 8 {
		execute(t, db, "INSERT INTO shop.pictures (picture) VALUES (REPEAT('x', 8 << 20))")
	}
}

// counter is a sink that counts, and fails when it is told to.
type counter struct {
	mu     sync.Mutex
	stages []string
	files  map[uint32]uint64 // size by index
	bytes  map[uint32]uint64
	tasks  map[uint32]bool
	fail   func(at string) error
}

func newCounter(fail func(at string) error) *counter {
	if fail == nil {
		fail = func(string) error { return nil }
	}
	return &counter{files: map[uint32]uint64{}, bytes: map[uint32]uint64{}, tasks: map[uint32]bool{}, fail: fail}
}

func (c *counter) Begin(s State) error {
	c.stages = append(c.stages, s.Stage.String())
	return c.fail("begin " + s.Stage.String())
}

func (c *counter) File(_ Stage, f File) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.Stage == FileCopy {
		c.files[f.Index] = f.Size
	}
	return c.fail("file of " + f.Stage.String())
}

func (c *counter) Block(d Block, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.Stage == FileCopy {
		if _, known := c.files[d.File]; !known {
			return fmt.Errorf("bytes of the file %d came before it", d.File)
		}
		c.bytes[d.File] += uint64(len(data))
	}
	c.tasks[d.Task] = true
	return c.fail("block of " + d.Stage.String())
}

func (c *counter) End(s Stage) error { return c.fail("end of " + s.String()) }

func clone(ctx context.Context, a Account, tasks int, sink Sink) error {
	c, err := Open(ctx, a)
	if err != nil {
		return err
	}
	return errors.Join(c.Run(ctx, tasks, sink), c.Close(ctx))
}

// Several tasks bring every byte of every file once, and the server is free for the next clone.
func TestTasksShareTheWork(t *testing.T) {
	s, a := startServer(t)
	fill(t, s.DB(), 256)
	for range 2 {
		for _, n := range []int{1, 3} {
			c := newCounter(nil)
			if err := clone(t.Context(), a, n, c); err != nil {
				t.Fatal(n, err)
			}
			for index, size := range c.files {
				if c.bytes[index] != size {
					t.Errorf("file %d: %d bytes of %d", index, c.bytes[index], size)
				}
			}
			if len(c.tasks) > n || n > 1 && len(c.tasks) < 2 {
				t.Errorf("%d tasks brought bytes, of %d", len(c.tasks), n)
			}
			if got := strings.Join(c.stages, ", "); got != "file copy, page copy, redo copy, done" {
				t.Errorf("stages %s", got)
			}
		}
	}
}

// A server that has no connections left, or none for the account, is cloned over fewer.
func TestFewerConnections(t *testing.T) {
	s, a := startServer(t)
	fill(t, s.DB(), 256)
	for allowed, want := range map[int]int{2: 1, 3: 2} {
		name := fmt.Sprint("few", allowed)
		execute(t, s.DB(), fmt.Sprintf("CREATE USER %s IDENTIFIED BY 'p' WITH MAX_USER_CONNECTIONS %d", name, allowed), "GRANT BACKUP_ADMIN ON *.* TO "+name)
		c, err := Open(t.Context(), Account{Address: a.Address, User: name, Password: "p"})
		if err != nil {
			t.Fatal(err)
		}
		sink := newCounter(nil)
		if err := errors.Join(c.Run(t.Context(), 4, sink), c.Close(t.Context())); err != nil {
			t.Error(allowed, err)
		}
		if e, ok := errors.AsType[*mysql.MySQLError](c.Fewer); !ok || e.Number != 1226 || len(sink.tasks) != want {
			t.Errorf("%d allowed: %d took part, and: %v", allowed, len(sink.tasks), c.Fewer)
		}
	}
}

// A clone that is given up when it begins, or when it has ended, ends at once.
func TestGivenUp(t *testing.T) {
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		c := &Clone{ended: true}
		c.cond.L = &c.mu
		silent, _ := net.Pipe()
		c.main = &task{conn: newConn(silent, time.Minute)}
		go cancel()
		if err := errors.Join(c.Run(ctx, 1, newCounter(nil)), c.Close(ctx)); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}

// Wherever a clone ends, nothing of it is left in the server: the next one begins at once.
func TestNothingIsLeft(t *testing.T) {
	s, a := startServer(t)
	fill(t, s.DB(), 160)
	boom := errors.New("boom")
	for _, at := range []string{
		"begin file copy", "file of file copy", "block of file copy", "end of file copy", "begin page copy", "end of page copy",
		"begin redo copy", "file of redo copy", "block of redo copy", "end of redo copy", "begin done",
	} {
		for _, n := range []int{1, 2} {
			t.Run(fmt.Sprint(at, " ", n), func(t *testing.T) {
				err := clone(t.Context(), a, n, newCounter(func(now string) error {
					if now == at {
						return boom
					}
					return nil
				}))
				if !errors.Is(err, boom) {
					t.Errorf("error %v", err)
				}
				c, err := Open(t.Context(), a)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	t.Run("a connection breaks", func(t *testing.T) {
		for broken := range 3 { // the main one, the other one, that of acknowledgements
			c, err := Open(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			var blocks atomic.Int64
			err = c.Run(t.Context(), 2, newCounter(func(at string) error {
				if at == "block of file copy" && blocks.Add(1) == 120 {
					_ = c.all()[broken].net.Close()
				}
				return nil
			}))
			if err == nil {
				t.Fatal("it ended well")
			}
			if err := c.Close(t.Context()); err != nil {
				t.Error(broken, err)
			}
			next, err := Open(t.Context(), a)
			if err != nil {
				t.Fatal(broken, err)
			}
			_ = next.Close(t.Context())
		}
	})
	t.Run("the client is killed", func(t *testing.T) {
		c, err := Open(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		var blocks atomic.Int64
		err = c.Run(t.Context(), 2, newCounter(func(at string) error {
			if at == "block of file copy" && blocks.Add(1) == 20 {
				for _, task := range c.all() { // as the kernel does
					_ = task.net.Close()
				}
			}
			return nil
		}))
		if err == nil {
			t.Fatal("it ended well")
		}
		for begun := time.Now(); ; { // the server notices when it writes
			next, err := Open(t.Context(), a)
			if err == nil {
				_ = next.Close(t.Context())
				break
			}
			if !errors.Is(err, ErrBusy) || time.Since(begun) > time.Minute {
				t.Fatal(err)
			}
		}
	})
}

// A connection that somebody kills in the server is lost with its clone, at once: nothing is left that
// REINIT could take up again, and the next one begins at once.
func TestKilledConnections(t *testing.T) {
	s, a := startServer(t)
	fill(t, s.DB(), 256)
	for _, statement := range []string{"KILL", "KILL QUERY"} {
		for i, which := range []string{"main", "further", "acknowledging"} {
			t.Run(statement+" "+which, func(t *testing.T) {
				c, err := Open(t.Context(), a)
				if err != nil {
					t.Fatal(err)
				}
				var blocks atomic.Int64
				var killed time.Time
				err = c.Run(t.Context(), 2, newCounter(func(at string) error {
					if at == "block of file copy" && blocks.Add(1) == 120 {
						execute(t, s.DB(), fmt.Sprintf("%s %d", statement, c.all()[i].id))
						killed = time.Now()
					}
					return nil
				}))
				t.Logf("after %v: %v", time.Since(killed), err)
				if err == nil || killed.IsZero() {
					t.Error("it ended well")
				}
				if err := c.takeUp(t.Context()); which == "acknowledging" {
					t.Logf("REINIT: %v", err)
				} else if _, refused := errors.AsType[*mysql.MySQLError](err); !refused {
					t.Errorf("it was taken up again: %v", err)
				}
				if err := c.Close(t.Context()); err != nil {
					t.Error(err)
				}
				next, err := Open(t.Context(), a)
				if err != nil {
					t.Fatal(err)
				}
				_ = next.Close(t.Context())
			})
		}
	}
}

// takeUp is what a MySQL server does that has lost a connection to another one: it closes the rest
// of them, and takes up the clone where it was.
func (c *Clone) takeUp(ctx context.Context) error {
	const commandReinit = 3
	for _, t := range c.all() {
		_ = t.net.Close()
	}
	again, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = again.net.Close() }()
	if err := again.command(commandReinit, c.opening(newestVersion, c.locator)); err != nil {
		return err
	}
	return again.answers(func(byte, []byte) error { return nil })
}

// A second clone is told that there is one.
func TestBusy(t *testing.T) {
	_, a := startServer(t)
	c, err := Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	if _, err := Open(t.Context(), a); !errors.Is(err, ErrBusy) {
		t.Errorf("error %v", err)
	}
	if c.Version != 4 || !strings.HasPrefix(c.Settings["version"], "9.7.") || c.Settings["innodb_page_size"] != "16384" {
		t.Errorf("version %d, settings %v", c.Version, c.Settings)
	}
}

// A server that dies ends the clone, at once.
func TestServerIsKilled(t *testing.T) {
	s, a := startServer(t)
	err := clone(t.Context(), a, 2, newCounter(func(at string) error {
		if at == "block of file copy" {
			s.Kill()
		}
		return nil
	}))
	if err == nil {
		t.Error("it ended well")
	}
}
