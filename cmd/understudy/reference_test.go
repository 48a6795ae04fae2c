package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"understudy/clone"
	"understudy/clone/wire"
	"understudy/replicate"

	"github.com/google/go-cmp/cmp"
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
		"metrics": referenceMetrics(t),
	} {
		want = replaceSection(t, want, name, section)
	}
	if *update {
		if err := os.WriteFile(referencePath, []byte(want), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want, string(text)); d != "" {
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

// referenceFlags lists every flag once, with the commands that have it.
func referenceFlags() string {
	type entry struct {
		flag  *pflag.Flag
		verbs []string
		also  string
	}
	all := map[string]*entry{}
	for _, name := range verbs {
		f := newFlagSet(name, io.Discard)
		newVerb(name).define(f)
		f.VisitAll(func(flag *pflag.Flag) {
			if all[flag.Name] == nil {
				all[flag.Name] = &entry{flag: flag, also: f.also[flag.Name]}
			}
			all[flag.Name].verbs = append(all[flag.Name].verbs, name)
		})
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString("| flag | of | default | meaning |\n|---|---|---|---|\n")
	for _, name := range names {
		e := all[name]
		kind, text := pflag.UnquoteUsage(e.flag)
		def := e.flag.DefValue
		if def != "" {
			def = "`" + def + "`"
		}
		if e.also != "" {
			def += " `$" + e.also + "`"
		}
		if kind != "" {
			kind = " " + kind
		}
		fmt.Fprintf(&b, "| `--%s%s` | %s | %s | %s |\n", name, kind, strings.Join(e.verbs, ", "), strings.TrimSpace(def), cell(text))
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
	h := newHealth(registry)
	h.watch(func() replicate.Status { return replicate.Status{} }, func() string { return "" }, wire.NewServer(nil, wire.ServerConfig{}))
	registry.MustRegister(taking{&clone.Tracker{}})
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
