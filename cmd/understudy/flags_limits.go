package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"understudy/clone/wire"
)

// limitFlags bound the rate of the clones that a member gives.
type limitFlags struct {
	rate, file string

	bytes int64 // of rate
}

func (l *limitFlags) define(f *flagSet) {
	f.StringVar(&l.rate, "max-rate", "0", "`bytes` a second for all clones given, such as 50MiB; 0: no limit")
	f.StringVar(&l.file, "limits-file", "", "`file` with a line max-rate=BYTES that takes precedence over --max-rate and is read again while\nclones run; for a mounted ConfigMap")
}

func (l *limitFlags) validate() (err error) {
	if l.bytes, err = parseRate(l.rate); err != nil {
		return fmt.Errorf("--max-rate=%s: %w", l.rate, err)
	}
	if l.file == "" {
		return nil
	}
	if _, err := l.read(); err != nil {
		return fmt.Errorf("--limits-file=%s: %w", l.file, err)
	}
	return nil
}

var errBytes = errors.New("it must be a number of bytes, with or without KiB, MiB or GiB")

func parseBytes(text string) (int64, error) {
	number, unit := text, int64(1)
	for i, suffix := range []string{"KiB", "MiB", "GiB"} {
		if before, found := strings.CutSuffix(text, suffix); found {
			number, unit = strings.TrimSpace(before), 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, errBytes
	}
	return n * unit, nil
}

func parseRate(text string) (int64, error) {
	n, err := parseBytes(text)
	if n > 0 && n < wire.MinRate {
		return 0, fmt.Errorf("it must be 0 or at least %d KiB a second", wire.MinRate>>10)
	}
	return n, err
}

// read returns the limit of the file, or that of the flag where the file sets none or does not
// exist.
func (l *limitFlags) read() (int64, error) {
	text, err := os.ReadFile(l.file)
	if errors.Is(err, fs.ErrNotExist) {
		return l.bytes, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the limits: %w", err)
	}
	limit := l.bytes
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		if strings.TrimSpace(key) != "max-rate" {
			return 0, fmt.Errorf("read the limits: %q is not max-rate=BYTES", line)
		}
		if limit, err = parseRate(strings.TrimSpace(value)); err != nil {
			return 0, fmt.Errorf("read the limits: max-rate=%s: %w", value, err)
		}
	}
	return limit, nil
}

// limitsEvery is the time between two reads of the file.
const limitsEvery = 2 * time.Second

// watch applies the file's limit to the throttle until ctx ends. An invalid file changes nothing.
func (l *limitFlags) watch(ctx context.Context, throttle *wire.Throttle, every time.Duration, log *slog.Logger) {
	if l.file == "" {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	now, complaint := l.bytes, ""
	for {
		limit, err := l.read()
		switch {
		case err == nil && limit != now:
			log.Info("limit changed", "max_rate", limit, "before", now)
			throttle.Set(limit)
			now = limit
		case err != nil && err.Error() != complaint:
			log.Warn("limits file ignored", "file", l.file, "error", err, "max_rate", now)
		}
		if complaint = ""; err != nil {
			complaint = err.Error()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
