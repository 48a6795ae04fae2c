package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// classify tells what a directory is that is not empty. Names alone do not tell a copy that
// was cut short from a server's directory: of mariadb-backup's stream the mysql schema comes
// first, ibdata1 and a redo log of the same name as the server's own long before the end.
// What tells is who wrote the redo log. Where it lies is a setting of the server, as is the
// name of the system tablespace.
//
//	                                         with the mysql schema
//	---------------------------------------  ----------------------------------------------
//	its writer says that it has not ended¹   Incomplete
//	a tool's copy that was not prepared      Incomplete
//	a server has run here²                   Server
//	a tool's info and checkpoints files      Copy if prepared, with all tablespaces; else Incomplete
//	its info file alone: restored³           Restored
//	other files of a tool                    Incomplete
//	CLONE wrote it, and has ended            Restored
//	anything else                            Incomplete
//
// Without the mysql schema a directory that has something of a server, or of a server's copy,
// is Incomplete, and any other Foreign.
//
// ¹ see unfinished.
//
// ² see hasRun.
//
// ³ --copy-back and --move-back, which only take what was prepared, leave out the checkpoints
// file and backup-my.cnf. In a stream both come before the info file. XtraBackup leaves out the
// redo log, too, which MySQL makes then.
func classify(dir string, entries []fs.DirEntry) (Content, string, error) {
	exists := func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return err == nil
	}
	redo, err := findRedo(dir)
	if err != nil {
		return "", "", err
	}
	m := findMarks(dir)
	unprepared, err := saysUnprepared(m)
	if err != nil {
		return "", "", err
	}
	restored := m.info != "" && m.checkpoints == "" && m.logfile == "" && !exists(backupConfig)
	switch schema, ran := exists("mysql") || exists("mysql.ibd"), hasRun(exists, m, redo); {
	case m == marks{} && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return ofServer(dir, e) }):
		return Foreign, "nothing in it is a server's", nil
	case !schema:
		return Incomplete, "the mysql schema is missing", nil
	case unfinished(exists) != "":
		return Incomplete, unfinished(exists), nil
	case unprepared:
		return Incomplete, "its checkpoints file says " + TypeBackup, nil
	case ran != "":
		return Server, "it holds the mysql schema and " + ran, nil
	case m == marks{} && redo == redoClone && exists(cloneStatus):
		return Restored, "MySQL's CLONE wrote it, and no server has run on it", nil
	case m == marks{}:
		return Incomplete, redo.why(), nil
	case restored:
		return Restored, "a tool restored it from a prepared backup, and no server has run on it", nil
	case m.info == "" || m.checkpoints == "":
		return Incomplete, "a backup tool wrote it, but its info or checkpoints file is missing", nil
	case MissingTablespace(dir) != "":
		return Incomplete, MissingTablespace(dir) + " is missing", nil
	}
	return classifyCopy(dir, m)
}

// hasRun says what shows that a server has run on a directory: a file that each makes when it
// starts and no tool copies, or its redo log. Beside a tool's files the redo log does not tell:
// XtraBackup's prepare writes one in the name of MySQL, and MariaDB's server itself has a part in
// ours, see engine. Empty: nothing does.
func hasRun(exists func(string) bool, m marks, redo redo) string {
	if i := slices.IndexFunc(serverFiles, exists); i >= 0 {
		return serverFiles[i] + ", which a server made"
	}
	if redo == redoServer && m == (marks{}) {
		return "a redo log that a server wrote"
	}
	return ""
}

// cloneInProgress is there while MySQL's CLONE writes a directory: CLONE_INNODB_IN_PROGRESS_FILE
// in its sources. No server starts on such a directory.
const cloneInProgress = "#clone/#status_in_progress"

// cloneStatus is where CLONE says how far it is, to its end: CLONE_VIEW_STATUS_FILE there.
const cloneStatus = "#clone/#view_status"

