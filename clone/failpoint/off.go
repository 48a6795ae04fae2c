//go:build !failpoint

// Package failpoint lets the test build of the program die at a named instant.
// In the released binary Hit is empty.
package failpoint

// Hit marks an instant at which the test build can be made to die.
func Hit(string) {}
