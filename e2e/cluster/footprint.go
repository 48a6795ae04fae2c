package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// footprint is what a cluster could leave on the machine, by kind; each a list of things, sorted.
type footprint map[string][]string

// takeFootprint inspects the machine itself. Network interfaces and the firewall, where names do
// not tell what is the cluster's, are listed as a whole.
func takeFootprint(ctx context.Context, p places) (footprint, error) {
	f := footprint{}
	for kind, command := range map[string]string{
		"network interface": "ip -o link show | cut -d: -f2",
		"route":             "ip route show table all",
		"firewall rule":     "nft list ruleset",
		"sysctl": "cd /proc/sys && for f in vm/overcommit_memory kernel/panic kernel/panic_on_oops net/ipv4/ip_forward " +
			"net/netfilter/nf_conntrack_max; do if [ -e $f ]; then echo $f $(cat $f); fi; done",
		"network namespace": "ip netns list",
	} {
		out, err := output(ctx, exec.CommandContext(ctx, "sh", "-c", command))
		if err != nil {
			return nil, fmt.Errorf("look for %ss: %w", kind, err)
		}
		f[kind] = strings.Split(out, "\n")
	}
	for kind, pattern := range map[string]string{
		"cgroup":      "/sys/fs/cgroup/" + p.cgroup,
		"cgroup (v1)": "/sys/fs/cgroup/*/" + p.cgroup,
		"file":        p.run,
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("look for %ss: %w", kind, err)
		}
		f[kind] = found
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, fmt.Errorf("look for mounts: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, p.run+"/") || strings.HasPrefix(line, "node ") {
			f["mount"] = append(f["mount"], line)
		}
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, fmt.Errorf("look for loop devices: %w", err)
	}
	for _, file := range backing {
		// It may go while we look.
		if name, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(name), p.run+"/") {
			f["loop device"] = append(f["loop device"], string(name))
		}
	}
	f["process"] = processes(p)
	for _, list := range f {
		slices.Sort(list)
	}
	return f, nil
}

// processes finds those of the cluster: those whose arguments name its state folder, as every
// component's do, and those in its pods. Other tests may run the same programs for themselves.
func processes(p places) []string {
	var found []string
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
	for _, dir := range dirs {
		// A process may end while we look, which is as good as not having been there.
		arguments, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		cgroups, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
		if strings.Contains(string(arguments), p.run+"/") || strings.Contains(string(cgroups), p.cgroup) {
			found = append(found, strings.TrimPrefix(dir, "/proc/")+" "+strings.ReplaceAll(string(arguments), "\x00", " "))
		}
	}
	return found
}

// differences lists what is only in f or only in after.
func (f footprint) differences(after footprint) []string {
	var found []string
	for kind, list := range after {
		for _, thing := range list {
			if !slices.Contains(f[kind], thing) {
				found = append(found, fmt.Sprintf("new %s: %s", kind, thing))
			}
		}
	}
	for kind, list := range f {
		for _, thing := range list {
			if !slices.Contains(after[kind], thing) {
				found = append(found, fmt.Sprintf("missing %s: %s", kind, thing))
			}
		}
	}
	slices.Sort(found)
	return found
}
