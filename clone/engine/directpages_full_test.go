//go:build full

package engine

import (
	"fmt"
	"testing"
)

// All other sizes of pages.
func TestMySQLDirectPages(t *testing.T) {
	for _, kib := range []int{4, 8, 16, 32} {
		t.Run(fmt.Sprint(kib), func(t *testing.T) { copyOfPages(t, kib) })
	}
}
