package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
)

// A set that is scaled from one member to eight at once grows as a tree: new members become donors,
// so the primary gives some of the clones and not all. Not parallel: eight servers are enough for a
// small machine.
func TestTree(t *testing.T) {
	ctx, s := newSet(t, install(t), insecure)
	m0 := primary(ctx, t, s, 16<<20)
	_, finish := write(ctx, t, m0)
	const members = 8
	var replicas []*set.Member
	for ordinal := 1; ordinal < members; ordinal++ {
		replicas = append(replicas, s.Member(ordinal))
	}
	ended := make(chan error, len(replicas))
	begun := time.Now()
	for _, m := range replicas {
		go func() { ended <- m.Up(ctx) }()
	}
	// A member without data says so, and how far its clone is.
	await(ctx, t, replicas[6], "db-7 to be without data", func(f member) bool {
		return (f.Phase == "empty" || f.Phase == "cloning") && f.NoOffer != ""
	})
	for range replicas {
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d members in %v", members, time.Since(begun).Round(time.Second))
	parents := map[string]string{}
	for _, m := range replicas {
		j, err := m.Journal()
		if err != nil {
			t.Fatal(err)
		}
		parents[m.Name()] = j.Donor
		choice := chosen(t, m)
		t.Logf("%s cloned %s: %s", m.Name(), j.Donor, choice)
		if !strings.HasPrefix(choice, j.Donor+",") {
			t.Errorf("%s does not say why it cloned %s", m.Name(), j.Donor)
		}
	}
	given := map[string]int{}
	for child := range parents {
		given[parents[child]]++
	}
	t.Logf("clones given: %v", given)
	if given[m0.Name()] > members/2 {
		t.Errorf("the primary gave %d of %d clones", given[m0.Name()], members-1)
	}
	if len(given) < 3 {
		t.Errorf("only %d members gave clones: no tree", len(given))
	}
	finish(replicas...)
}

var choice = regexp.MustCompile(`"msg":"donor chosen".*"donor":"([^"]*)","reason":"([^"]*)","passed_over":(.*)}`)

// chosen is the donor that a member's init chose last, and why, from its log.
func chosen(t *testing.T, m *set.Member) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.Dir, "init.log"))
	if err != nil {
		t.Fatal(err)
	}
	all := choice.FindAllStringSubmatch(string(text), -1)
	if len(all) == 0 {
		return ""
	}
	last := all[len(all)-1]
	return fmt.Sprintf("%s, %s; passed over: %s", last[1], last[2], last[3])
}
