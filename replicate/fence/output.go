package fence

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
)

// Bounds of what is kept of a server's output.
const (
	keptLines = 40
	keptBytes = 300 // of a line
)

// output passes a server's output on, and keeps its last lines.
type output struct {
	mu    sync.Mutex
	lines []string
	open  sync.WaitGroup
}

// pipe is a file for the server to print to; what it prints goes on to w at once, and into the
// lines.
func (o *output) pipe(w io.Writer) (*os.File, error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o.open.Go(func() {
		defer from.Close()
		o.pass(from, w)
	})
	return to, nil
}

// pass ends when all processes of the server have closed their ends. Where w fails it reads on, so
// that the server does not block.
func (o *output) pass(from io.Reader, w io.Writer) {
	var line []byte
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		_, _ = w.Write(buf[:n])
		for rest := buf[:n]; len(rest) > 0; {
			part, after, ended := bytes.Cut(rest, []byte("\n"))
			line = append(line, part[:min(len(part), keptBytes-len(line))]...)
			if ended {
				o.keep(line)
				line = line[:0]
			}
			rest = after
		}
		if err != nil {
			o.keep(line)
			return
		}
	}
}

// keep takes one line, except one that may have a password: some images print the one that they
// make.
func (o *output) keep(line []byte) {
	text := strings.TrimRight(strings.ToValidUTF8(string(line), "?"), "\r ")
	if text == "" {
		return
	}
	if strings.Contains(strings.ToLower(text), "password") {
		text = "(a line about a password is left out)"
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.lines) == keptLines {
		o.lines = o.lines[1:]
	}
	o.lines = append(o.lines, text)
}

// last are the lines that are kept, the newest one last.
func (o *output) last() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.lines)
}
