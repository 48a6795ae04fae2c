//go:build soak

// Package soak watches the memory of a sidecar that has nothing to do but to be looked at. `make soak`
// runs it.
package soak

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

var program string

func TestMain(m *testing.M) {
	os.Exit(set.WithProgram(func(built string) int {
		program = built
		return m.Run()
	}))
}

const (
	// limit is how much memory a sidecar may have, growth how much more than in the first tenth of the
	// time.
	limit, growth = 10 << 20, 1 << 20
	// askEvery is after how many scrapes the member is asked for all that its peers ask for.
	askEvery = 10
	// partitions is how many one table may have.
	partitions = 8192
)

// lasts is SOAK, such as 10m.
func lasts(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SOAK")
	if text == "" {
		return time.Hour
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// tables is TABLES.
func tables(t *testing.T) int {
	t.Helper()
	text := os.Getenv("TABLES")
	if text == "" {
		return partitions
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A sidecar that is scraped each second, beside a server of many tables, keeps the memory that it has.
func TestSoak(t *testing.T) {
	long := lasts(t)
	ctx, cancel := context.WithTimeout(t.Context(), long+time.Hour)
	defer cancel()
	in, err := testserver.MySQL97(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	// Files of small pages take less of the disk.
	if in, err = in.WithOptions(t.TempDir(), "--innodb-page-size=4K", "--innodb-flush-method=nosync", "--skip-innodb-doublewrite"); err != nil {
		t.Fatal(err)
	}
	s, err := set.New(set.Config{Binary: program, Install: in, Dir: t.TempDir(), SidecarFlags: []string{"--interval=2s"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.End(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	m := s.Member(0)
	if err := m.Up(ctx); err != nil {
		t.Fatal(err)
	}
	for left := tables(t); left > 0; left -= partitions {
		statement := fmt.Sprintf("CREATE TABLE soak.t%d (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS %d", left, min(left, partitions))
		if err := m.Execute(ctx, "CREATE DATABASE IF NOT EXISTS soak", statement); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d tables are there", tables(t))
	const looks = 10
	scrapes, first, last := 0, int64(0), int64(0)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for look := 1; look <= looks; look++ {
		last = 0
		for end := time.Now().Add(long / looks); time.Now().Before(end); <-tick.C {
			for _, path := range []string{"/metrics", "/readyz"} {
				if code, body, err := m.Get(ctx, path); err != nil || code != http.StatusOK {
					t.Fatalf("%s: %d %s %v", path, code, body, err)
				}
			}
			if scrapes%askEvery == 0 { // a peer does, and then the member looks through its tables
				if r, err := s.Call(ctx, nil, "status", "--set=db", "--peer-host="+s.Hosts(), "--members=1", "--secret-file="+s.SecretFile()); err != nil || r.Code != 0 {
					t.Fatalf("status: %d %s %s %v", r.Code, r.Stdout, r.Stderr, err)
				}
			}
			scrapes++
			last = max(last, own(t, m.Sidecar().Pid()))
		}
		if look == 1 {
			first = last
		}
		t.Logf("up to %v: at most %.1f MiB of its own", long*time.Duration(look)/looks, mib(last))
	}
	if last > limit || last > first+growth {
		t.Errorf("it has %.1f MiB, of at most %.1f, and had %.1f at first", mib(last), mib(limit), mib(first))
	}
	fmt.Printf("soak: %.1f MiB at first, %.1f MiB after %v, %d scrapes, %d tables\n", mib(first), mib(last), long, scrapes, tables(t))
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// own is a process's memory without the pages of its program, in bytes.
func own(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssAnon:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
