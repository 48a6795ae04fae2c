package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"understudy/clone"
	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"
	"understudy/replicate"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/reference.md instead of comparing it")

const referencePath = "../../docs/reference.md"

// TestReference holds docs/reference.md to the code: what stands between its markers is made here.
func TestReference(t *testing.T) {
	text, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for name, section := range map[string]string{
		"commands": referenceCommands(), "flags": referenceFlags(), "exit codes": "    " + strings.ReplaceAll(strings.TrimSpace(exitHelp), "\n", "\n    ") + "\n",
		"metrics": referenceMetrics(t), "events": referenceEvents(t), "readyz": referenceReadyz(t),
	} {
		want = replaceSection(t, want, name, section)
	}
	if *update {
		if err := os.WriteFile(referencePath, []byte(want), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
		return
	}
	if d := gocmp.Diff(want, string(text)); d != "" {
		t.Errorf("docs/reference.md is stale, run make docs:\n%s", d)
	}
}

func replaceSection(t *testing.T, text, name, section string) string {
	t.Helper()
	begin, end := "<!-- generated: "+name+" -->\n", "<!-- end of "+name+" -->"
	before, rest, ok := strings.Cut(text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("docs/reference.md has no section %q", name)
	}
	return before + begin + "\n" + section + "\n" + end + after
}

func referenceCommands() string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(usage), "\n", "\n    ") + "\n"
}

// referenceFlags lists every flag once for the commands for which it means the same.
func referenceFlags() string {
	type meaning struct{ name, def, kind, text, also string }
	of := map[meaning][]string{}
	for _, name := range verbs {
		f := newFlagSet(name, io.Discard)
		newVerb(name).define(f)
		f.VisitAll(func(flag *pflag.Flag) {
			kind, text := pflag.UnquoteUsage(flag)
			m := meaning{flag.Name, flag.DefValue, kind, text, f.also[flag.Name]}
			of[m] = append(of[m], name)
		})
	}
	all := slices.SortedFunc(maps.Keys(of), func(a, b meaning) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(of[a][0], of[b][0]))
	})
	var b strings.Builder
	b.WriteString("| flag | of | default | meaning |\n|---|---|---|---|\n")
	for _, m := range all {
		kind, def := m.kind, m.def
		if def != "" {
			def = "`" + def + "`"
		}
		if m.also != "" {
			def += " `$" + m.also + "`"
		}
		if kind != "" {
			kind = " " + kind
		}
		fmt.Fprintf(&b, "| `--%s%s` | %s | %s | %s |\n", m.name, kind, strings.Join(of[m], ", "), strings.TrimSpace(def), cell(m.text))
	}
	return b.String()
}

func cell(text string) string {
	return strings.NewReplacer("\n", " ", "|", `\|`, "<", "&lt;").Replace(text)
}

var description = regexp.MustCompile(`fqName: "(.*?)", help: "(.*?)"(?:, unit: ".*?")?, constLabels: \{.*?\}, variableLabels: \{(.*?)\}`)

func referenceMetrics(t *testing.T) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	h := member.NewHealth(registry, "v1")
	h.Watch(func() replicate.Status { return replicate.Status{} }, func() string { return "" }, wire.NewServer(nil, wire.ServerConfig{}))
	h.WatchLead(leadsTwo, nil)
	registry.MustRegister(member.Taking{Tracker: &clone.Tracker{}})
	descs := make(chan *prometheus.Desc, 100)
	registry.Describe(descs)
	close(descs)
	var lines []string
	for d := range descs {
		m := description.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read %s", d)
		}
		label := ""
		if m[3] != "" {
			label = "{" + m[3] + "}"
		}
		lines = append(lines, fmt.Sprintf("| `%s%s` | %s |\n", m[1], label, cell(m[2])))
	}
	slices.Sort(lines)
	return "| metric | meaning |\n|---|---|\n" + strings.Join(lines, "")
}
