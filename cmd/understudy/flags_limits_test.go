package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/clone/wire"
)

func TestParseRate(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1000000": 1000000, "64KiB": 64 << 10, "50MiB": 50 << 20, "2 GiB": 2 << 30,
		"": -1, "-1": -1, "50M": -1, "MiB": -1, "1": -1, "9000000000GiB": -1, "63KiB": -1,
	} {
		got, err := parseRate(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d (%v)", text, got, want, err)
		}
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		said := l.b.String()
		l.mu.Unlock()
		if strings.Contains(said, text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log does not say %q:\n%s", text, said)
		}
	}
}

func TestLimitsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	l := limitFlags{rate: "1MiB", file: path}
	if err := l.validate(); err != nil { // the file may come later
		t.Fatal(err)
	}
	write("max-rate = fast\n")
	if err := l.validate(); err == nil || !strings.Contains(err.Error(), "limits-file") {
		t.Errorf("err = %v", err)
	}
	var log lines
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.watch(ctx, wire.NewThrottle(l.bytes), time.Millisecond, slog.New(slog.NewTextHandler(&log, nil)))
	}()
	log.await(t, "limits file ignored")
	write("# at night\nmax-rate = 2MiB # a comment\n")
	log.await(t, "max_rate=2097152 before=1048576")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	log.await(t, "max_rate=1048576 before=2097152")
	cancel()
	<-ended
}
