package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	// gap stands for what a text takes from the server or the configuration.
	gap = "…"
	// stemLength is how much of a text the reference has.
	stemLength = 110
)

// texts are the declarations of a package from which texts are made.
type texts struct {
	all []*ast.FuncDecl
	// funcs are those with a name that no other has.
	funcs map[string]*ast.FuncDecl
	// values are by name, those of packages below by package and name.
	values map[string]ast.Expr
}

func parseTexts(t *testing.T, dir string) texts {
	t.Helper()
	all := texts{funcs: map[string]*ast.FuncDecl{}, values: map[string]ast.Expr{}}
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	below, err := filepath.Glob(filepath.Join(dir, "*", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Concat(paths, below) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		prefix := ""
		if filepath.Dir(path) != filepath.Clean(dir) {
			prefix = file.Name.Name + "."
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if prefix != "" {
					continue
				}
				all.all = append(all.all, d)
				_, again := all.funcs[d.Name.Name]
				if all.funcs[d.Name.Name] = d; again {
					all.funcs[d.Name.Name] = nil
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if v, ok := s.(*ast.ValueSpec); ok && len(v.Values) == 1 {
						all.values[prefix+v.Names[0].Name] = v.Values[0]
					}
				}
			}
		}
	}
	return all
}

var fmtVerb = regexp.MustCompile(`%[+#]?[0-9.]*[a-z]`)

// of are the texts that an expression in a function can have, with gaps.
func (x texts) of(in *ast.FuncDecl, e ast.Expr, depth int) []string {
	if text, ok := stringOf(e); ok {
		return []string{text}
	}
	if depth == 0 {
		return []string{gap}
	}
	switch e := e.(type) {
	case *ast.BinaryExpr:
		var all []string
		for _, left := range x.of(in, e.X, depth) {
			for _, right := range x.of(in, e.Y, depth) {
				all = append(all, left+right)
			}
		}
		return all
	case *ast.Ident:
		if value, ok := x.values[e.Name]; ok {
			return x.of(in, value, depth-1)
		}
		return x.assigned(in, e.Name, depth-1)
	case *ast.SelectorExpr:
		if pkg, ok := e.X.(*ast.Ident); ok && x.values[pkg.Name+"."+e.Sel.Name] != nil {
			return x.of(in, x.values[pkg.Name+"."+e.Sel.Name], depth-1)
		}
	case *ast.CallExpr:
		name := ""
		switch f := e.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			name = f.Sel.Name
		}
		if format, ok := stringOf(slices.Concat(e.Args, []ast.Expr{nil})[0]); ok && name == "Sprintf" {
			return []string{fmtVerb.ReplaceAllString(format, gap)}
		}
		if f := x.funcs[name]; f != nil {
			return x.returned(f, depth-1)
		}
	}
	return []string{gap}
}

// assigned are the texts that a function gives to a variable.
func (x texts) assigned(in *ast.FuncDecl, name string, depth int) []string {
	var all []string
	ast.Inspect(in.Body, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == 1 && a.Tok != token.ADD_ASSIGN {
			if v, ok := a.Lhs[0].(*ast.Ident); ok && v.Name == name {
				all = append(all, x.of(in, a.Rhs[0], depth)...)
			}
		}
		return true
	})
	if all == nil {
		return []string{gap}
	}
	return all
}

// returned are the texts that a function returns, as its first result of that type.
func (x texts) returned(f *ast.FuncDecl, depth int) []string {
	var all []string
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if r, ok := n.(*ast.ReturnStmt); ok && len(r.Results) == 1 {
			all = append(all, x.of(f, r.Results[0], depth)...)
		}
		return true
	})
	return all
}

// referenceReadyz lists how the texts of /readyz begin, which are the reasons of the agent's steps.
func referenceReadyz(t *testing.T) string {
	t.Helper()
	x := parseTexts(t, "../../replicate")
	rows := map[string]bool{}
	const depth = 3
	for _, f := range x.all {
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok || len(lit.Elts) != 2 {
				return true
			}
			if name, ok := lit.Type.(*ast.Ident); !ok || name.Name != "Action" {
				return true
			}
			step := "report"
			if id, ok := lit.Elts[0].(*ast.Ident); ok {
				step = strings.Join(x.of(f, id, 1), "")
			}
			for _, text := range x.of(f, lit.Elts[1], depth) {
				if text = stem(text); strings.Trim(text, gap+" :;,") != "" {
					rows[fmt.Sprintf("| %s | %s |\n", cell(text), step)] = true
				}
			}
			return true
		})
	}
	all := make([]string, 0, len(rows))
	for row := range rows {
		all = append(all, row)
	}
	slices.Sort(all)
	return "| text | step of the sidecar |\n|---|---|\n" + strings.Join(all, "")
}

// stem is the beginning of a text.
func stem(text string) string {
	for strings.Contains(text, gap+gap) {
		text = strings.ReplaceAll(text, gap+gap, gap)
	}
	if len(text) <= stemLength {
		return strings.TrimSpace(text)
	}
	at := strings.LastIndex(text[:stemLength], " ")
	return strings.TrimRight(text[:at], " ,;:"+gap) + " " + gap
}
