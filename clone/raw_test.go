package clone

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"understudy/clone/engine"
	"understudy/clone/trust"
	"understudy/clone/wire"
	"understudy/e2e/testserver"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// ncat is the tutorial's donor, with command, in which $STREAM is b, in the place of the tool.
func ncat(t *testing.T, b []byte, command string) (addr string) {
	t.Helper()
	program, err := exec.LookPath("ncat")
	if err != nil {
		t.Skip("ncat is not installed: make servers")
	}
	host, port := testserver.Address(), "3307" // which nobody else has
	file := filepath.Join(t.TempDir(), "stream")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program,
		"--listen", "--keep-open", "--send-only", "--max-conns=1", "-v", host, port, "-c", command)
	cmd.Env = append(os.Environ(), "STREAM="+file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its tools end with it
	said, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-drained
		_ = cmd.Wait()
	})
	listening := false
	for lines := bufio.NewScanner(said); !listening && lines.Scan(); {
		listening = strings.Contains(lines.Text(), "Listening on")
	}
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, said)
	}()
	return net.JoinHostPort(host, port)
}

const playStream = `cat "$STREAM"`

// takeRaw opens a raw stream of a donor that is taken for role.
func takeRaw(t *testing.T, addr string, role wire.Role) (*wire.Stream, error) {
	t.Helper()
	s, err := wire.DialRaw(t.Context(), wire.RawConfig{Addr: addr, Role: role, Stall: soon})
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

// The real stream from the real ncat.
func TestRawRecorded(t *testing.T) {
	b := recordedStream(t)
	addr := ncat(t, b, playStream)
	s, err := takeRaw(t, addr, wire.Primary)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r, err := Incoming{s, newEngine(), flavor.MariaDB, nil}.Receive(t.Context(), dir)
	if err != nil || r.Bytes != int64(len(b)) {
		t.Fatal(r, err)
	}
	if d := cmp.Diff(unpacked(t), digests(t, dir)); d != "" {
		t.Error(d)
	}
	want := wire.Header{
		Raw: true, Role: wire.Primary, Engine: engine.MariaDBBackupName, Encoding: wire.None,
		ServerVersion: "10.11.19-MariaDB-0+deb12u1-log", ToolVersion: "10.11.19-MariaDB",
	}
	if d := cmp.Diff(want, s.Header); d != "" {
		t.Error(d)
	}
	o, err := Incoming{s, newEngine(), flavor.MariaDB, nil}.Prepare(t.Context(), dir, 1<<20)
	if err != nil || o.Mode != origin.GTID || o.Of != origin.Donor {
		t.Error(o, err)
	}
}

// With --protocol=auto the try with TLS costs an ncat a backup, and one of its places
// for as long as the tool takes to notice.
func TestRawAuto(t *testing.T) {
	b := recordedStream(t)
	addr := ncat(t, b, playStream+`; exec sleep 0.5`)
	id, err := trust.FromSecrets("prod", "db", bytes.Repeat([]byte{'a'}, trust.MinSecret))
	if err != nil {
		t.Fatal(err)
	}
	c := clientConfig(addr)
	c.TLS, c.Protocol, c.Role = id.Client(), wire.Auto, wire.Primary
	client := wire.NewClient(c)
	defer client.Close()
	s, err := client.Clone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := (Incoming{s, newEngine(), flavor.MariaDB, nil}).Receive(t.Context(), t.TempDir()); err != nil || !s.Header.Raw {
		t.Error(err)
	}
}

// While somebody else has the only place, ncat closes at once.
func TestRawBusy(t *testing.T) {
	addr := ncat(t, stream(t, small()), playStream+`; exec sleep 60`)
	if _, err := takeRaw(t, addr, wire.Primary); err != nil {
		t.Fatal(err)
	}
	if _, err := takeRaw(t, addr, wire.Primary); !errors.Is(err, wire.ErrBusy) {
		t.Errorf("err = %v", err)
	}
}

func TestRawNoStream(t *testing.T) {
	for command, want := range map[string]error{
		"exit 1": wire.ErrBusy, "echo garbage": wire.ErrProtocol, `head -c 5 "$STREAM"`: wire.ErrIncomplete,
	} {
		t.Run(command, func(t *testing.T) {
			if _, err := takeRaw(t, ncat(t, stream(t, small()), command), wire.Primary); !errors.Is(err, want) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

// A tool that fails, or an ncat that is killed, looks like the end of the stream. Wherever
// that is, the files tell.
func TestRawTruncated(t *testing.T) {
	for name, b := range map[string][]byte{"small": stream(t, described(info)), "recorded": recordedStream(t)} {
		at := borders(t, b)
		at = at[1 : len(at)-1]
		if most := 4; len(at) > most { // those at the end look best
			at = append([]int{at[len(at)/3]}, at[len(at)-most:]...)
		}
		for _, n := range append(at, len(b)/2, len(b)-1) {
			t.Run(fmt.Sprintf("%s, %d of %d bytes", name, n, len(b)), func(t *testing.T) {
				addr := ncat(t, b[:n], playStream+`; exit 1`)
				s, err := takeRaw(t, addr, wire.Primary)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := (Incoming{s, newEngine(), flavor.MariaDB, nil}).Receive(t.Context(), t.TempDir()); !errors.Is(err, ErrBroken) {
					t.Errorf("receive: %v", err)
				}
				_ = s.Close()
				var o *origin.Origin
				err = wire.ErrBusy
				for begun := time.Now(); errors.Is(err, wire.ErrBusy) && time.Since(begun) < soon; { // until ncat has reaped the tool
					if s, err = takeRaw(t, addr, wire.Primary); err == nil {
						o, err = Incoming{s, newEngine(), flavor.MariaDB, nil}.Save(t.Context(), io.Discard)
					}
				}
				if !errors.Is(err, ErrBroken) || o != nil {
					t.Errorf("save: %v, %v", o, err)
				}
			})
		}
	}
}

// playRaw is a donor without ncat, for what is about the files alone.
func playRaw(t *testing.T, b []byte) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write(b)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return l.Addr().String()
}

const (
	info80 = "tool_name = xtrabackup\ntool_version = 8.0.35-30\nserver_version = 8.0.36\n"
	info57 = "tool_name = innobackupex\ntool_version = 2.4.29\nserver_version = 5.7.44-log\n"
	info   = "tool_name = mariadb-backup\ntool_version = 10.11.19-MariaDB\nserver_version = 10.11.18-MariaDB-log\n"
)

// described is small with another info file.
func described(info string, more ...file) []file {
	return append(with(without(small(), "xtrabackup_info"), more...), file{"xtrabackup_info", info})
}

// fakeXtraBackup has the real engine's names and rules, and a version of its own.
type fakeXtraBackup struct {
	engine.XtraBackup
	built flavor.Version
}

func (e fakeXtraBackup) Version(context.Context) (flavor.Version, error) { return e.built, nil }

func xtraBackup(major, minor, patch int) fakeXtraBackup {
	return fakeXtraBackup{built: flavor.Version{Flavor: flavor.MySQL, Major: major, Minor: minor, Patch: patch}}
}

func TestRawFiles(t *testing.T) {
	slave := file{"xtrabackup_slave_info", slaveInfo}
	flipped := stream(t, described(info))
	flipped[len(flipped)/2] ^= 1
	percona, old := xtraBackup(8, 0, 35), xtraBackup(5, 7, 44)
	tests := []struct {
		name   string
		stream []byte
		engine Engine
		role   wire.Role
		want   error // nil: it is taken
		text   string
	}{
		{"the first ordinal's", stream(t, described(info)), newEngine(), wire.Primary, nil, "0-100-5"},
		{"another ordinal's", stream(t, described(info, slave)), newEngine(), wire.Replica, nil, "binlog.000003:671 of the source"},
		{"the first ordinal's, that replicates", stream(t, described(info, slave)), newEngine(), wire.Primary, nil, "binlog.000003:671 of the source"},
		{"another ordinal's, without the source's coordinate", stream(t, described(info)), newEngine(), wire.Replica, ErrBroken, "the source's coordinate did not come"},
		{"of an unknown role", stream(t, described(info)), newEngine(), "", ErrBroken, "the source's coordinate did not come"},
		{"no info file", stream(t, without(small(), "xtrabackup_info")), newEngine(), wire.Primary, ErrBroken, "none of the files"},
		{"no checkpoints file", stream(t, without(described(info), "xtrabackup_checkpoints")), newEngine(), wire.Primary, ErrBroken, "checkpoints file"},
		{"prepared", stream(t, with(without(described(info), "xtrabackup_checkpoints"), file{"xtrabackup_checkpoints", "backup_type = log-applied\n"})), newEngine(), wire.Primary, ErrBroken, `"log-applied"`},
		{"a flipped bit", flipped, newEngine(), wire.Primary, ErrBroken, "corrupt"},
		{"no server version", stream(t, described("tool_name = mariadb-backup\n")), newEngine(), wire.Primary, ErrBroken, "server_version"},
		{"another series", stream(t, described(strings.ReplaceAll(info, "10.11", "11.4"))), newEngine(), wire.Primary, ErrRefused, "11.4.18"},
		{"another tool", stream(t, described(info80, file{tablespacesName, "{}"})), newEngine(), wire.Primary, ErrRefused, `the donor streamed with "xtrabackup"`},
		{"XtraBackup 8", stream(t, described(info80, file{tablespacesName, "{}"})), percona, wire.Primary, nil, "0-100-5"},
		{"XtraBackup 8 without tablespaces", stream(t, described(info80)), percona, wire.Primary, ErrBroken, "xtrabackup_tablespaces did not come"},
		{"XtraBackup 2.4", stream(t, described(info57)), old, wire.Primary, nil, "0-100-5"},
		{"XtraBackup 2.4 for 8.0", stream(t, described(info57)), percona, wire.Primary, ErrRefused, "the server is mysql 5.7.44"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr := playRaw(t, tt.stream)
			check := func(how string, o fmt.Stringer, err error) {
				if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.text) || err == nil && !strings.Contains(o.String(), tt.text) {
					t.Errorf("%s: %v, %v", how, o, err)
				}
			}
			s, err := takeRaw(t, addr, tt.role)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			var o origin.Origin
			if _, err = (Incoming{s, tt.engine, flavor.MariaDB, nil}).Receive(t.Context(), dir); err == nil {
				o, err = Incoming{s, tt.engine, flavor.MariaDB, nil}.Origin(dir)
			}
			check("receive", o, err)
			if s, err = takeRaw(t, addr, tt.role); err != nil {
				t.Fatal(err)
			}
			saved, err := Incoming{s, tt.engine, flavor.MariaDB, nil}.Save(t.Context(), io.Discard)
			check("save", saved, err)
		})
	}
}

// A raw stream's pointer to a tablespace elsewhere is not followed: its file has not come, and
// what lies there is somebody else's.
func TestRawPointer(t *testing.T) {
	list := func(kind string) file {
		return file{tablespacesName, `{"version":2,"external_tablespaces":[{"file_name":"/etc/precious.ibd","tablespace_name":"shop/t","tablespace_type":"` + kind + `"}]}`}
	}
	for _, tt := range []struct {
		name   string
		files  []file
		engine Engine
		want   string
	}{
		{"MariaDB's", with(described(info), file{"shop/t.isl", "/etc/precious.ibd"}), newEngine(), "shop.t (t.isl) has its DATA DIRECTORY outside"},
		{"XtraBackup's", described(info80, list("TABLESPACE")), xtraBackup(8, 0, 35), "the tablespace shop/t lies outside of the donor's data directory, in /etc/precious.ibd"},
		{"XtraBackup's list of undo tablespaces", described(info80, list("UNDO_LOG")), xtraBackup(8, 0, 35), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := takeRaw(t, playRaw(t, stream(t, tt.files)), wire.Primary)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Incoming{s, tt.engine, flavor.MariaDB, nil}.Receive(t.Context(), t.TempDir())
			if errors.Is(err, ErrRefused) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

// serveRaw gives raw streams to everybody who says nothing for a moment.
func serveRaw(t *testing.T, p play) (port string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	server := wire.NewServer(&donor{plays: []play{p}}, wire.ServerConfig{Slots: 1, Stall: soon, Log: log})
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(l.Addr().String())
	everybody := func(context.Context, netip.Addr) bool { return true }
	l = wire.SniffRaw(l, wire.RawPolicy{Allowed: everybody, Silence: 50 * time.Millisecond, Serve: server.ServeRaw, Log: log})
	h := server.HTTP(nil)
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), soon)
		defer cancel()
		server.Drain(ctx)
		_ = h.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return port
}

// tutorialJoiner runs the line of the tutorial, with mbstream in the place of xbstream.
func tutorialJoiner(t *testing.T, port, dir string) (said string, err error) {
	t.Helper()
	for _, program := range []string{"ncat", "mbstream"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed: make servers")
		}
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", `set -o pipefail; ncat --recv-only 127.0.0.1 "$1" | mbstream -x -C "$2"`, "bash", port, dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The tutorial's own joiner gets the same files as ours.
func TestRawToNcat(t *testing.T) {
	dir := t.TempDir()
	if said, err := tutorialJoiner(t, serveRaw(t, whole(recordedStream(t))), dir); err != nil {
		t.Fatal(err, said)
	}
	if d := cmp.Diff(unpacked(t), digests(t, dir)); d != "" {
		t.Error(d)
	}
}

// Where the tutorial's own donor lets it believe that all is well, ours does not: the
// stream is cut at a border of two chunks, and the tool fails.
func TestRawToNcatFails(t *testing.T) {
	b := recordedStream(t)
	at := borders(t, b)
	said, err := tutorialJoiner(t, serveRaw(t, failing(b[:at[len(at)-3]])), t.TempDir())
	if _, failed := errors.AsType[*exec.ExitError](err); !failed || !strings.Contains(said, "Connection reset by peer") {
		t.Errorf("%v: %s", err, said)
	}
}
