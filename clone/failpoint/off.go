//go:build !failpoint

package failpoint

// Hit marks an instant at which the test build can be made to die.
func Hit(string) {}
