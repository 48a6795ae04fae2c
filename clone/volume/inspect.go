package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// Content is what a directory's files make it.
type Content string

const (
	// Empty is a directory with nothing in it; lost+found counts as nothing.
	Empty Content = "empty"
	// Server is a data directory that a server has run on.
	Server Content = "server directory"
	// Copy is a copy that a backup tool has prepared, with all of the tool's files, and that no
	// server has run on.
	Copy Content = "prepared copy"
	// Restored is what a backup tool's --copy-back leaves, before a server has run on it. Whether it
	// came to its end does not show.
	Restored Content = "restored copy"
	// Incomplete is a copy that was cut short, or never prepared.
	Incomplete Content = "incomplete copy"
	// Foreign is anything else: nothing in it is a server's.
	Foreign Content = "foreign"
)

// lostFound is what a file system keeps for its own repairs.
const lostFound = "lost+found"

// Live is what was seen in the live data directory.
type Live struct {
	Content Content
	// Names are a few of the entries, for messages.
	Names []string
	// Why says what makes the content what it is, for messages.
	Why string
}

// starts says whether a server would start on the directory.
func (l Live) starts() bool { return l.Content == Server || l.Content == Copy || l.Content == Restored }

// SnapshotInfo is what the engine clone leaves in a copy: both an info and a checkpoints
// file.
const SnapshotInfo = "understudy_clone_info"

// marks are the files that backup tools and the Kubernetes tutorial leave behind.
type marks struct {
	info, checkpoints, binlogInfo, slaveInfo string // paths, empty when absent
	logfile, changeIn, changeOrig            string
}

func findMarks(dir string) marks {
	find := func(names ...string) string {
		for _, n := range names {
			if info, err := os.Lstat(filepath.Join(dir, n)); err == nil && info.Mode().IsRegular() {
				return filepath.Join(dir, n)
			}
		}
		return ""
	}
	return marks{
		info:        find("mariadb_backup_info", "xtrabackup_info", SnapshotInfo),
		checkpoints: find("mariadb_backup_checkpoints", "xtrabackup_checkpoints", SnapshotInfo),
		binlogInfo:  find(origin.BinlogInfoNames...),
		slaveInfo:   find(origin.SlaveInfoNames...),
		logfile:     find("xtrabackup_logfile"),
		changeIn:    find("change_master_to.sql.in"),
		changeOrig:  find("change_master_to.sql.orig"),
	}
}

// InspectLive looks at the live data directory. Only names and the small files of
// backup tools are read.
func (v *Volume) InspectLive() (Live, error) { return Inspect(v.Live()) }

// Inspect looks at a data directory. A directory that does not exist is Empty.
func Inspect(dir string) (Live, error) {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Live{Content: Empty}, nil
	}
	if err != nil {
		return Live{}, fmt.Errorf("look at the data directory: %w", err)
	}
	if !info.IsDir() {
		return Live{Content: Foreign, Why: dir + " is not a directory"}, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Live{}, fmt.Errorf("list the data directory: %w", err)
	}
	l := Live{Content: Empty}
	for _, e := range entries {
		if e.Name() == lostFound {
			continue
		}
		if l.Content = Foreign; len(l.Names) < 8 {
			l.Names = append(l.Names, e.Name())
		}
	}
	if l.Content == Foreign {
		l.Content, l.Why, err = classify(dir, entries)
	}
	return l, err
}

// TypeBackup is the backup type of a copy that has yet to be prepared.
const TypeBackup = "full-backuped"

// preparedBy is the backup type of a copy that a server can start on, which depends on
// the tool's name in the info file. XtraBackup's log-applied is another matter: there
// it means that uncommitted transactions have not been rolled back yet.
func preparedBy(tool string) string {
	if strings.Contains(tool, "mariadb-backup") || strings.Contains(tool, "mariabackup") {
		return "log-applied"
	}
	return "full-prepared"
}

// BackupType reads backup_type from the checkpoints file of a copy. It is an error
// when the directory has none.
func BackupType(dir string) (string, error) {
	path := findMarks(dir).checkpoints
	if path == "" {
		return "", fmt.Errorf("%s holds no checkpoints file of a backup tool", dir)
	}
	return value(path, "backup_type")
}

// value is InfoValue of a file.
func value(path, key string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return InfoValue(string(text), key), nil
}

// InfoValue finds "key = value" in the text of an info or checkpoints file of a backup
// tool; it is empty without it.
func InfoValue(text, key string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, "="); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// Origin reads the replication coordinate that a backup tool, or the Kubernetes
// tutorial, left in a copy. It returns nil without an error when the copy says
// nothing about it, as after the tutorial has configured replication.
func Origin(dir string, f flavor.Flavor) (*origin.Origin, error) {
	m := findMarks(dir)
	changeIn, err := readText(m.changeIn)
	if err != nil {
		return nil, err
	}
	if changeIn != "" {
		// The tutorial moves the text of either info file here before it uses it, and
		// always replicates from the primary.
		return origin.FromInfo(f, changeIn, "")
	}
	if m.changeOrig != "" {
		return nil, nil //nolint:nilnil // nothing left to say, documented
	}
	slaveInfo, err := readText(m.slaveInfo)
	if err != nil {
		return nil, err
	}
	binlogInfo, err := readText(m.binlogInfo)
	if err != nil {
		return nil, err
	}
	info, err := readText(m.info)
	if err != nil {
		return nil, err
	}
	return ParseOrigin(f, info, slaveInfo, binlogInfo)
}

// AdoptedOrigin is Origin for a directory that is adopted. Where a server has run, it may have
// executed anything since, and tools leave their files as they are; only what the tutorial has yet
// to use, and then renames, still holds.
func AdoptedOrigin(dir string, content Content, f flavor.Flavor) (*origin.Origin, error) {
	if content == Server && findMarks(dir).changeIn == "" {
		return nil, nil //nolint:nilnil // documented
	}
	return Origin(dir, f)
}

// ParseOrigin reads the replication coordinate from the texts of the files that came with
// a copy, see origin.FromInfo. The engine clone has it in its info file, as JSON.
func ParseOrigin(f flavor.Flavor, info, slaveInfo, binlogInfo string) (*origin.Origin, error) {
	text := InfoValue(info, "origin")
	switch {
	case text == "" && slaveInfo == "" && binlogInfo == "":
		return origin.FromBackupInfo(f, info)
	case text == "":
		return origin.FromInfo(f, slaveInfo, binlogInfo)
	}
	var o origin.Origin
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return nil, fmt.Errorf("%w: the info file's origin: %w", origin.ErrMalformed, err)
	}
	return &o, nil
}

// readText reads a small file; without a path the text is empty.
func readText(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the replication coordinate: %w", err)
	}
	return string(text), nil
}
