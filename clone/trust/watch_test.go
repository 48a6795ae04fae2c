package trust

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
)

// Files that change together are never seen of two moments, and many may look at once.
func TestFilesOfOneMoment(t *testing.T) {
	both := func(i int) map[string]string {
		return map[string]string{"one": strconv.Itoa(i), "two": strconv.Itoa(i)}
	}
	v := newVolume(t, both(0))
	w, err := watch(quiet(), []string{v.path("one"), v.path("two")}, func(read []file) (string, error) {
		if string(read[0].text) != string(read[1].text) {
			return "", fmt.Errorf("%s and %s", read[0].text, read[1].text)
		}
		return string(read[0].text), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	broken := atomic.Int64{}
	parse := w.parse
	w.parse = func(read []file) (string, error) {
		made, err := parse(read)
		if err != nil {
			broken.Add(1)
		}
		return made, err
	}
	var (
		group errgroup.Group
		over  atomic.Bool
	)
	for range 3 {
		group.Go(func() error {
			for last := 0; !over.Load(); {
				now, err := strconv.Atoi(w.now())
				if err != nil || now < last {
					return fmt.Errorf("%d after %d, error %w", now, last, err)
				}
				last = now
			}
			return nil
		})
	}
	const changes = 500
	for i := range changes {
		if err := v.swap(both(i + 1)); err != nil {
			t.Fatal(err)
		}
	}
	over.Store(true)
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if n := broken.Load(); n > 0 {
		t.Errorf("%d times the files were of two moments", n)
	}
	if got := w.now(); got != strconv.Itoa(changes) {
		t.Errorf("at the end they say %s", got)
	}
}
