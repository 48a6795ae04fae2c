package clone

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"understudy/clone/engine"
	"understudy/clone/wire"
)

// The file with which MariaDB's health check logs in comes with a clone, and a stream that is cut
// is as incomplete as without it: it is the first member.
func TestHealthcheckTravels(t *testing.T) {
	const login = "[mariadb-client]\nuser=healthcheck\npassword=secret\n"
	e := tool(t, `cat "$STREAM"`)
	d := newDonor(t, e)
	if err := os.WriteFile(filepath.Join(d.Volume.Live(), healthcheckFile), []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}
	s := wire.NewServer(d, wire.ServerConfig{Slots: 1, Stall: soon, Log: slog.New(slog.DiscardHandler)})
	v := openVolume(t)
	j := newJoiner(v, serveHTTP(t, s.Handler()))
	j.Engines = Engines{e}
	if err := j.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(v.Live(), healthcheckFile)); err != nil || string(got) != login {
		t.Errorf("%q, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(v.Live(), healthcheckFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	wantPublished(t, v)
}

// A backup that has no first byte has none with the file either.
func TestHealthcheckBeforeTheFirstByte(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, healthcheckFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if got, err := io.ReadAll(withHealthcheck(iotest.ErrReader(engine.ErrBusy), dir, log)); !errors.Is(err, engine.ErrBusy) || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := io.ReadAll(withHealthcheck(strings.NewReader(""), dir, log)); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
	if err := iotest.TestReader(withHealthcheck(strings.NewReader("abc"), t.TempDir(), log), []byte("abc")); err != nil {
		t.Error(err)
	}
}