// unfinished says what shows that a server's image or its CLONE was interrupted while it wrote the
// directory; empty: nothing.
func unfinished(exists func(string) bool) string {
	switch {
	case exists(cloneInProgress):
		return cloneInProgress + " is there: CLONE was interrupted while it wrote the directory"
	case exists(begunMark) && !exists(endedMark):
		return begunMark + " is there, and " + endedMark + " is not: the server's image was interrupted while it made the directory"
	}
	return ""
}

// backupConfig is where the tools write the settings that say how a copy is laid out.
const backupConfig = "backup-my.cnf"

// MissingTablespace names a file of a copy's system tablespace that is not there; empty:
// none. The engines put them flat into the copy, wherever its server has them.
func MissingTablespace(dir string) string {
	for _, name := range DataFiles(layout(dir)) {
		if _, err := os.Lstat(filepath.Join(dir, filepath.Base(name))); err != nil {
			return filepath.Base(name)
		}
	}
	return ""
}

// layout is innodb_data_file_path as a copy says it, or else the server's default.
func layout(dir string) string {
	for _, name := range []string{backupConfig, SnapshotInfo} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if layout := InfoValue(string(text), LayoutKey); err == nil && layout != "" {
			return layout
		}
	}
	return "ibdata1"
}

// LayoutKey is the server's variable with the files of its system tablespace.
const LayoutKey = "innodb_data_file_path"

// DataFiles are the paths in the value of innodb_data_file_path: "a:12M;b:8M:autoextend".
func DataFiles(layout string) []string {
	var all []string
	for spec := range strings.SplitSeq(layout, ";") {
		if path, _, _ := strings.Cut(spec, ":"); path != "" {
			all = append(all, path)
		}
	}
	return all
}

// classifyCopy is classify for a copy with all files of its tool.
func classifyCopy(dir string, m marks) (Content, string, error) {
	backupType, err := BackupType(dir)
	if err != nil {
		return "", "", err
	}
	tool, err := value(m.info, "tool_name")
	if err != nil {
		return "", "", err
	}
	why := "its checkpoints file says " + backupType
	if backupType == preparedBy(tool) {
		return Copy, why, nil
	}
	return Incomplete, why, nil
}

// saysUnprepared says whether the checkpoints file is that of a copy which nobody has prepared. No
// server runs on such a copy, whatever else is in the directory.
func saysUnprepared(m marks) (bool, error) {
	if m.checkpoints == "" {
		return false, nil
	}
	backupType, err := value(m.checkpoints, "backup_type")
	return backupType == TypeBackup, err
}

// redo says who wrote a directory's redo log.
type redo int

const (
	redoNone   redo = iota // it has none
	redoNobody             // it has no header, or one that neither a server nor a tool writes
	redoTool               // a backup tool, which leaves it to the prepare, and to the first server
	redoClone              // CLONE, which leaves it to the first server
	redoServer             // a server
)

// why says why a directory with such a redo log, and without any trace of a server or a tool, is
// incomplete.
func (r redo) why() string {
	switch r {
	case redoTool, redoClone:
		return "its redo log is empty or a backup tool's, and the tool's info file, which comes last, is missing"
	case redoNobody:
		return "its redo log has no header, so that no server has used it"
	case redoNone, redoServer:
	}
	return "it holds no redo log, so that no backup tool has prepared it and no server has run on it"
}

const (
	// redoFile is the redo log of MariaDB, and the first file of MySQL's before 8.0.30.
	redoFile = "ib_logfile0"
	// redoPattern are the files of MySQL's redo log since then. Those it has in store end in _tmp.
	redoPattern = "#innodb_redo/#ib_redo*[0-9]"
	// redoCreator is where a redo log says which program wrote it: LOG_HEADER_CREATOR in the
	// sources of all of them.
	redoCreator = 16
)

