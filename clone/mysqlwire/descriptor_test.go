package mysqlwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// recorded are the messages that a server of MySQL 9.7.4 sent over the first connection, without
// the contents of files: see TestRecord.
func recorded(tb testing.TB) [][]byte {
	tb.Helper()
	f, err := os.Open("testdata/mysql-9.7.4")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c := newConn(discardConn{Reader: f}, time.Minute)
	var all [][]byte
	for {
		message, err := c.read(maxSmall)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, append([]byte(nil), message...))
	}
}

// What a real server says of itself and of its files.
func TestRecorded(t *testing.T) {
	messages := recorded(t)
	g, err := parseGreeting(messages[0])
	if err != nil || g.plugin != pluginSHA2 || len(g.nonce) != nonceLen || g.can&canTLS == 0 {
		t.Errorf("greeting %+v, %v", g, err)
	}
	c := &Clone{Settings: map[string]string{}}
	var lines []string
	const before = 3 // the server agrees to the login, to SET and to COM_CLONE before it speaks the protocol
	agreed := 0
	for _, m := range messages[1:] {
		if agreed < before {
			if m[0] == headOK {
				agreed++
			}
			continue
		}
		switch kind, body := m[0], m[1:]; {
		case kind == answerDescriptor:
			d, err := parseDescriptor(body[2:])
			if err != nil {
				t.Fatal(err)
			}
			switch d := d.(type) {
			case State:
				lines = append(lines, fmt.Sprintf("%s: start %v, ack %v, files %d", d.Stage, d.Start, d.Ack, d.Files))
			case File:
				lines = append(lines, fmt.Sprintf("%s: file %d %s: compressed %v, renamed %v, deleted %v", d.Stage, d.Index, d.Name, d.Compressed, d.Renamed, d.Deleted))
			}
		case kind >= answerLocators && kind <= answerConfigV4:
			if err := c.take(kind, body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if c.Version != 4 || c.Settings["version"] != "9.7.4-2" || len(c.Settings) != 7 || len(c.locator) != locatorLen {
		t.Errorf("version %d, settings %v", c.Version, c.Settings)
	}
	want, err := os.ReadFile("testdata/mysql-9.7.4.txt")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(strings.TrimSpace(string(want)), "\n"), lines); d != "" {
		t.Error(d)
	}
}

// file is the description of a file, with a name.
func file(name string, flags byte, key int) []byte {
	b := header(typeFile, fileLen+len(name)+key)
	b = append(b, 0, 0, 0, byte(FileCopy))
	b = append(b, make([]byte, fileLen-len(b))...)
	b[headerLen+4+16+8+1] = flags
	b[fileLen-1] = byte(len(name)) //nolint:gosec // a short one
	b = append(b, name...)
	return append(b, make([]byte, key)...)
}

func TestParseFile(t *testing.T) {
	tests := []struct {
		name string
		b    []byte
		want File
		err  error
	}{
		{"plain", file("./shop/a.ibd\x00", 0, 0), File{Stage: FileCopy, Name: "shop/a.ibd"}, nil},
		{"of the redo log", file("", 0, 0), File{Stage: FileCopy}, nil},
		{"flags", file("a\x00", flagLZ4|flagRenamed|flagDeleted, 0), File{Stage: FileCopy, Name: "a", Compressed: true, Renamed: true, Deleted: true}, nil},
		{"encrypted", file("a\x00", flagEncrypted|flagKey, keyLen), File{Stage: FileCopy, Name: "a", Encrypted: true}, nil},
		{"outside", file("/else/where.ibd\x00", 0, 0), File{}, ErrOutside},
		{"above", file("../up.ibd\x00", 0, 0), File{}, ErrProtocol},
		{"above later", file("a/../../up.ibd\x00", 0, 0), File{}, ErrProtocol},
		{"two names", file("a\x00b\x00", 0, 0), File{}, ErrProtocol},
		{"no end", file("a", 0, 0), File{}, ErrProtocol},
		{"empty", file("\x00", 0, 0), File{}, ErrProtocol},
		{"no key", file("a\x00", flagKey, 0), File{}, ErrProtocol},
		{"cut short", file("a\x00", 0, 0)[:fileLen], File{}, ErrProtocol},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseDescriptor(tt.b)
			if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Fatalf("error %v", err)
			}
			if d := cmp.Diff(any(tt.want), got); tt.err == nil && d != "" {
				t.Error(d)
			}
		})
	}
}

