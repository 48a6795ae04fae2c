package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
)

// stuck is a log that nobody reads: a record stays in it until it is let go.
type stuck struct {
	slog.Handler
	free chan struct{}
}

func (h stuck) Handle(context.Context, slog.Record) error { <-h.free; return nil }

func (h stuck) WithAttrs([]slog.Attr) slog.Handler { return h }

// A backup that is whole is not thrown away because its words cannot be logged, or because
// a child of the tool's has its stderr; and what holds off commits is heard all the same.
func TestToolWhoseLogIsStuck(t *testing.T) {
	for name, script := range map[string]string{
		"the log is stuck":         `i=0; while [ $i -lt 3000 ]; do echo "line $i of the tool, which has many of them and says so at length" >&2; i=$((i+1)); done; echo stage >&2; echo data`,
		"a child keeps the stderr": `sleep 2 & echo stage >&2; echo data`,
	} {
		t.Run(name, func(t *testing.T) {
			h := stuck{slog.DiscardHandler, make(chan struct{})}
			defer close(h.free)
			var heard atomic.Bool
			tool := child{argv: []string{"/bin/sh", "-c", script}, stdout: true, heard: func(line string) {
				if line == "stage" {
					heard.Store(true)
				}
			}}
			p, err := tool.start(t.Context(), slog.New(h))
			if err != nil {
				t.Fatal(err)
			}
			data := make([]byte, 5)
			_, err = io.ReadFull(p.Stdout, data)
			if string(data) != "data\n" {
				t.Errorf("%q, %v", data, err)
			}
			if err := errors.Join(p.Wait(), p.Stdout.Close()); err != nil {
				t.Error(err)
			}
			if !heard.Load() {
				t.Error("what the tool said was not heard")
			}
		})
	}
}

// What could not be logged is counted.
func TestToolThatSaysMore(t *testing.T) {
	var b bytes.Buffer
	l := newLineLogger(slog.New(slog.NewTextHandler(&b, nil)), func(string) {})
	for range maxUnlogged + 7 {
		_, _ = l.Write([]byte("x\n"))
	}
	_, _ = l.Write([]byte("the last\n"))
	go l.write()
	l.flush()
	if got := b.String(); !strings.Contains(got, "lines_left_out=8") || strings.Count(got, "line=x") != maxUnlogged || !strings.HasSuffix(l.account(), "x | the last") {
		t.Errorf("%d lines, the end of %q, tail %q", strings.Count(got, "\n"), got[max(0, len(got)-200):], l.account())
	}
}

// A redo log that was too small is the reason, among all that the tool says around it.
func TestToolOverrun(t *testing.T) {
	for name, lines := range map[string]string{
		"mariadb-backup 10.11": "Retrying read of log at LSN=4440798156\nWas only able to copy log from 4416033598 to 4440798156, not 4545067511\nmariabackup: Try increasing the innodb_log_file_size.\nmariabackup: Stopping log copying thread..",
		"XtraBackup": "xtrabackup: error: log block numbers mismatch:\nxtrabackup: error: it looks like InnoDB log has wrapped around before xtrabackup could process all records due to either log copying being too slow, or  log files being too small.\n" +
			"xtrabackup: Error: xtrabackup_copy_logfile() failed.",
	} {
		l := newLineLogger(slog.New(slog.DiscardHandler), func(string) {})
		_, _ = l.Write([]byte(lines + "\n"))
		go l.write()
		l.flush()
		if got := l.account(); !strings.HasPrefix(got, overrunReason) {
			t.Errorf("%s: %s", name, got)
		}
	}
}