// redoCreators are what programs say there. Before MySQL 5.7 and MariaDB 10.2 servers blank it.
var redoCreators = []struct {
	text string
	redo redo
}{
	{"Backup ", redoTool},
	{"xtrabkup ", redoTool},
	{"MySQL Clone", redoClone},
	{"MariaDB ", redoServer},
	{"MySQL ", redoServer},
	{"    ", redoServer},
}

// findRedo looks for the redo log, and of several files for one that a server wrote.
func findRedo(dir string) (redo, error) {
	paths, err := filepath.Glob(filepath.Join(escapeGlob(dir), redoPattern))
	if err != nil {
		return redoNone, fmt.Errorf("look at the redo log: %w", err)
	}
	found := redoNone
	for _, path := range append(paths, filepath.Join(dir, redoFile)) {
		one, err := redoWriter(path)
		if err != nil {
			return redoNone, fmt.Errorf("look at the redo log: %w", err)
		}
		found = max(found, one)
	}
	return found, nil
}

// redoWriter says who wrote a file of the redo log. An empty one was left by a tool: mariadb-backup
// before 10.8 empties it in its prepare, and mbstream makes it before it fills it.
func redoWriter(path string) (redo, error) {
	header, err := readHeader(path, redoCreator+16)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return redoNone, nil
	case errors.Is(err, io.EOF):
		return redoTool, nil
	case errors.Is(err, io.ErrUnexpectedEOF):
		return redoNobody, nil
	case err != nil:
		return redoNone, err
	}
	for _, c := range redoCreators {
		if bytes.HasPrefix(header[redoCreator:], []byte(c.text)) {
			return c.redo, nil
		}
	}
	return redoNobody, nil
}

// escapeGlob keeps a directory's name from being taken for a pattern.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// serverFiles are made by each server that starts, and copied by no tool: MySQL's identity and
// its key for passwords, and MariaDB's list of sources and log of DDL.
var serverFiles = []string{"auto.cnf", "private_key.pem", "multi-master.info", "ddl_recovery.log", "ddl.log"}

// serverNames are the files, beside those of tables, that only servers and their tools make.
var serverNames = regexp.MustCompile(`^(ibdata[0-9]+|ib_logfile[0-9]+|ib_buffer_pool|undo_?[0-9]{3}|aria_log_control|aria_log\.[0-9]+|(xtrabackup|mariadb_backup)_[a-z_]+)$`)

// ofServer says whether an entry of the data directory dir can only be a server's, or its
// copy's. A copy that was cut has few of them.
func ofServer(dir string, e fs.DirEntry) bool {
	name := unpacked(e.Name())
	if e.IsDir() {
		return slices.Contains([]string{"#innodb_redo", "#innodb_temp", "#rocksdb"}, name) ||
			hasTables(filepath.Join(dir, name), slices.Contains([]string{"mysql", "performance_schema", "sys"}, name))
	}
	return serverNames.MatchString(name) || ofTable(name) || slices.Contains(serverFiles, name) || name == backupConfig
}

// unpacked is a name without what the tools add when they compress or encrypt the file.
func unpacked(name string) string {
	for _, suffix := range []string{".xbcrypt", ".qp", ".lz4", ".zst"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

// ofTable says whether a file is a table's, or its schema's. A table of CSV has a file .CSM, too,
// and .CSV is what other programs write.
func ofTable(name string) bool {
	extensions := []string{".ibd", ".ibu", ".frm", ".sdi", ".MYD", ".MYI", ".MAD", ".MAI", ".CSM"}
	return name == "db.opt" || slices.Contains(extensions, filepath.Ext(name))
}

// hasTables says whether dir is a schema's, of which a few of many files tell. If it is empty, its
// name has told.
func hasTables(dir string, ifEmpty bool) bool {
	const few = 64
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer func() { _ = d.Close() }()
	names, _ := d.Readdirnames(few) // what cannot be read has no tables for us
	return len(names) == 0 && ifEmpty || slices.ContainsFunc(names, func(name string) bool { return ofTable(unpacked(name)) })
}
