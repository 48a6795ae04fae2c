package gtid_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"understudy/replicate/gtid"
)

// random gives the same numbers in every run; another seed is tried by changing it here.
func random(tb testing.TB) *rand.Rand {
	tb.Helper()
	const seed = 20261126
	tb.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test wants the same numbers again
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// model is the simplest form of a set: each transaction by its name, "uuid:tag:number".
type model map[string]bool

// The numbers of random sets are the lowest or the highest ones, so few that sets overlap, touch
// and hold one another.
const (
	few     = 24
	topBase = math.MaxInt64 - 1 - few // topBase+few is 2^63-2
)

// randomSet makes the text of a set, written in a random way, and its model.
func randomSet(r *rand.Rand) (string, model) {
	m := model{}
	var members []string
	for range r.IntN(5) {
		uuid := pick(r, u1, u2, u3)
		text := pick(r, uuid, uuid, strings.ToUpper(uuid))
		tag := ""
		for range r.IntN(6) {
			if r.IntN(4) == 0 {
				tag = pick(r, "a", "a_", "a1", "_", "zz")
				text += colon(r) + pick(r, tag, strings.ToUpper(tag))
			}
			first := int64(1 + r.IntN(few))
			last := min(few, first+int64(r.IntN(6)))
			base := pick[int64](r, 0, 0, 0, topBase)
			for n := first; n <= last; n++ {
				m[fmt.Sprintf("%s:%s:%d", uuid, tag, base+n)] = true
			}
			text += colon(r) + strconv.FormatInt(base+first, 10)
			if last > first || r.IntN(4) == 0 {
				text += blank(r) + "-" + blank(r) + strconv.FormatInt(base+last, 10)
			}
		}
		members = append(members, blank(r)+text+blank(r))
	}
	return strings.Join(members, pick(r, ",", ",", ",\n", ",,")), m
}

func colon(r *rand.Rand) string { return blank(r) + ":" + blank(r) }
func blank(r *rand.Rand) string { return pick(r, "", "", "", "", " ", "\n", "\t ", "\r\n") }

// modelOf reads the canonical text of a set, number by number.
func modelOf(tb testing.TB, text string) model {
	tb.Helper()
	m := model{}
	if text == "" {
		return m
	}
	for member := range strings.SplitSeq(text, ",") {
		tokens := strings.Split(member, ":")
		tag := ""
		for _, token := range tokens[1:] {
			first, last, isRange := strings.Cut(token, "-")
			n, err := strconv.ParseInt(first, 10, 64)
			if err != nil {
				tag = token
				continue
			}
			end := n
			if isRange {
				if end, err = strconv.ParseInt(last, 10, 64); err != nil || end <= n || end-n > few {
					tb.Fatalf("range %q in %q", token, text)
				}
			}
			for ; n <= end; n++ {
				m[fmt.Sprintf("%s:%s:%d", tokens[0], tag, n)] = true
			}
		}
	}
	return m
}

func (m model) union(o model) model {
	u := maps.Clone(m)
	maps.Copy(u, o)
	return u
}

func (m model) minus(o model) model {
	d := maps.Clone(m)
	maps.DeleteFunc(d, func(name string, _ bool) bool { return o[name] })
	return d
}

func TestSetsAgainstModel(t *testing.T) {
	r := random(t)
	for range 5000 {
		aText, aModel := randomSet(r)
		bText, bModel := randomSet(r)
		a, b := set(t, aText), set(t, bText)
		for _, check := range []struct {
			name string
			got  gtid.Set
			want model
		}{
			{"a", a, aModel},
			{"union", a.Union(b), aModel.union(bModel)},
			{"difference", a.Subtract(b), aModel.minus(bModel)},
		} {
			text := check.got.String()
			if got := modelOf(t, text); !maps.Equal(got, check.want) {
				t.Fatalf("%s of %q and %q is %q", check.name, aText, bText, text)
			}
			if got := check.got.Count(); got != uint64(len(check.want)) {
				t.Fatalf("%s of %q and %q counts %d, want %d", check.name, aText, bText, got, len(check.want))
			}
			if again := set(t, text); again.String() != text || !again.Equal(check.got) {
				t.Fatalf("%q is printed, and read as %q", text, again)
			}
		}
		if got, want := a.Contains(b), len(bModel.minus(aModel)) == 0; got != want {
			t.Fatalf("%q contains %q: %v", aText, bText, got)
		}
		if got, want := a.Equal(b), maps.Equal(aModel, bModel); got != want {
			t.Fatalf("%q equals %q: %v", aText, bText, got)
		}
	}
}

func TestLawsOfSets(t *testing.T) {
	r := random(t)
	for range 5000 {
		var s [3]gtid.Set
		for i := range s {
			text, _ := randomSet(r)
			s[i] = set(t, text)
		}
		a, b, c := s[0], s[1], s[2]
		before := [3]string{a.String(), b.String(), c.String()}
		both := a.Subtract(a.Subtract(b))
		for law, holds := range map[string]bool{
			"A∪B = B∪A":                      a.Union(b).Equal(b.Union(a)),
			"A∪(B∪C) = (A∪B)∪C":              a.Union(b.Union(c)).Equal(a.Union(b).Union(c)),
			"A∪A = A":                        a.Union(a).Equal(a),
			"A∩B = B∩A":                      both.Equal(b.Subtract(b.Subtract(a))),
			"(A\\B)∩B is empty":              a.Subtract(b).Equal(a.Subtract(b).Subtract(b)),
			"(A\\B)∪(A∩B) = A":               a.Subtract(b).Union(both).Equal(a),
			"(A\\B)∪B = A∪B":                 a.Subtract(b).Union(b).Equal(a.Union(b)),
			"(A∪B)\\C = (A\\C)∪(B\\C)":       a.Union(b).Subtract(c).Equal(a.Subtract(c).Union(b.Subtract(c))),
			"A\\(B∪C) = (A\\B)\\C":           a.Subtract(b.Union(c)).Equal(a.Subtract(b).Subtract(c)),
			"A\\A is empty":                  a.Subtract(a).Empty(),
			"A∪B contains A":                 a.Union(b).Contains(a),
			"A contains A\\B":                a.Contains(a.Subtract(b)),
			"A contains B and B A: A = B":    (a.Contains(b) && b.Contains(a)) == a.Equal(b),
			"A contains B: A∪B = A":          a.Contains(b) == a.Union(b).Equal(a),
			"A contains B: |A| = |A\\B|+|B|": !a.Contains(b) || a.Count() == a.Subtract(b).Count()+b.Count(),
			"|A|+|B| = |A∪B|+|A∩B|":          a.Count()+b.Count() == a.Union(b).Count()+both.Count(),
		} {
			if !holds {
				t.Fatalf("not so: %s, with A = %q, B = %q, C = %q", law, a, b, c)
			}
		}
		if after := [3]string{a.String(), b.String(), c.String()}; after != before {
			t.Fatalf("sets have changed from %q to %q", before, after)
		}
	}
}

// domains are the histories of MariaDB's domains: transactions in the order in which each server
// that has them has logged them.
type domains [3][]gtid.GTID

// extend adds up to few transactions of the given servers to each domain.
func (d domains) extend(r *rand.Rand, servers ...uint32) domains {
	for i := range d {
		d[i] = slices.Clone(d[i])
		next := uint64(1)
		if len(d[i]) > 0 {
			next = d[i][len(d[i])-1].Sequence + 1
		}
		for range r.IntN(few) {
			d[i] = append(d[i], gtid.GTID{Domain: uint32(i), Server: pick(r, servers...), Sequence: next})
			next += 1 + r.Uint64N(2)
		}
	}
	return d
}

// cut is what a server has that has not yet received all.
func (d domains) cut(r *rand.Rand) domains {
	for i := range d {
		d[i] = d[i][:r.IntN(len(d[i])+1)]
	}
	return d
}

func (d domains) all() []gtid.GTID { return slices.Concat(d[:]...) }

func (d domains) has(g gtid.GTID) bool { return slices.Contains(d[g.Domain], g) }

func (d domains) hasAll(o domains) bool {
	return !slices.ContainsFunc(o.all(), func(g gtid.GTID) bool { return !d.has(g) })
}

// state and position are what the server would say. Whatever the order of the domains' transactions
// among one another, the last of each counts.
func (d domains) state(tb testing.TB) gtid.BinlogState {
	tb.Helper()
	var texts []string
	for _, g := range d.all() {
		texts = append(texts, g.String())
	}
	return state(tb, strings.Join(texts, ","))
}

func (d domains) position(tb testing.TB) gtid.Position {
	tb.Helper()
	var texts []string
	for _, log := range d {
		if len(log) > 0 {
			texts = append(texts, log[len(log)-1].String())
		}
	}
	return position(tb, strings.Join(texts, ","))
}

func TestMariaDBAgainstModel(t *testing.T) {
	r := random(t)
	for range 3000 {
		all := domains{}.extend(r, 100, 101, 102)
		a, b, c := all.cut(r), all.cut(r), all.cut(r)
		p, q, o := a.position(t), b.position(t), c.position(t)
		if got := a.state(t).Position(); !got.Equal(p) {
			t.Fatalf("state %q is at %q, want %q", a.state(t), got, p)
		}
		if got, want := p.Contains(q), a.hasAll(b); got != want {
			t.Fatalf("%q contains %q: %v", p, q, got)
		}
		if got, want := a.state(t).Errant(b.state(t)).Empty(), b.hasAll(a); got != want {
			t.Fatalf("%q has errant ones beside %q: %v", a.state(t), b.state(t), !got)
		}
		union := p.Union(q)
		for law, holds := range map[string]bool{
			"P∪Q = Q∪P":                   union.Equal(q.Union(p)),
			"P∪(Q∪O) = (P∪Q)∪O":           p.Union(q.Union(o)).Equal(union.Union(o)),
			"P∪P = P":                     p.Union(p).Equal(p),
			"P∪Q contains P":              union.Contains(p),
			"P contains Q: P∪Q = P":       p.Contains(q) == union.Equal(p),
			"P contains Q and Q P: P = Q": (p.Contains(q) && q.Contains(p)) == p.Equal(q),
			"states: the union's position is the positions' union": a.state(t).Union(b.state(t)).Position().Equal(union),
			"states: A∪B has nothing beside A and B":               a.state(t).Union(b.state(t)).Errant(all.state(t)).Empty(),
		} {
			if !holds {
				t.Fatalf("not so: %s, with P = %q, Q = %q, O = %q", law, p, q, o)
			}
		}
		if got := position(t, p.String()); !got.Equal(p) {
			t.Fatalf("%q is printed, and read as %q", p, got)
		}
		if s := a.state(t); !state(t, s.String()).Equal(s) {
			t.Fatalf("%q is printed, and read as %q", s, state(t, s.String()))
		}
	}
}

// A replica has some of the source's transactions and then some of its own: the ranges hold exactly
// these of what it has logged, and the last of each range is one.
func TestErrantAgainstModel(t *testing.T) {
	r := random(t)
	const us = 109
	for range 3000 {
		common := domains{}.extend(r, 100, 101, us)
		source, ours := common.extend(r, 100, 101), common.extend(r, us, 110)
		var want []gtid.GTID
		for _, g := range ours.all() {
			if !source.has(g) {
				want = append(want, g)
			}
		}
		errant := ours.state(t).Errant(source.state(t))
		var got, last []gtid.GTID
		for _, g := range ours.all() {
			for _, in := range errant.Ranges() {
				if in.Domain == g.Domain && in.Server == g.Server && in.From < g.Sequence && g.Sequence <= in.To {
					got = append(got, g)
				}
				if in.Domain == g.Domain && in.Server == g.Server && g.Sequence == in.To {
					last = append(last, g)
				}
			}
		}
		if !slices.Equal(got, want) || len(last) != len(errant.Ranges()) {
			t.Fatalf("%q beside %q: ranges %q hold %v, want %v", ours.state(t), source.state(t), errant, got, want)
		}
		var listed []gtid.GTID
		for _, in := range errant.Narrow(ours.all(), true).Ranges() {
			for n := in.From + 1; n <= in.To; n++ {
				listed = append(listed, gtid.GTID{Domain: in.Domain, Server: in.Server, Sequence: n})
			}
		}
		slices.SortFunc(want, func(g, h gtid.GTID) int {
			return strings.Compare(fmt.Sprintf("%d-%d-%9d", g.Domain, g.Server, g.Sequence), fmt.Sprintf("%d-%d-%9d", h.Domain, h.Server, h.Sequence))
		})
		if !slices.Equal(listed, want) {
			t.Fatalf("narrowed to %v, want %v", listed, want)
		}
	}
}
