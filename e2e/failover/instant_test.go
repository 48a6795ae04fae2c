//go:build failover

package failover

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"understudy/replicate/gtid"
)

// sampleEvery is the time between two looks at a member.
const sampleEvery = 10 * time.Millisecond

// sampler looks whether two members are open for writes at one instant, and who opened which term.
type sampler struct {
	f  *fixture
	mu sync.Mutex
	// open are the last looks at each member that found it open.
	open  [][]look
	terms map[int]opened
}

// look is one that found a member open: at some instant from asked to told.
type look struct {
	asked, told time.Time
	// since is when an earlier look was over, if every one since then found it open: it was open all
	// the time between.
	since time.Time
}

// with says that both were open at one instant.
func (l look) with(o look) bool { return l.within(o) || o.within(l) }

func (l look) within(o look) bool {
	return !o.since.IsZero() && !l.asked.Before(o.since) && !l.told.After(o.asked)
}

// opened is how a term began.
type opened struct {
	Term   int    `json:"term"`
	Server string `json:"server"`
	Begins string `json:"begins"`
}

// sample samples until stop is called.
func (f *fixture) sample(ctx context.Context) (s *sampler, stop func()) {
	s = &sampler{f: f, open: make([][]look, f.n), terms: map[int]opened{}}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for i, db := range f.connect("root", f.RootPassword(), time.Second) {
		wg.Go(func() { s.watch(ctx, i, db) })
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			s.readTerm(ctx)
			time.Sleep(5 * sampleEvery)
		}
	})
	stop = func() {
		cancel()
		wg.Wait()
	}
	f.t.Cleanup(stop)
	return s, stop
}

func (s *sampler) watch(ctx context.Context, i int, db *sql.DB) {
	var before time.Time
	for ctx.Err() == nil {
		short, cancel := context.WithTimeout(ctx, time.Second)
		l := look{asked: time.Now(), since: before}
		var open bool
		err := db.QueryRowContext(short, "SELECT "+s.f.isOpen()).Scan(&open)
		cancel()
		l.told = time.Now()
		if before = (time.Time{}); err == nil && open {
			before = l.told
			s.found(ctx, i, l)
		}
		time.Sleep(sampleEvery)
	}
}

// found compares a look with those at the others: one that lies within the time in which another
// member was open all the time.
func (s *sampler) found(ctx context.Context, i int, l look) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[i] = append(s.open[i], l)
	if len(s.open[i]) > 200 {
		s.open[i] = slices.Clone(s.open[i][100:])
	}
	for j, looks := range s.open {
		if j == i {
			continue
		}
		if slices.ContainsFunc(looks, l.with) {
			s.double(ctx, s.f.Member(i).Name()+" and "+s.f.Member(j).Name()+" are open for writes at one instant")
			s.open[j] = nil // once is enough
			return
		}
	}
}

func (s *sampler) double(ctx context.Context, text string) {
	s.f.found(0, 1, fmt.Sprintf("%s: %+v", text, s.f.lease(ctx)))
}

// found counts and tells what must not be.
func (f *fixture) found(lost, doubles int, text string) {
	f.t.Helper()
	if f.wanted != nil {
		select {
		case f.wanted <- finding{lost, doubles, text}:
		default: // as many as that are enough
		}
		return
	}
	sum.mu.Lock()
	sum.lost, sum.doubles = max(sum.lost, lost), sum.doubles+doubles
	sum.mu.Unlock()
	f.t.Error(text)
}

// readTerm notes the last opened term.
func (s *sampler) readTerm(ctx context.Context) {
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	text, err := s.f.api.Do(short, http.MethodGet, leases+"/db", "", "")
	if err != nil {
		return
	}
	var lease struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	var record struct {
		Ledger struct {
			Terms []opened `json:"terms"`
		} `json:"ledger"`
	}
	if json.Unmarshal([]byte(text), &lease) != nil || json.Unmarshal([]byte(lease.Metadata.Annotations["understudy/term"]), &record) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range record.Ledger.Terms {
		s.terms[t.Term] = t
	}
}

// check compares the terms: what was committed between the beginnings of two is of the first one's
// server alone, and so is what came after the last. The clients have stopped.
func (s *sampler) check(ctx context.Context) {
	s.f.t.Helper()
	executed := s.f.executed(ctx, s.f.byName(s.f.named(ctx, s.f.n-1).Holder))
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []opened
	for _, t := range s.terms {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b opened) int { return a.Term - b.Term })
	all = append(all, opened{Term: -1, Begins: executed.String()})
	by := func(server string) (uuid string, id uint32) {
		if !s.f.mariaDB {
			return server, 0
		}
		n, err := strconv.ParseUint(server, 10, 32)
		if err != nil {
			s.f.t.Fatal(err)
		}
		return "", uint32(n)
	}
	for i := range len(all) - 1 {
		a, b := all[i], all[i+1]
		begins, err := gtid.Parse(s.f.flavor(), a.Begins)
		if err != nil {
			s.f.t.Fatal(err)
		}
		ends, err := gtid.Parse(s.f.flavor(), b.Begins)
		if err != nil {
			s.f.t.Fatal(err)
		}
		switch wrote := ends.Errant(begins); {
		case !ends.Contains(begins):
			s.double(ctx, "the term after "+a.Server+"'s lacks what that began with: "+begins.Errant(ends).String())
		case !wrote.OnlyOf(by(a.Server)):
			s.double(ctx, "in the term of "+a.Server+" others wrote, too: "+wrote.String())
		}
	}
	if s.f.mariaDB {
		s.hidden(ctx, all[:len(all)-1], executed)
	}
	s.f.t.Logf("%d terms were opened; in each only its leader wrote", len(all)-1)
}

// hidden finds, on MariaDB, what a server wrote outside its term and a later number hides: each
// server_id has its last transaction by where the next term begins, and who is of no term by where
// the first one does.
func (s *sampler) hidden(ctx context.Context, terms []opened, executed gtid.History) {
	s.f.t.Helper()
	for g := range strings.SplitSeq(executed.Text(), ",") {
		part := strings.Split(g, "-")
		ends := terms[0].Begins
		if i := slices.IndexFunc(terms, func(t opened) bool { return t.Server == part[1] }); i == len(terms)-1 {
			continue
		} else if i >= 0 {
			ends = terms[i+1].Begins
		}
		wrote, err := strconv.Atoi(part[2])
		end, err2 := strconv.Atoi(ends[strings.LastIndex(ends, "-")+1:])
		if err := errors.Join(err, err2); err != nil {
			s.f.t.Fatal(err)
		}
		if wrote > end {
			s.double(ctx, "server "+part[1]+" has written "+g+", and its time ended at "+ends)
		}
	}
}
