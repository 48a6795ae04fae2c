// Package failpoint lets the test build of the program die at a named instant.
// In the released binary Hit is empty.
package failpoint
