package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// classify tells what a directory is that is not empty. Names alone do not tell a copy that
// was cut short from a server's directory: of mariadb-backup's stream the mysql schema comes
// first, ibdata1 and a redo log of the same name as the server's own long before the end.
// What tells is who wrote the redo log. Where it lies is a setting of the server, as is the
// name of the system tablespace.
//
//	a tool's info file        else                                         content
//	------------------------  -------------------------------------------  ----------
//	yes, and a checkpoints    prepared, the mysql schema, all tablespaces³ Copy
//	yes, and a checkpoints    anything else                                Incomplete
//	yes, restored¹            the mysql schema                             Copy
//	no, but other files of it anything                                     Incomplete
//	any                       its writer says that it has not ended⁴       Incomplete
//	no file of a tool         the mysql schema, and a server has run here² Server
//	no file of a tool         a server's, or of a server's copy            Incomplete
//	no file of a tool         nothing of a server                          Foreign
//
// ¹ --copy-back and --move-back, which only take what was prepared, leave out the checkpoints
// file and backup-my.cnf. In a stream both come before the info file. XtraBackup leaves out the
// redo log, too, which MySQL makes then.
//
// ² a redo log that a server wrote, or a file that each server makes when it starts and that
// no tool copies.
//
// ³ those of the system; a server that has run here has found its own.
//
// ⁴ see unfinished.
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
	restored := m.info != "" && m.checkpoints == "" && m.logfile == "" && !exists(backupConfig)
	switch schema, ran := exists("mysql") || exists("mysql.ibd"), slices.IndexFunc(serverFiles, exists); {
	case m == marks{} && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return ofServer(dir, e) }):
		return Foreign, "nothing in it is a server's", nil
	case !schema:
		return Incomplete, "the mysql schema is missing", nil
	case unfinished(exists) != "":
		return Incomplete, unfinished(exists), nil
	case m == marks{} && redo == redoServer:
		return Server, "it holds the mysql schema and a redo log that a server wrote", nil
	case m == marks{} && ran >= 0:
		return Server, "it holds the mysql schema and " + serverFiles[ran] + ", which a server made", nil
	case m == marks{}:
		return Incomplete, redo.why(), nil
	case m.info == "" || m.checkpoints == "" && !restored:
		return Incomplete, "a backup tool wrote it, but its info or checkpoints file is missing", nil
	case restored:
		return Copy, "it was restored from a prepared backup", nil
	case ran < 0 && MissingTablespace(dir) != "":
		return Incomplete, MissingTablespace(dir) + " is missing", nil
	}
	return classifyCopy(dir, m)
}

// cloneInProgress is there while MySQL's CLONE writes a directory: CLONE_INNODB_IN_PROGRESS_FILE
// in its sources. No server starts on such a directory.
const cloneInProgress = "#clone/#status_in_progress"

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

// redo says who wrote a directory's redo log.
type redo int

const (
	redoNone   redo = iota // it has none
	redoTool               // a backup tool, which leaves it to the prepare, and to the first server
	redoServer             // a server
)

// why says why a directory with such a redo log, and without any trace of a server, is
// incomplete.
func (r redo) why() string {
	if r == redoTool {
		return "its redo log is a backup tool's, and the tool's info file, which comes last, is missing"
	}
	return "it holds no redo log, so that no backup tool has prepared it and no server has run on it"
}

const (
	// redoFile is the redo log of MariaDB, and the first file of MySQL's before 8.0.30.
	redoFile = "ib_logfile0"
	// redoPattern are the files of MySQL's redo log since then.
	redoPattern = "#innodb_redo/#ib_redo*"
	// redoCreator is where a redo log says which program wrote it, and redoTools what the
	// backup tools say there: LOG_HEADER_CREATOR in the sources of all of them.
	redoCreator = 16
)

var redoTools = []string{"Backup ", "xtrabkup "}

// findRedo looks for the redo log. A file without a header was left by a tool: mariadb-backup
// before 10.8 empties it in its prepare, and mbstream makes it before it fills it.
func findRedo(dir string) (redo, error) {
	if files, err := filepath.Glob(filepath.Join(escapeGlob(dir), redoPattern)); err != nil || len(files) > 0 {
		return redoServer, err
	}
	f, err := os.Open(filepath.Join(dir, redoFile))
	if errors.Is(err, fs.ErrNotExist) {
		return redoNone, nil
	}
	if err != nil {
		return redoNone, fmt.Errorf("look at the redo log: %w", err)
	}
	defer func() { _ = f.Close() }()
	header := make([]byte, redoCreator+16)
	if _, err := io.ReadFull(f, header); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return redoTool, nil
	} else if err != nil {
		return redoNone, fmt.Errorf("look at the redo log: %w", err)
	}
	for _, name := range redoTools {
		if bytes.HasPrefix(header[redoCreator:], []byte(name)) {
			return redoTool, nil
		}
	}
	return redoServer, nil
}

// escapeGlob keeps a directory's name from being taken for a pattern.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// serverFiles are made by each server that starts, and copied by no tool: MySQL's identity,
// and MariaDB's list of sources and log of DDL.
var serverFiles = []string{"auto.cnf", "multi-master.info", "ddl_recovery.log", "ddl.log"}

// ofServer says whether an entry of the data directory dir can only be a server's, or its
// copy's. A copy that was cut has few of them.
func ofServer(dir string, e fs.DirEntry) bool {
	name := unpacked(e.Name())
	if e.IsDir() {
		return slices.Contains([]string{"mysql", "performance_schema", "sys", "#innodb_redo", "#innodb_temp", "#rocksdb"}, name) ||
			hasTables(filepath.Join(dir, name))
	}
	for _, prefix := range []string{"ibdata", "ib_logfile", "ib_buffer_pool", "undo", "aria_log", "xtrabackup_", "mariadb_backup_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return ofTable(name) || slices.Contains(serverFiles, name) || name == backupConfig
}

// unpacked is a name without what the tools add when they compress or encrypt the file.
func unpacked(name string) string {
	for _, suffix := range []string{".xbcrypt", ".qp", ".lz4", ".zst"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

// ofTable says whether a file is a table's, or its schema's.
func ofTable(name string) bool {
	extensions := []string{".ibd", ".ibu", ".frm", ".sdi", ".MYD", ".MYI", ".MAD", ".MAI", ".CSM", ".CSV"}
	return name == "db.opt" || slices.Contains(extensions, filepath.Ext(name))
}

// hasTables says whether dir is a schema's. Of many files a few tell.
func hasTables(dir string) bool {
	const few = 64
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer func() { _ = d.Close() }()
	names, _ := d.Readdirnames(few) // what cannot be read has no tables for us
	return slices.ContainsFunc(names, func(name string) bool { return ofTable(unpacked(name)) })
}
