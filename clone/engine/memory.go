package engine

import (
	"bufio"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

const (
	minPrepareMemory = 64 << 20
	maxPrepareMemory = 8 << 30
	// freePrepareMemory is used where nothing limits us and nothing tells what is free.
	freePrepareMemory = 512 << 20
)

// PrepareMemory picks what Prepare may use, in bytes: 40 % of the container's memory
// limit, since the tool needs more than its buffer pool; or, without a limit, a
// quarter of what the machine has available. root is the machine's file tree, "/"
// outside of tests. The limit is that of cgroup v2 or v1, whichever is lower.
func PrepareMemory(root fs.FS) int64 {
	if limit := memoryLimit(root); limit > 0 {
		return min(max(limit*2/5, minPrepareMemory), maxPrepareMemory)
	}
	if available := memAvailable(root); available > 0 {
		return min(max(available/4, minPrepareMemory), maxPrepareMemory)
	}
	return freePrepareMemory
}

// memoryLimit is 0 when nothing limits this process.
func memoryLimit(root fs.FS) int64 {
	const (
		v2 = "sys/fs/cgroup"
		v1 = "sys/fs/cgroup/memory"
	)
	files := []string{path.Join(v2, "memory.max"), path.Join(v1, "memory.limit_in_bytes")}
	// Outside of a cgroup namespace our own group lies deeper.
	text, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) != 3:
		case parts[1] == "":
			files = append(files, path.Join(v2, parts[2], "memory.max"))
		case parts[1] == "memory":
			files = append(files, path.Join(v1, parts[2], "memory.limit_in_bytes"))
		}
	}
	var limit int64
	for _, name := range files {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		// "max" does not parse; v1 says "no limit" with a number near the type's end.
		if err != nil || n <= 0 || n >= 1<<60 {
			continue
		}
		if limit == 0 || n < limit {
			limit = n
		}
	}
	return limit
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
