package clone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/e2e/testserver"
	"understudy/replicate/origin"

	"github.com/google/go-cmp/cmp"
)

func TestMemberOffers(t *testing.T) {
	d := newDonor(t, tool(t, `cat "$STREAM"`))
	if err := os.Symlink("/fast/shop", filepath.Join(d.Volume.Live(), "shop")); err != nil {
		t.Fatal(err)
	}
	data := engine.Data{FileBytes: 10, Files: 10}
	want := wire.Member{Name: "db-0", ServerVersion: "10.11.18-MariaDB-log", DataBytes: 10, Offer: &wire.Offer{
		Engine: engine.MariaDBBackupName, ToolVersion: "mariadb 10.11.19", Origin: origin.GTID,
		StreamBytes: 10, NeededBytes: data.NeededBytes(), Files: data.Files,
		CannotCarry: []string{"the file shop is a symbolic link to /fast/shop, outside of the data directory"},
	}}
	if d := cmp.Diff(want, d.Member(t.Context())); d != "" {
		t.Error(d)
	}
}

func TestMemberOffersNothing(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(d *Donor)
		want  string
	}{
		{"not serving", func(d *Donor) {
			d.Serving = func() (wire.Header, error) {
				return wire.Header{}, fmt.Errorf("%w: its applier does not run", wire.ErrNotServing)
			}
		}, "its applier does not run"},
		{"another series", func(d *Donor) {
			d.Serving = func() (wire.Header, error) { return wire.Header{ServerVersion: "11.4.2-MariaDB"}, nil }
		}, "tool is of series 10.11, the server is mariadb 11.4.2"},
		{"no tool", func(d *Donor) { d.Engines = []DonorEngine{engine.MariaDBBackup{Program: "/nonexistent"}} }, "ask /nonexistent for its version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDonor(t, tool(t, `cat "$STREAM"`))
			tt.spoil(d)
			if m := d.Member(t.Context()); m.Name != "db-0" || m.Offer != nil || !strings.Contains(m.NoOffer, tt.want) {
				t.Errorf("member %+v", m)
			}
		})
	}
}

// The first engine that can copy the server is taken, and the others' reasons are told.
func TestEngineIsChosen(t *testing.T) {
	fit := tool(t, `cat "$STREAM"`)
	absent := engine.MariaDBBackup{Program: "/nonexistent/tool"}
	tests := []struct {
		name, want, why string
		engines         []DonorEngine
	}{
		{"the first one", engine.MariaDBBackupName, "", []DonorEngine{measured{fit}, engine.XtraBackup{Program: fit.Program}}},
		{"another one", engine.MariaDBBackupName, "/nonexistent/tool", []DonorEngine{absent, measured{fit}}},
		{"none", "", "/nonexistent/tool", []DonorEngine{absent}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var said bytes.Buffer
			d := newDonor(t, fit)
			d.Engines, d.Log = tt.engines, slog.New(slog.NewTextHandler(&said, nil))
			m := d.Member(t.Context())
			if tt.want == "" {
				if m.Offer != nil || !strings.Contains(m.NoOffer, tt.why) {
					t.Errorf("member %+v", m)
				}
				return
			}
			if m.Offer == nil || m.Offer.Engine != tt.want || !strings.Contains(said.String(), tt.why) || strings.Count(said.String(), "engine chosen") != 1 {
				t.Errorf("member %+v, log %s", m, said.String())
			}
		})
	}
}

