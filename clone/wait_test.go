package clone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"understudy/clone/wire"
)

// Only the time counts in which nobody works for the joiner, and it ends once.
func TestWaitCountsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWait(t.Context(), time.Minute)
		defer w.end()
		time.Sleep(time.Hour)
		for range 5 {
			w.run()
			w.run()
			time.Sleep(10 * time.Second)
			w.stand()
			w.stand()
			time.Sleep(5 * time.Hour) // a transfer
		}
		if spent := w.spent(); spent != 50*time.Second || w.over() {
			t.Errorf("%v, over: %v", spent, w.over())
		}
		w.run()
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if w.over() {
			t.Error("it ended early")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !w.over() || !errors.Is(context.Cause(w.ctx), ErrNoDonor) {
			t.Error(context.Cause(w.ctx))
		}
	})
}

// at is a backup without a byte for so long, that says this of itself and the seconds.
func at(phase string, d time.Duration, then play) play {
	return func(ctx context.Context) (wire.Backup, error) {
		b, err := then(ctx)
		begun, stream := time.Now(), b.Stream
		b.Phase = func() string { return fmt.Sprintf("%s, %d", phase, time.Since(begun)/time.Second) }
		b.Stream = readerFunc(func(p []byte) (int, error) {
			select {
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			case <-time.After(d - time.Since(begun)):
				return stream.Read(p)
			}
		})
		return b, err
	}
}

// A donor whose backup waits for somebody's lock pins nobody: neither while another is
// free, nor for longer than --wait.
func TestJoinWhileTheDonorWaits(t *testing.T) {
	const waiting = "waiting for a lock"
	b := stream(t, small())
	t.Run("another becomes free", func(t *testing.T) {
		t.Parallel()
		_, first := serve(t, at(waiting, time.Hour, whole(b)))
		other := &donor{plays: []play{whole(b)}}
		s := wire.NewServer(other, wire.ServerConfig{Slots: 1, Stall: soon, Log: slog.New(slog.DiscardHandler)})
		v := openVolume(t)
		j := newJoiner(v, first)
		j.Candidates = append(j.Candidates, Candidate{Name: "db-2", Ordinal: 2, Addr: serveHTTP(t, busyFirst(2, s.Handler()))})
		if err := j.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := wantPublished(t, v).Donor; d != "db-2" {
			t.Errorf("it is a clone of %s", d)
		}
	})
	t.Run("nobody else is there", func(t *testing.T) {
		t.Parallel()
		_, only := serve(t, at(waiting, time.Hour, whole(b)))
		v := openVolume(t)
		j := newJoiner(v, only)
		j.Wait = 2 * time.Second // in which the donor has said what its backup is at
		err := j.Join(t.Context())
		if !errors.Is(err, ErrNoDonor) || errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "its backup is waiting for a lock") {
			t.Error(err)
		}
		wantNothing(t, v, "lock")
	})
	t.Run("it works, for longer than one may wait", func(t *testing.T) {
		t.Parallel()
		_, only := serve(t, at("snapshot", 3*time.Second, whole(b)))
		v := openVolume(t)
		j := newJoiner(v, only)
		j.Wait = 2500 * time.Millisecond
		if err := j.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantPublished(t, v)
	})
}
