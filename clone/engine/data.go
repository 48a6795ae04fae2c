package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"understudy/clone/volume"
)

const (
	// measureTimeout bounds the look at the files, which may be many and on a slow volume.
	measureTimeout = 10 * time.Minute
	// blockBytes is how much a file's last block can waste on the joiner's file system.
	blockBytes = 4 << 10
	// toolFiles is the number of files that the tool adds: its settings, coordinates and
	// checkpoints.
	toolFiles = 8
	// rocksDir is the default directory of RocksDB.
	rocksDir = "#rocksdb"
	// redoDir is the directory of the redo log from MySQL 8.0.30 on.
	redoDir = "#innodb_redo"
	// serverBytes is what a server adds at its first start: a temporary tablespace and an Aria log.
	serverBytes = 32 << 20
)

// Data are the sizes of a data directory for a backup.
type Data struct {
	// FileBytes is the size of the files that a backup streams, without the redo log.
	FileBytes int64
	// Files is the number of files and directories of the copy.
	Files int64
	// Tablespaces is the number of InnoDB's files among them.
	Tablespaces int64
	// RedoBytes is the capacity of the server's redo log.
	RedoBytes int64
	// CheckpointAge is how many bytes of redo a backup has to copy at least, as the server says; 0:
	// unknown.
	CheckpointAge int64
	// Elsewhere are sentences about tables whose data lie outside of the directory.
	Elsewhere []string
}

// StreamBytes is the estimated length of the xbstream: the files, and the redo log from the last
// checkpoint on. What the server writes during the backup comes on top. It is 0 when nothing was
// measured.
func (d Data) StreamBytes() int64 {
	if d.Files == 0 {
		return 0
	}
	return d.FileBytes + d.CheckpointAge
}

// NeededBytes is the room that a joiner's volume needs until its server runs:
//
//	the files, each of which can waste a block
//	+ once the redo log: first what the tool copied of it, then, in its place, the server's own
//	+ once more: so much can the files grow when the copied redo is applied to them
//	+ what the server adds when it starts
//
// A backup needs more when more redo is written meanwhile than the log holds. It is 0 when nothing
// was measured.
func (d Data) NeededBytes() int64 {
	if d.Files == 0 {
		return 0
	}
	return d.FileBytes + blockBytes*d.Files + 2*d.RedoBytes + serverBytes
}

// MeasureData measures a data directory. A missing directory has no data. The redo log counts with
// the size of its files.
//
// https://mariadb.com/kb/en/files-backed-up-by-mariabackup/
func MeasureData(ctx context.Context, dir string) (Data, error) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	d := Data{Files: toolFiles}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a table that was dropped meanwhile
		}
		name, _ := filepath.Rel(dir, path)
		if name == "lost+found" {
			return filepath.SkipDir
		}
		if err != nil {
			return err
		}
		d.add(dir, name, e)
		return nil
	})
	if err != nil {
		return Data{}, fmt.Errorf("measure the data directory: %w", err)
	}
	return d, nil
}

// add counts one entry of dir.
func (d *Data) add(dir, name string, e fs.DirEntry) {
	switch {
	case e.IsDir():
		d.Files++
		return
	case e.Type()&fs.ModeSymlink != 0:
		d.addLink(dir, name)
		return
	case !e.Type().IsRegular():
		return // a socket
	}
	info, err := e.Info()
	if err != nil {
		return // a table that was dropped meanwhile
	}
	switch {
	case strings.HasPrefix(name, "ib_logfile"), strings.HasPrefix(name, redoDir+"/"):
		d.RedoBytes += info.Size()
		d.Files++
		return
	case !streamed(name):
		return
	case strings.HasSuffix(name, ".isl"):
		d.addPointer(dir, name)
	}
	d.FileBytes += info.Size()
	d.Files++
	if base := filepath.Base(name); strings.HasPrefix(base, "ibdata") || strings.HasPrefix(base, "undo") || slices.Contains([]string{".ibd", ".ibu"}, filepath.Ext(base)) {
		d.Tablespaces++
	}
}

// extensions are those of the files that the tool copies from the schemas' directories.
var extensions = []string{
	".ibd", ".isl", ".sdi", ".frm", ".par", ".opt", ".TRG", ".TRN", ".MYD", ".MYI", ".MAD", ".MAI", ".MRG", ".ARM", ".ARZ", ".CSM", ".CSV",
}

// streamed says whether the tool copies a file: tablespaces and Aria's log in the directory itself,
// all of RocksDB, and the tables' files in the schemas.
func streamed(name string) bool {
	dir, _, below := strings.Cut(name, "/")
	switch {
	case !below:
		system := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		return slices.ContainsFunc([]string{"ibdata", "undo", "aria_log"}, system) || slices.Contains([]string{".ibd", ".ibu"}, filepath.Ext(name))
	case dir == rocksDir:
		return true
	}
	return slices.Contains(extensions, filepath.Ext(name))
}

// addSystem counts the files of the system tablespace in dir, which may have any name.
func (d *Data) addSystem(dir, layout string) {
	for _, name := range volume.DataFiles(layout) {
		info, err := os.Lstat(absolute(name, dir))
		if err == nil && filepath.Base(name) == name && !streamed(name) && d.Files > 0 {
			d.FileBytes += info.Size()
			d.Files++
		}
	}
}

// addLink notes a symbolic link that leaves the directory. DATA DIRECTORY and INDEX DIRECTORY make
// such links for MyISAM and Aria, and people make them for schemas and logs. A schema's directory
// has no dot in its name, which would be encoded. Other names with a dot that are not streamed,
// such as an error log, may lie anywhere.
func (d *Data) addLink(dir, name string) {
	if !streamed(name) && strings.ContainsAny(name, "./") {
		return
	}
	target, err := os.Readlink(filepath.Join(dir, name))
	if err != nil {
		return // a table that was dropped meanwhile
	}
	inside, err := filepath.Rel(dir, absolute(target, filepath.Dir(filepath.Join(dir, name))))
	if err == nil && filepath.IsLocal(inside) {
		return
	}
	d.Elsewhere = append(d.Elsewhere, fmt.Sprintf("%s is a symbolic link to %s, outside of the data directory", subject(name), target))
}

// addPointer notes an InnoDB table with a DATA DIRECTORY: a file beside its definition has the path
// of the tablespace.
//
// https://mariadb.com/kb/en/innodb-file-per-table-tablespaces/
func (d *Data) addPointer(dir, name string) {
	target, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return // a table that was dropped meanwhile
	}
	d.Elsewhere = append(d.Elsewhere, fmt.Sprintf("%s has its DATA DIRECTORY outside of the data directory: %s", subject(name), strings.TrimSpace(string(target))))
}

func absolute(path, base string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(base, path)
}

// subject names the table that a file belongs to, if that is known.
func subject(name string) string {
	schema, file, found := strings.Cut(name, "/")
	if !found || strings.Contains(file, "/") {
		return "the file " + name
	}
	table, _, _ := strings.Cut(strings.TrimSuffix(file, filepath.Ext(file)), "#") // what follows names a partition
	return "the table " + fromFilename(schema) + "." + fromFilename(table) + " (" + file + ")"
}

// fromFilename decodes a file name to the server's name, where a character is encoded with four
// hexadecimal digits.
//
// https://mariadb.com/kb/en/identifier-to-file-name-mapping/
func fromFilename(s string) string {
	return encoded.ReplaceAllStringFunc(s, func(m string) string {
		var r rune
		_, _ = fmt.Sscanf(m, "@%x", &r)
		return string(r)
	})
}

var encoded = regexp.MustCompile(`@[0-9a-f]{4}`)
