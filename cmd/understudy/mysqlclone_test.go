package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/clone"
	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"
	"understudy/e2e/testserver"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// giveMySQL gives clones of a real MySQL server with one row, as its sidecar would.
func giveMySQL(t *testing.T, in testserver.Installation) (host, port string) {
	t.Helper()
	vol, err := volume.Open(t.Context(), t.TempDir(), time.Second, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vol.Close() })
	dir, err := vol.Snapshots()
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Initialise(t.Context(), vol.Live(), "secret"); err != nil {
		t.Fatal(err)
	}
	s := startMySQL(t, in, testserver.Config{DataDir: vol.Live(), Extra: []string{"--plugin-load-add=mysql_clone.so"}})
	for _, text := range []string{"CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)", "INSERT INTO shop.orders VALUES (42)"} {
		if _, err := s.DB().ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	server := wire.NewServer(&clone.Donor{
		Volume: vol, Engines: []clone.DonorEngine{&engine.MySQLClone{Dir: dir, Log: log}},
		Account: func(context.Context) (engine.Account, error) {
			return engine.Account{Host: s.Config().Addr, Port: s.Config().Port, User: "root", Password: "secret"}, nil
		},
		Describe: func() wire.Member { return wire.Member{Name: "db-1", Ready: true} },
		Serving: func() (wire.Header, error) {
			return wire.Header{ServerVersion: in.Version, Role: wire.Primary, Origin: origin.GTID}, nil
		},
		Log: log,
	}, wire.ServerConfig{Slots: 1, Stall: time.Minute, Log: log})
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: server.Handler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = h.Serve(l) }()
	t.Cleanup(func() { server.Drain(t.Context()); _ = h.Close() })
	host, port, _ = net.SplitHostPort(l.Addr().String())
	return host, port
}

func startMySQL(t *testing.T, in testserver.Installation, c testserver.Config) *testserver.Server {
	t.Helper()
	c.RootPassword = "secret"
	s, err := in.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// wantRow fails unless the server has the donor's row, and can be a donor itself.
func wantRow(t *testing.T, s *testserver.Server) {
	t.Helper()
	var id int
	var plugin string
	const query = "SELECT (SELECT id FROM shop.orders), (SELECT plugin_status FROM information_schema.plugins WHERE plugin_name = 'clone')"
	if err := s.DB().QueryRowContext(t.Context(), query).Scan(&id, &plugin); err != nil || id != 42 || plugin != "ACTIVE" {
		t.Errorf("row %d, plugin %s, %v", id, plugin, err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// A joiner and a person take clones of MySQL with nothing but this program.
func TestMySQLCloneByTheCommands(t *testing.T) {
	in, err := testserver.MySQL97(t.Context(), "")
	if err != nil {
		t.Skip(err)
	}
	host, port := giveMySQL(t, in)
	t.Setenv("PATH", t.TempDir()) // neither XtraBackup nor anything else

	t.Run("init", func(t *testing.T) {
		dir := t.TempDir()
		vol, conf := filepath.Join(dir, "volume"), filepath.Join(dir, "conf")
		for _, name := range []string{vol, conf} {
			if err := os.Mkdir(name, 0o750); err != nil {
				t.Fatal(err)
			}
		}
		var said bytes.Buffer
		args := []string{
			"init", "--flavor=mysql", "--pod-name=db-2", "--first-ordinal=1", "--members=2", "--peer-host=127.0.0.{ordinal}", "--clone-port=" + port,
			"--volume=" + vol, "--config-dir=" + conf, "--insecure", "--kube=off", "--wait=1m", "--clone-listen=127.0.0.1:0", "--health-listen=127.0.0.1:0",
		}
		if code := run(t.Context(), args, &said, &said); code != exitDone {
			t.Fatalf("exit code %d:\n%s", code, said.String())
		}
		if want := `"engines":["clone"],"not_installed":["xtrabackup"]`; !strings.Contains(said.String(), want) {
			t.Errorf("the log does not say %s:\n%s", want, said.String())
		}
		if info, err := os.Stat(filepath.Join(vol, ".understudy", "snapshot")); err != nil || !info.IsDir() {
			t.Errorf("the directory for snapshots: %v", err)
		}
		wantRow(t, startMySQL(t, in, testserver.Config{DataDir: filepath.Join(vol, "mysql"), ConfDir: conf}))
	})

	t.Run("clone-from", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "copy")
		var out, said bytes.Buffer
		if code := run(t.Context(), []string{"clone-from", net.JoinHostPort(host, port), "--to=" + dir, "--prepare", "--insecure"}, &out, &said); code != exitDone {
			t.Fatalf("exit code %d:\n%s", code, said.String())
		}
		if text := out.String(); !strings.Contains(text, "AUTO_POSITION") || !strings.Contains(text, `"mode":"gtid"`) {
			t.Errorf("printed:\n%s", text)
		}
		wantRow(t, startMySQL(t, in, testserver.Config{DataDir: dir, Extra: []string{"--plugin-load-add=mysql_clone.so"}}))
	})
}

// A server that does not have the clone plugin, or has no use for it, is not told to load it.
func TestMayLoadClone(t *testing.T) {
	for _, tt := range []struct {
		name, engine, version, donor string
		want                         bool
	}{
		{"nothing known", engineAuto, "", "", true},
		{"a series", engineAuto, "8.0", "", true},
		{"the first one", engineAuto, "8.0.17", "", true},
		{"an older one", engineAuto, "8.0.14", "", false},
		{"5.7", engineAuto, "5.7", "", false},
		{"a clone of an older one", engineAuto, "", "8.0.14-log", false},
		{"a clone of a newer one", engineAuto, "", "9.7.4", true},
		{"a tool", engine.XtraBackupName, "9.7.4", "", false},
	} {
		v := initVerb{member: memberFlags{id: member.Identity{Flavor: flavor.MySQL}}, engine: engineFlags{name: tt.engine}}
		if tt.version != "" {
			server, err := flavor.ParseSeries(flavor.MySQL, tt.version)
			if err != nil {
				t.Fatal(err)
			}
			v.server = &server
		}
		if got := v.mayLoadClone(&volume.Journal{ServerVersion: tt.donor}); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
