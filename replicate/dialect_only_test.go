package replicate

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// begins is how SQL begins, and goes on, in this package. Texts for people that name a statement
// begin with other words.
var begins = regexp.MustCompile(`^\s*(SELECT|SHOW|SET|RESET|START|STOP|CHANGE|CREATE|ALTER|DROP|GRANT|REVOKE|FLUSH|PURGE|BACKUP|LOCK|DO|CALL|UPDATE|INSERT|DELETE|REPLACE) |\b(FROM|WHERE|UNION|JOIN)\b`)

// All SQL is in the files dialect*.go: elsewhere no literal looks like a statement, and none is
// made into one or handed to a server.
func TestSQLIsInTheDialect(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, e := range entries {
		name := e.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "dialect") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			for _, text := range literals(n) {
				seen++
				if statementOf(n) || begins.MatchString(text) {
					t.Errorf("%s: the SQL %q belongs to dialect*.go", fset.Position(n.Pos()), text)
				}
			}
			return true
		})
	}
	if seen == 0 {
		t.Error("no literal was seen")
	}
}

// literals are the texts that a node has directly, or that are made a statement by it.
func literals(n ast.Node) (texts []string) {
	if !statementOf(n) {
		if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING {
			value, _ := strconv.Unquote(text.Value)
			return []string{value}
		}
		return nil
	}
	ast.Inspect(n, func(part ast.Node) bool {
		if _, nested := part.(*ast.FuncLit); nested {
			return false
		}
		if text, ok := part.(*ast.BasicLit); ok && text.Kind == token.STRING {
			texts = append(texts, text.Value)
		}
		return true
	})
	return texts
}

// statementOf reports whether a node makes a statement, or hands a text to a server.
func statementOf(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CompositeLit:
		of := n.Type
		if list, ok := of.(*ast.ArrayType); ok {
			of = list.Elt
		}
		name, ok := of.(*ast.Ident)
		return ok && name.Name == "statement"
	case *ast.CallExpr:
		name := ""
		switch fun := n.Fun.(type) {
		case *ast.Ident:
			name = fun.Name
		case *ast.SelectorExpr:
			name = fun.Sel.Name
		}
		return slices.Contains([]string{"QueryContext", "QueryRowContext", "ExecContext", "execute", "readRows"}, name)
	}
	return false
}
