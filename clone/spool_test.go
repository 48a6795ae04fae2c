package clone

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"understudy/clone/volume"
	"understudy/clone/wire"
)

// disk is a file system of which others may take.
type disk struct {
	mu     sync.Mutex
	bytes  int64
	spools *budget
}

func newDisk(bytes, leave int64) *disk {
	d := &disk{bytes: bytes}
	d.spools = &budget{leave: leave}
	d.spools.free = func() (volume.Space, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		return volume.Space{Bytes: d.bytes - d.spools.waiting, Size: 1 << 50}, nil // its lock is held
	}
	return d
}

func (d *disk) shrink(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bytes -= n
}

// outcome is what a spool has given up for.
type outcome struct{ err atomic.Pointer[error] }

func (o *outcome) failed(err error) {
	if !errors.Is(err, io.ErrClosedPipe) {
		o.err.CompareAndSwap(nil, &err)
	}
}

func (o *outcome) get() error {
	if p := o.err.Load(); p != nil {
		return *p
	}
	return nil
}

func (d *disk) taken() int64 {
	d.spools.mu.Lock()
	defer d.spools.mu.Unlock()
	return d.spools.waiting
}

// What is read is off the volume: more goes through it than fits there, and nothing is left.
func TestSpoolTakesWhatWaits(t *testing.T) {
	const mib, behind = 1 << 20, 8
	text := make([]byte, 64*mib)
	_, _ = rand.Read(text)
	dir, d, o := t.TempDir(), newDisk(40*mib, 8*mib), outcome{}
	read, write := io.Pipe()
	s := newSpool(read, dir, d.spools, o.failed)
	s.divert()
	var got, all []byte
	take := func(n int) {
		t.Helper()
		got = got[:n]
		if _, err := io.ReadFull(s, got); err != nil {
			t.Fatal(err)
		}
		all = append(all, got...)
	}
	got = make([]byte, behind*mib)
	for i := range 64 {
		if _, err := write.Write(text[i*mib : (i+1)*mib]); err != nil {
			t.Fatal(err)
		}
		if i >= behind {
			take(mib)
		}
		if waits := d.taken(); waits > behind*mib+partSize {
			t.Fatalf("%d bytes are on the volume", waits)
		}
	}
	_ = write.Close()
	take(behind * mib)
	if _, err := s.Read(got); !errors.Is(err, io.EOF) || !bytes.Equal(all, text) {
		t.Errorf("%d bytes of %d, %v, %v", len(all), len(text), err, o.get())
	}
	if err := s.close(); err != nil || d.taken() != 0 {
		t.Errorf("%d bytes are taken, %v", d.taken(), err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// Every byte comes once and in order, however often the tool's bytes go to the volume and back to
// the network, and what was on the volume is off it in the end.
func TestSpoolGoesBack(t *testing.T) {
	text := make([]byte, 24<<20)
	_, _ = rand.Read(text)
	d, o := newDisk(100<<20, 8<<20), outcome{}
	read, write := io.Pipe()
	s := newSpool(read, t.TempDir(), d.spools, o.failed)
	go func() {
		for i, rest := 0, text; len(rest) > 0; i++ {
			switch i % 100 {
			case 10, 60:
				s.divert()
			case 30, 61:
				s.undivert()
			}
			n := min(len(rest), 30_000+i)
			_, _ = write.Write(rest[:n])
			rest = rest[n:]
		}
		s.undivert()
		_ = write.Close()
	}()
	all, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(all, text) {
		t.Errorf("%d bytes of %d, %v, %v", len(all), len(text), err, o.get())
	}
	if err := s.close(); err != nil || d.taken() != 0 {
		t.Errorf("%d bytes are taken, %v", d.taken(), err)
	}
}

// The volume is never filled, by how many spools ever, and whoever else writes there.
func TestSpoolGivesUp(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		name         string
		bytes, leave int64
		spools       int
		meanwhile    func(d *disk)
		least        int64 // that has to be free
		want         string
	}{
		{"one", 40 * mib, 0, 1, nil, 20 * mib, "have to stay free"},
		{"two share what one may take", 40 * mib, 0, 2, nil, 20 * mib, "have to stay free"},
		{"--min-free", 40 * mib, 30 * mib, 1, nil, 30 * mib, "30.0 MiB have to stay free"},
		{"the server fills the volume meanwhile", 1000 * mib, 30 * mib, 1, func(d *disk) { d.shrink(1000*mib - d.taken() - 20*mib) }, 0, "20.0 MiB are free"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, all := newDisk(tt.bytes, tt.leave), make([]*outcome, tt.spools)
			for i := range all {
				all[i] = &outcome{}
				read, write := io.Pipe()
				s := newSpool(read, t.TempDir(), d.spools, all[i].failed)
				s.divert()
				go func() { // until it is closed, or has written what the server's growth is to meet
					_, _ = io.CopyN(write, neverending{}, 64*mib)
				}()
				defer func() {
					_ = read.Close()
					if err := s.close(); err != nil {
						t.Error(err)
					}
				}()
			}
			for begun := time.Now(); ; time.Sleep(time.Millisecond) {
				if tt.meanwhile != nil && d.taken() == 64*mib {
					tt.meanwhile(d)
					tt.meanwhile = nil
				}
				var failed int
				for _, o := range all {
					if err := o.get(); err != nil {
						failed++
						if !errors.Is(err, ErrSpool) || !strings.Contains(err.Error(), tt.want) {
							t.Fatal(err)
						}
					}
				}
				if failed == tt.spools {
					break
				}
				if time.Since(begun) > soon {
					t.Fatal("it was not given up")
				}
			}
			space, _ := d.spools.free()
			if tt.least > 0 && (space.Bytes < tt.least || space.Bytes > tt.least+mib) {
				t.Errorf("%d MiB are free, not %d", space.Bytes/mib, tt.least/mib)
			}
		})
	}
}

type neverending struct{}

func (neverending) Read(p []byte) (int, error) { return len(p), nil }

// A look that fails finds no room.
func TestSpoolWithoutALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		b := &budget{free: func() (volume.Space, error) { return volume.Space{}, boom }}
		var o outcome
		s := newSpool(strings.NewReader("x"), t.TempDir(), b, o.failed)
		s.divert()
		if _, err := io.ReadAll(s); !errors.Is(err, boom) || !errors.Is(o.get(), ErrSpool) {
			t.Error(err, o.get())
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
}

// A volume that has less free than --min-free, or than a tenth of a small one, is told of before
// anything is copied.
func TestDonorMinFree(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name               string
		total, free, leave int64
		refused            bool
	}{
		{"less than --min-free", 100_000 * mib, 1000 * mib, 1024 * mib, true},
		{"more than --min-free", 100_000 * mib, 1100 * mib, 1024 * mib, false},
		{"a small volume, nearly full", 1000 * mib, 90 * mib, 1024 * mib, true},
		{"a small volume with room", 1000 * mib, 110 * mib, 1024 * mib, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDonor(t, tool(t, `cat "$STREAM"`))
			free := func() (volume.Space, error) { return volume.Space{Bytes: tt.free, Size: tt.total}, nil }
			d.once.Do(func() { d.aside = &budget{free: free, leave: tt.leave} })
			m := d.Member(t.Context())
			if refused := m.Offer == nil && strings.Contains(m.NoOffer, "--min-free"); refused != tt.refused {
				t.Errorf("refused %v, %q", refused, m.NoOffer)
			}
			b, err := d.Backup(t.Context(), wire.Ask{StreamID: "1"})
			if refused := errors.Is(err, wire.ErrNotServing) && strings.Contains(err.Error(), "--min-free"); refused != tt.refused {
				t.Error(err)
			}
			if err == nil {
				_, _ = io.Copy(io.Discard, b.Stream)
				_ = b.Finish()
			}
		})
	}
}
