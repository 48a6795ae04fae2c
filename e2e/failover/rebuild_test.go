//go:build failover

package failover

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
)

// annotation is the Lease's record as it stands; annotate puts another one in its place, empty for
// none.
func (f *fixture) annotation(ctx context.Context) string {
	f.t.Helper()
	var lease struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(f.must(f.api.Do(ctx, http.MethodGet, leases+"/db", "", ""))), &lease); err != nil {
		f.t.Fatal(err)
	}
	return lease.Metadata.Annotations["understudy/term"]
}

// older is a record from before the last change of the acknowledgers, of the same term.
func (f *fixture) older(ctx context.Context) string {
	f.t.Helper()
	var r map[string]any
	if err := json.Unmarshal([]byte(f.annotation(ctx)), &r); err != nil {
		f.t.Fatal(err)
	}
	naming, _ := r["naming"].(float64)
	named, _ := r["acknowledgers"].([]any)
	r["naming"], r["acknowledgers"] = naming-1, named[:1]
	text, err := json.Marshal(r)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(text)
}

func (f *fixture) annotate(ctx context.Context, text string) {
	f.t.Helper()
	var value any
	if text != "" {
		value = text
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{"understudy/term": value}}})
	if err != nil {
		f.t.Fatal(err)
	}
	f.must(f.api.Do(ctx, http.MethodPatch, leases+"/db", "application/merge-patch+json", string(patch)))
}

// The Lease loses its record, or comes back from an old copy. A leader that leads writes it again.
// Without one, all members have to report: with one missing nobody opens, and the others say for whom
// they wait.
func TestLeaseLost(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, false, "--semi-sync=required", "--fence=sidecar")
	w, stop := f.begin(ctx)
	before := f.named(ctx, 2)
	first := f.annotation(ctx)

	for what, lose := range map[string]func(){
		"its record is deleted":   func() { f.annotate(ctx, "") },
		"an old copy is restored": func() { f.annotate(ctx, f.older(ctx)) },
		"it is deleted": func() {
			f.must(f.api.Do(ctx, http.MethodDelete, leases+"/db", "", ""))
			f.must(f.api.Do(ctx, http.MethodPost, leases, "application/json", `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"db"}}`))
		},
	} {
		r := f.lease(ctx)
		lose()
		f.await(ctx, what+": a leader that leads goes on", func() (bool, string) {
			now := f.lease(ctx)
			return now.Phase == "opened" && now.Term == r.Term && now.Holder == r.Holder && len(now.Acknowledgers) == 2, f.annotation(ctx)
		})
		w.more(ctx, 20)
	}

	for _, lost := range []struct {
		what string
		text func() string
	}{
		{"a copy of the same term is restored", func() string { return f.older(ctx) }},
		{"its record is deleted", func() string { return "" }},
		{"a copy of an older term is restored", func() string { return first }},
	} {
		r := f.named(ctx, 2)
		text := lost.text()
		old := f.byName(r.Holder)
		w.more(ctx, 20)
		old.KillSidecar()
		old.Server.Kill()
		f.annotate(ctx, text)
		for _, m := range f.without(old) {
			f.await(ctx, lost.what+": "+m.Name()+" says for whom it waits", func() (bool, string) {
				_, body, err := m.Get(ctx, "/readyz")
				return strings.Contains(body, "it waits for "+old.Name()), body + errText(err)
			})
		}
		time.Sleep(8 * time.Second) // longer than an election takes
		if now := f.annotation(ctx); now != text {
			t.Errorf("%s, and a member is missing: the Lease says %q", lost.what, now)
		}
		f.up(ctx, old)
		f.moved(ctx, r)
		w.more(ctx, 20)
		f.rejoin(ctx, old)
	}
	if now := f.lease(ctx); now.Term <= before.Term {
		t.Errorf("%+v", now)
	}
	stop()
	f.check(ctx, w)
}

func (f *fixture) without(m *set.Member) (all []*set.Member) {
	for i := range f.n {
		if f.Member(i) != m {
			all = append(all, f.Member(i))
		}
	}
	return all
}
