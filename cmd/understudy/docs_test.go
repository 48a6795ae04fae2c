package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"understudy/cmd/understudy/internal/member"
)

// markdown lists the Markdown files that users and maintainers read.
func markdown(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "clone/*.md", "manifests/*/*.md"} {
		found, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if len(all) < 10 {
		t.Fatalf("found only %q", all)
	}
	return all
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fenced  = regexp.MustCompile("(?ms)^```.*?^```")
	// flagText is a flag as documents write it: in backticks, or after "understudy VERB".
	flagText = regexp.MustCompile("`(--[a-z][a-z0-9-]*)")
	// pathText is a file or directory of the repository in backticks.
	pathText = regexp.MustCompile("`((?:cmd|clone|replicate|k8s|manifests|e2e|docs)/[A-Za-z0-9_./-]*)`")
)

// anchor is what GitHub makes of a heading.
func anchor(text string) string {
	keep := func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z':
			return r
		}
		return -1
	}
	return strings.Map(keep, strings.ToLower(text))
}

// TestLinks: every relative link leads to a file that is there, and to one of its headings.
func TestLinks(t *testing.T) {
	anchors := func(path string) []string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
			all = append(all, anchor(m[1]))
		}
		return all
	}
	for _, path := range markdown(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, fragment, _ := strings.Cut(m[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: link to %s: %v", path, m[1], err)
			} else if fragment != "" && !slices.Contains(anchors(target), fragment) {
				t.Errorf("%s: link to %s: there is no such heading", path, m[1])
			}
		}
	}
}

// foreignFlags are named in documents and belong to other programs.
var foreignFlags = []string{
	"--build-arg", "--lock-ddl", "--init-rpl-role", "--cascade", "--slave-info", "--copy-back", "--parallel", "--tc-heuristic-recover",
	"--verbose", "--initialize-insecure", "--skip-networking", "--connect", "--innodb", "--replication", "--move-back",
}

// TestNamesInDocuments: a flag or a path that a document names exists.
func TestNamesInDocuments(t *testing.T) {
	known := map[string]bool{"--help": true, "--version": true}
	for _, name := range foreignFlags {
		known[name] = true
	}
	for _, name := range verbs {
		f := newFlagSet(name, io.Discard)
		newVerb(name).define(f)
		f.VisitAll(func(flag *pflag.Flag) { known["--"+flag.Name] = true })
	}
	for _, path := range markdown(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range flagText.FindAllStringSubmatch(string(text), -1) {
			if !known[m[1]] {
				t.Errorf("%s names the flag %s, which no command has", path, m[1])
			}
		}
		for _, m := range pathText.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join("../..", m[1])); err != nil {
				t.Errorf("%s names the file %s: %v", path, m[1], err)
			}
		}
	}
}

// TestEventsInTroubleshooting: who sees an Event finds there what to do.
func TestEventsInTroubleshooting(t *testing.T) {
	text, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range member.Reasons {
		if !strings.Contains(string(text), "`"+reason.Name+"`") {
			t.Errorf("docs/troubleshooting.md does not say what to do about the Event %s", reason.Name)
		}
	}
}

// readyzText is a line of the reference's list of what /readyz says, for the steps after which a
// person has to act.
var readyzText = regexp.MustCompile(`(?m)^\| (.*) \| re(?:port|seed) \|$`)

// TestReadyzInTroubleshooting: each text that asks for manual action is found there by its first
// clause that is constant.
func TestReadyzInTroubleshooting(t *testing.T) {
	reference, err := os.ReadFile("../../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	help, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := readyzText.FindAllStringSubmatch(string(reference), -1)
	if len(texts) < 20 {
		t.Fatalf("found only %d texts in the reference", len(texts))
	}
	for _, m := range texts {
		for _, words := range strings.FieldsFunc(m[1], func(r rune) bool { return strings.ContainsRune("…:;,()", r) }) {
			if words = strings.TrimSpace(words); len(words) >= len("as --flavor says") {
				if !strings.Contains(string(help), words) {
					t.Errorf("docs/troubleshooting.md does not have %q of the text %q", words, m[1])
				}
				break
			}
		}
	}
}
