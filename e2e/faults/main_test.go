//go:build faults

package faults

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"understudy/e2e/set"
)

// program is the program under test, with the failpoints at which it can be made to die.
var program string

func TestMain(m *testing.M) {
	os.Exit(set.WithProgram(func(built string) int {
		program = built
		code := m.Run()
		if !total.close() {
			code = max(code, 1)
		}
		return code
	}, "-tags=failpoint"))
}

// outcome is how a clone ended.
type outcome int

const (
	complete outcome = iota
	resumed
	restarted
	refused
	nextRun
	outcomes
)

func (o outcome) String() string {
	return [...]string{"complete", "resumed", "restarted", "refused", "next run", "failed"}[o]
}

// account counts what happened; the tests add to it, and TestMain closes it.
type account struct {
	mu    sync.Mutex
	kinds []*kindAccount
	half  int // clones that were left in part, or taken for whole when they were not
	leaks int
}

type kindAccount struct {
	part    int // of the table
	name    string
	then    outcome
	minimum int
	faults  int
	ended   [outcomes]int
}

var total account

func (a *account) open(part int, name string, then outcome, minimum int) *kindAccount {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := &kindAccount{part: part, name: name, then: then, minimum: minimum}
	a.kinds = append(a.kinds, k)
	return k
}

func (a *account) add(k *kindAccount, o outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k.faults++
	if o < outcomes {
		k.ended[o]++
	}
}

func (a *account) halfClone() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.half++
}

func (a *account) leak() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leaks++
}

// close prints the table and says whether every minimum was reached.
func (a *account) close() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	ok, faults := a.half == 0 && a.leaks == 0, 0
	fmt.Printf("\n%-58s %6s", "kind of fault", "faults")
	for o := range outcomes {
		fmt.Printf(" %9s", o)
	}
	fmt.Printf("  %s\n%s\n", "required", strings.Repeat("-", 135))
	slices.SortStableFunc(a.kinds, func(x, y *kindAccount) int { return cmp.Compare(x.part, y.part) })
	for _, k := range a.kinds {
		fmt.Printf("%-58s %6d", k.name, k.faults)
		for _, n := range k.ended {
			fmt.Printf(" %9d", n)
		}
		short := ""
		if k.ended[k.then] < k.minimum {
			ok, short = false, "  TOO FEW"
		}
		fmt.Printf("  %d %s%s\n", k.minimum, k.then, short)
		faults += k.faults
	}
	if faults < 300 {
		ok = false
		fmt.Println("fewer than 300 faults")
	}
	fmt.Printf("\ne2e-clone: %d faults, %d half clones, %d leaks\n", faults, a.half, a.leaks)
	return ok
}
