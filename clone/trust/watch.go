package trust

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// file is the content of a path.
type file struct {
	path string
	text []byte
	err  error
}

// watched is a value made from files. It is made again when their content changes, which it checks
// by reading them: they are small, and a handshake costs far more.
type watched[T any] struct {
	paths []string
	parse func([]file) (T, error)
	log   *slog.Logger
	// once is set when a path is not a regular file: a pipe can be read only once.
	once bool

	mu   sync.Mutex
	good T
	seen [sha256.Size]byte
}

// watch reads the files for the first time. An error of parse is returned; later ones are logged.
func watch[T any](log *slog.Logger, paths []string, parse func([]file) (T, error)) (*watched[T], error) {
	w := &watched[T]{paths: paths, parse: parse, log: log}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			w.once = true
		}
	}
	files, sum := w.read()
	var err error
	w.good, err = parse(files)
	w.seen = sum
	return w, err
}

const (
	// settle bounds how often files that change during the reading are read again.
	settle = 10
	// settlePause is the pause between two readings. The kubelet exchanges all files of a volume at
	// once, but makes the link of a new one only afterwards: until then the volume has the new
	// secret and seems to have no previous one.
	settlePause = 20 * time.Millisecond
)

// now returns the value of the current files, or of the last usable ones.
func (w *watched[T]) now() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.once {
		return w.good
	}
	files, sum := w.read()
	if sum == w.seen {
		return w.good
	}
	// The kubelet swaps all files at once, but they are read one after the other. Two equal
	// readings are consistent.
	for range settle {
		time.Sleep(settlePause)
		again, sumAgain := w.read()
		if sumAgain == sum {
			w.take(files, sum)
			break
		}
		files, sum = again, sumAgain
	}
	return w.good
}

func (w *watched[T]) take(files []file, sum [sha256.Size]byte) {
	w.seen = sum
	made, err := w.parse(files)
	if err != nil {
		w.log.Warn("the files that prove who we are have changed and cannot be used: what was good last stays in force",
			"files", w.paths, "error", err)
		return
	}
	w.good = made
	w.log.Info("the files that prove who we are have changed, and are used from now on", "files", w.paths)
}

// read returns the files and a digest of them.
func (w *watched[T]) read() (files []file, sum [sha256.Size]byte) {
	digest := sha256.New()
	for _, path := range w.paths {
		text, err := os.ReadFile(path)
		files = append(files, file{path: path, text: text, err: err})
		_, _ = fmt.Fprintf(digest, "%d %v\n%s", len(text), err, text) // never fails, see hash.Hash
	}
	digest.Sum(sum[:0])
	return files, sum
}