// Our own descriptors are those that the server expects.
func TestDescriptorsOfOurs(t *testing.T) {
	kind, _, err := parseHeader(firstLocator())
	if err != nil || kind != typeLocator {
		t.Errorf("locator: type %d, %v", kind, err)
	}
	s := State{Stage: PageCopy, Task: 1, Chunks: 2, Files: 3, Bytes: 4, DiskBytes: 5}
	got, err := parseDescriptor(s.acknowledgement())
	s.Ack = true
	if d := cmp.Diff(any(s), got); err != nil || d != "" {
		t.Error(d, err)
	}
}

// Whatever a server sends: no panic, no name that leads elsewhere, and every error says that it is
// the server's.
func FuzzDescriptor(f *testing.F) {
	for _, m := range recorded(f) {
		if m[0] == answerDescriptor {
			f.Add(m[2+1:])
		}
	}
	f.Add(file("/a\x00", 0, 0))
	f.Add(append([]byte("8.0\x00"), bytes.Repeat([]byte{255}, 44)...)) // a greeting
	f.Fuzz(func(t *testing.T, b []byte) {
		_, greetingErr := parseGreeting(append([]byte{10}, b...))
		_, _, switchErr := parseSwitch(append([]byte{headEOF}, b...))
		for _, err := range []error{greetingErr, switchErr} {
			if err != nil && !errors.Is(err, ErrProtocol) {
				t.Fatal(err)
			}
		}
		d, err := parseDescriptor(b)
		if err != nil && !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrOutside) {
			t.Fatal(err)
		}
		if file, ok := d.(File); ok && err == nil && (strings.HasPrefix(file.Name, "/") || strings.HasPrefix(file.Name, "../") || strings.Contains(file.Name, "\x00")) {
			t.Fatalf("name %q", file.Name)
		}
	})
}

// FuzzAnswers: what comes over a connection never makes more bytes of a block than were announced,
// nor a panic.
func FuzzAnswers(f *testing.F) {
	var all []byte
	for _, m := range recorded(f) {
		if m[0] == answerDescriptor {
			all = append(append(all, byte(len(m)), byte(len(m)>>8), 0, 0), m...) //nolint:gosec // the bytes of a length
		}
	}
	f.Add(all[:4096])
	f.Add([]byte{1, 0, 0, 0, answerComplete})
	f.Add([]byte{3, 0, 0, 0, answerError, 0x32, 0x0e})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &Clone{}
		c.cond.L = &c.mu
		c.main = &task{conn: newConn(discardConn{Reader: strings.NewReader(string(b))}, time.Minute)}
		c.aux = &task{conn: newConn(discardConn{Reader: strings.NewReader("")}, time.Minute)}
		c.tasks = []*task{c.main}
		sink := newCounter(nil)
		if err := c.execute(c.main, sink, nil); err == nil && len(sink.stages) == 0 && len(sink.bytes) > 0 {
			t.Fatal("bytes before a stage")
		}
	})
}

// An error of the server's keeps its number; that there is another clone is told apart.
func TestServerErrors(t *testing.T) {
	if err := donorError(append([]byte{0x32, 0x0e, 0, 0}, "Too many"...)); !errors.Is(err, ErrBusy) {
		t.Errorf("error %v", err)
	}
	if err := donorError([]byte{1}); !errors.Is(err, ErrProtocol) {
		t.Errorf("error %v", err)
	}
	if err := serverError([]byte{headError, 0x15, 0x04}); !strings.Contains(err.Error(), "1045") {
		t.Errorf("error %v", err)
	}
}

// The versions before the fourth are by specification: the server's answer has its own.
func TestVersions(t *testing.T) {
	answer := func(version byte) []byte {
		return appendLocator([]byte{version, 1, 0, 0}, firstLocator())
	}
	for version := range byte(5) {
		c := &Clone{}
		err := c.take(answerLocators, answer(version))
		switch {
		case version < 4 && (err != nil || c.Version != int(version)+1):
			t.Errorf("%d: version %d, %v", version, c.Version, err)
		case version == 4 && !errors.Is(err, ErrVersion):
			t.Errorf("error %v", err)
		}
	}
	c := &Clone{Settings: map[string]string{}}
	if err := c.take(answerPlugin, []byte("\x05\x00\x00\x00clone")); err != nil { // as the first version names plugins
		t.Error(err)
	}
	if err := c.take(answerConfig, []byte("\xff\x00\x00\x00x")); !errors.Is(err, ErrProtocol) {
		t.Errorf("error %v", err)
	}
}

// discardConn is a connection of which only the reading matters.
type discardConn struct {
	net.Conn
	io.Reader
}

func (c discardConn) Read(p []byte) (int, error)     { return c.Reader.Read(p) }
func (discardConn) SetReadDeadline(time.Time) error  { return nil }
func (discardConn) Close() error                     { return nil }
func (discardConn) Write(p []byte) (int, error)      { return len(p), nil }
func (discardConn) SetWriteDeadline(time.Time) error { return nil }
