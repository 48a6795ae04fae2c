//go:build failover

package failover

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// cuts are partitions on loopback. Each member's processes have a group id of their own: by that a
// connection gets a mark of who has opened it, as all have the same source address. So a packet
// tells whom it is from and to, and one way alone can be cut. Nobody else's packets match.
type cuts struct {
	t     *testing.T
	table string
	hosts []string // of the members, and then of the API server
}

const firstGroup = 52000

// cuttable has the members' processes bear their marks. None runs yet.
func (f *fixture) cuttable() *cuts {
	f.t.Helper()
	for _, program := range []string{"nft", "setpriv"} {
		if _, err := exec.LookPath(program); err != nil {
			f.t.Skipf("%v: make servers installs it", err)
		}
	}
	c := &cuts{t: f.t, table: fmt.Sprintf("understudy_e2e_%d", os.Getpid())}
	removeOld()
	text := fmt.Sprintf("table inet %s {\n chain cut { }\n chain out { type filter hook output priority 0\n", c.table)
	for i := range f.n {
		m := f.Member(i)
		group := firstGroup + i
		m.Before = []string{"setpriv", fmt.Sprintf("--regid=%d", group), "--clear-groups"}
		c.hosts = append(c.hosts, m.Host)
		var hosts []string
		for j := range f.n {
			hosts = append(hosts, f.Member(j).Host)
		}
		text += fmt.Sprintf("  meta skgid %d ct state new ip daddr { %s, %s } ct mark set %d\n", group, strings.Join(hosts, ", "), f.api.Host, c.mark(i))
	}
	c.hosts = append(c.hosts, f.api.Host)
	c.nft(text + "  jump cut\n }\n}\n")
	f.t.Cleanup(func() { c.nft("delete table inet " + c.table) })
	return c
}

// removeOld removes what tests that were killed have left.
func removeOld() {
	out, _ := exec.Command("nft", "list", "tables").Output() //nolint:noctx // it ends at once
	for line := range strings.Lines(string(out)) {
		name := strings.TrimPrefix(strings.TrimSpace(line), "table inet understudy_e2e_")
		if pid, err := strconv.Atoi(name); err == nil && syscall.Kill(pid, 0) != nil {
			_ = exec.Command("nft", "delete table inet understudy_e2e_"+name).Run() //nolint:noctx // as above
		}
	}
}

func (c *cuts) mark(i int) int { return os.Getpid()%1_000_000*16 + i + 1 }

func (c *cuts) nft(text string) {
	c.t.Helper()
	cmd := exec.Command("nft", "-f", "-") //nolint:noctx // as above
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("nft: %v: %s\n%s", err, out, text)
	}
}

// api is the API server's number, as members have theirs.
func (c *cuts) api() int { return len(c.hosts) - 1 }

// oneWay drops all packets from one to another.
func (c *cuts) oneWay(from, to int) {
	c.t.Helper()
	c.nft(fmt.Sprintf("add rule inet %[1]s cut ct mark %[2]d ct direction original ip daddr %[3]s drop\n"+
		"add rule inet %[1]s cut ct mark %[4]d ct direction reply ip saddr %[5]s drop\n",
		c.table, c.mark(from), c.hosts[to], c.mark(to), c.hosts[from]))
}

// pair cuts two off from one another.
func (c *cuts) pair(a, b int) {
	c.t.Helper()
	c.oneWay(a, b)
	c.oneWay(b, a)
}

// onlyServer heals all cuts but what members and one server exchange.
func (c *cuts) onlyServer(of int, members ...int) {
	c.t.Helper()
	text := fmt.Sprintf("flush chain inet %s cut\n", c.table)
	for _, i := range members {
		text += fmt.Sprintf("add rule inet %[1]s cut ct mark %[2]d ct direction original ip daddr %[3]s tcp dport 3306 drop\n"+
			"add rule inet %[1]s cut ct mark %[2]d ct direction reply ip saddr %[3]s tcp sport 3306 drop\n", c.table, c.mark(i), c.hosts[of])
	}
	c.nft(text)
}

// refused has members' connections to one server end, and new ones be refused.
func (c *cuts) refused(by int, members ...int) {
	c.t.Helper()
	for _, i := range members {
		c.nft(fmt.Sprintf("add rule inet %s cut ct mark %d ct direction original ip daddr %s tcp dport 3306 reject with tcp reset\n", c.table, c.mark(i), c.hosts[by]))
	}
}

// alone cuts a member off from all others and the API server. Clients reach it.
func (c *cuts) alone(i int) {
	c.t.Helper()
	for j := range c.hosts {
		if j != i {
			c.pair(i, j)
		}
	}
}

// heal ends all cuts.
func (c *cuts) heal() {
	c.t.Helper()
	c.nft(fmt.Sprintf("flush chain inet %s cut", c.table))
}
