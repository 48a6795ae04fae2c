package gtid_test

import (
	"fmt"
	"strings"
	"testing"
)

// bigText is a set of 10 servers with 1000 ranges each, as a long life with parallel appliers and
// gaps makes it: 130 kB.
func bigText(from int) string {
	var b strings.Builder
	for server := range 10 {
		if server > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, "%s%012d", u2[:24], server)
		for n := range 1000 {
			fmt.Fprintf(&b, ":%d-%d", from+10*n, from+10*n+5)
		}
	}
	return b.String()
}

func BenchmarkSet(b *testing.B) {
	text := bigText(1_000_000)
	s, other := set(b, text), set(b, bigText(1_000_003))
	for name, f := range map[string]func(){
		"parse":    func() { set(b, text) },
		"print":    func() { _ = s.String() },
		"union":    func() { s.Union(other) },
		"subtract": func() { s.Subtract(other) },
		"contains": func() { s.Contains(other) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}
