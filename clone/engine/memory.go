package engine

import (
	"bufio"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

const (
	minPrepareMemory = 64 << 20
	maxPrepareMemory = 8 << 30
	// freePrepareMemory is used without a limit and without a known amount of free memory.
	freePrepareMemory = 512 << 20
)

// PrepareMemory is what Prepare may use, in bytes: 40 % of the memory limit of the container or of
// the pod, whichever is lower, since the tool needs more than its buffer pool. Without a limit it
// is a quarter of the machine's available memory. root is the machine's file tree, "/" outside of
// tests.
//
// A pod may have a limit without its containers having one (Kubernetes from 1.32 on). cgroup v1
// shows the limits of the groups above. A namespace of cgroup v2 hides them; then the result is at
// most freePrepareMemory.
//
// https://kubernetes.io/docs/tasks/configure-pod-container/assign-pod-level-resources/
func PrepareMemory(root fs.FS) int64 {
	limit, hidden := memoryLimit(root)
	if limit > 0 {
		return min(max(limit*2/5, minPrepareMemory), maxPrepareMemory)
	}
	memory := int64(freePrepareMemory)
	if available := memAvailable(root); available > 0 {
		memory = min(max(available/4, minPrepareMemory), maxPrepareMemory)
	}
	if hidden {
		memory = min(memory, freePrepareMemory)
	}
	return memory
}

// memoryLimit is the visible limit of this process; 0: none. hidden says that groups above may have
// a lower one.
func memoryLimit(root fs.FS) (limit int64, hidden bool) {
	const (
		v2 = "sys/fs/cgroup"
		v1 = "sys/fs/cgroup/memory"
	)
	files := []string{path.Join(v2, "memory.max"), path.Join(v1, "memory.limit_in_bytes")}
	// Outside of a cgroup namespace the pod's group is above our own.
	above := func(top, group, file string) {
		for ; group != "/" && group != "."; group = path.Dir(group) {
			files = append(files, path.Join(top, group, file))
		}
	}
	text, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) != 3:
		case parts[1] == "":
			above(v2, parts[2], "memory.max")
			// The root group of the machine has no such file, so ours is the root of a namespace.
			_, err := fs.Stat(root, files[0])
			hidden = hidden || parts[2] == "/" && err == nil
		case slices.Contains(strings.Split(parts[1], ","), "memory"):
			above(v1, parts[2], "memory.limit_in_bytes")
		}
	}
	for _, name := range files {
		text, err := fs.ReadFile(root, name)
		if err == nil {
			limit = lower(limit, strings.TrimSpace(string(text)))
		}
	}
	// v1 shows a container only its own group, but this value is the lowest limit of all groups
	// above.
	text, _ = fs.ReadFile(root, path.Join(v1, "memory.stat"))
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key == "hierarchical_memory_limit" {
			limit = lower(limit, value)
		}
	}
	return limit, hidden
}

// lower applies a limit in bytes. "max" is none; in v1, a value near the maximum of the type is
// none.
func lower(limit int64, text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || n >= 1<<60 || limit != 0 && limit < n {
		return limit
	}
	return n
}

func memAvailable(root fs.FS) int64 {
	f, err := root.Open("proc/meminfo")
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 2 && fields[0] == "MemAvailable:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}
