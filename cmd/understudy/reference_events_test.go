package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"understudy/cmd/understudy/internal/member"
)

// reasonCalls are the functions that make Events, with the place of the reason in their arguments.
var reasonCalls = map[string]int{"Event": 1, "event": 1, "tell": 1, "say": 2}

// referenceEvents lists the reasons of Events. Each one that the code names has to be in the list.
func referenceEvents(t *testing.T) string {
	t.Helper()
	listed := map[string]bool{}
	var b strings.Builder
	b.WriteString("| reason | by | sent when |\n|---|---|---|\n")
	for _, r := range member.Reasons {
		listed[r.Name] = true
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.Name, r.By, cell(r.When))
	}
	used := map[string]bool{}
	for _, dir := range []string{".", "internal/member", "../../clone", "../../k8s", "../../replicate/lead"} {
		for _, text := range literals(t, dir, reasonOf) {
			used[text] = true
			if !listed[text] {
				t.Errorf("%s makes Events of the reason %s, which member.Reasons does not list", dir, text)
			}
		}
	}
	for name := range listed {
		if !used[name] {
			t.Errorf("member.Reasons lists %s, which no code names", name)
		}
	}
	return b.String()
}

// reasonOf is the reason of an Event that n makes, or that a constant of the name Reason… has.
func reasonOf(n ast.Node) ast.Expr {
	switch n := n.(type) {
	case *ast.ValueSpec:
		if name := n.Names[0].Name; (strings.HasPrefix(name, "Reason") || name == "Recovered") && len(n.Values) == 1 {
			return n.Values[0]
		}
	case *ast.CallExpr:
		if f, ok := n.Fun.(*ast.SelectorExpr); ok {
			if at, ok := reasonCalls[f.Sel.Name]; ok && len(n.Args) > at {
				return n.Args[at]
			}
		}
	}
	return nil
}

// literals are the strings that pick finds in the files of a package.
func literals(t *testing.T, dir string, pick func(ast.Node) ast.Expr) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	var all []string
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if text, ok := stringOf(pick(n)); ok {
				all = append(all, text)
			}
			return true
		})
	}
	return all
}

// stringOf is the value of a string literal.
func stringOf(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(l.Value)
	return text, err == nil
}