// Many that ask at once cost one look at the data, and one that failed is soon repeated.
func TestSurveyIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s survey
		var looks atomic.Int32
		takes, failure := 30*time.Second, errors.New("no password")
		ask := func() {
			t.Helper()
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					_, err := s.inventory(t.Context(), func(context.Context) (engine.Inventory, error) {
						looks.Add(1)
						time.Sleep(takes)
						return engine.Inventory{}, failure
					}, slog.New(slog.DiscardHandler))
					if !errors.Is(err, failure) || (err != nil) != (failure != nil) {
						t.Errorf("%v, want %v", err, failure)
					}
				})
			}
			wg.Wait()
		}
		want := int32(0)
		for _, tt := range []struct {
			failure     error
			takes, life time.Duration
		}{
			{errors.New("no password"), 0, surveyRetry},
			{errors.New("too many tables"), 30 * time.Second, 300 * time.Second},
			{nil, time.Second, surveyLife},
			{nil, 30 * time.Second, 300 * time.Second},
		} {
			takes, failure = tt.takes, tt.failure
			ask()
			time.Sleep(tt.life - time.Millisecond)
			ask()
			if want++; looks.Load() != want {
				t.Errorf("%d looks, want %d", looks.Load(), want)
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
}

// said is what a donor says of itself once its look at the data has ended, for which it keeps
// nobody waiting on a slow machine.
func said(t *testing.T, d *Donor) wire.Member {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		m := d.Member(t.Context())
		if m.NoOffer == "" || !strings.Contains(errLooking.Error(), m.NoOffer) || time.Now().After(end) {
			return m
		}
	}
}

// A look at the data that takes long keeps nobody waiting who wants to know something else.
func TestMemberWhileTheSurveyLasts(t *testing.T) {
	d := newDonor(t, tool(t, `cat "$STREAM"`))
	account := d.Account
	seen := make(chan struct{})
	d.Account = func(ctx context.Context) (engine.Account, error) {
		<-seen
		return account(ctx)
	}
	begun := time.Now()
	if m := d.Member(t.Context()); m.Name != "db-0" || m.Offer != nil || !strings.Contains(errLooking.Error(), m.NoOffer) || m.NoOffer == "" || m.Unable {
		t.Errorf("member %+v", m)
	}
	if took := time.Since(begun); took > 2*surveyPatience {
		t.Errorf("it took %v", took)
	}
	close(seen)
	if m := said(t, d); m.Offer == nil {
		t.Errorf("member %+v", m)
	}
}

// A real server's offer, before and after it has a table that a copy would lack.
func TestOfferOfARealServer(t *testing.T) {
	in, err := testserver.MariaDB1011(t.Context())
	if err != nil {
		t.Skip(err)
	}
	e := engine.MariaDBBackup{Program: in.Backup, Log: slog.New(slog.DiscardHandler)}
	tool, err := e.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const password = "secret"
	d := newDonor(t, e)
	d.Volume, d.Engines = openVolume(t), []DonorEngine{e}
	if err := in.Initialise(t.Context(), d.Volume.Live(), password); err != nil {
		t.Fatal(err)
	}
	server, err := in.Start(t.Context(), testserver.Config{DataDir: d.Volume.Live(), RootPassword: password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	d.Account = func(context.Context) (engine.Account, error) {
		return engine.Account{Host: server.Config().Addr, Port: server.Config().Port, User: "root", Password: password}, nil
	}
	d.Describe = func() wire.Member { return wire.Member{Name: "db-0", ServerVersion: in.Version} }
	have := Have{Engines: Engines{e}, Tools: tools(tool), Free: volume.Space{Bytes: 1 << 40, Inodes: 1 << 20}}
	if err := Check(OfferNeed(said(t, d)), have); err != nil {
		t.Error(err)
	}
	far := t.TempDir()
	for _, statement := range []string{"CREATE DATABASE shop", "CREATE TABLE shop.far (id INT PRIMARY KEY) DATA DIRECTORY='" + far + "'"} {
		if _, err := server.DB().ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	d.survey.until = time.Time{}
	have.Free.Bytes = 1 << 20
	err = Check(OfferNeed(said(t, d)), have)
	checkRefusal(t, err, []string{"the table shop.far (far.isl) has its DATA DIRECTORY outside of the data directory: " + far, "; the clone needs about"})
	t.Log(err)
}
