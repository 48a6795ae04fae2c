//go:build mutant

package guard

import "os"

var off = Guard(os.Getenv(Variable))

// Lacks says that a guard is switched off.
func Lacks(g Guard) bool { return g == off }
