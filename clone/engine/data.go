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
	// measureTimeout bounds the look at the files: they can be many, on a slow volume.
	measureTimeout = 10 * time.Minute
	// blockBytes is what a file's last block can waste on the joiner's file system.
	blockBytes = 4 << 10
	// toolFiles is how many files the tool adds: its settings, coordinates and checkpoints.
	toolFiles = 8
	// rocksDir is where RocksDB keeps its files unless it is told otherwise.
	rocksDir = "#rocksdb"
	// redoDir is where MySQL 8.0.30 and later keeps its redo log.
	redoDir = "#innodb_redo"
	// serverBytes is what a server adds at its first start: its temporary tablespace, and an Aria
	// log.
	serverBytes = 32 << 20
)

// Data is what a backup of a data directory amounts to.
type Data struct {
	// FileBytes are those of the files that a backup streams, without the redo log.
	FileBytes int64
	// Files is the number of files and directories of the copy.
	Files int64
	// Tablespaces are those of the files that are InnoDB's.
	Tablespaces int64
	// RedoBytes is the capacity of the server's redo log.
	RedoBytes int64
	// CheckpointAge is how much of the redo log a backup that begins now has to copy at
	// least, in bytes. Only the server knows it; 0 when it was not asked.
	CheckpointAge int64
	// Elsewhere are sentences about tables whose data lie outside of the directory.
	Elsewhere []string
}

// StreamBytes estimates the length of the xbstream: the files, and the redo log from
// the last checkpoint on. What the server writes during the backup comes on top. It is
// 0 when nothing was measured.
func (d Data) StreamBytes() int64 {
	if d.Files == 0 {
		return 0
	}
	return d.FileBytes + d.CheckpointAge
}

// NeededBytes is what a joiner's volume must have room for until its server runs:
//
//	the files, each of which can waste a block
//	+ once the redo log: first what the tool copied of it, then, in its place, the server's own
//	+ once more: so much can the files grow when the copied redo is applied to them
//	+ what the server adds when it starts
//
// A backup during which more redo is written than the log holds can need more. It is 0
// when nothing was measured.
func (d Data) NeededBytes() int64 {
	if d.Files == 0 {
		return 0
	}
	return d.FileBytes + blockBytes*d.Files + 2*d.RedoBytes + serverBytes
}

// MeasureData looks through the server's data directory. A directory that is not there
// has no data. The redo log counts with the size of its files.
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

// add counts one entry of the data directory dir.
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

// extensions are those of the files that the tool takes from the schemas' directories.
var extensions = []string{
	".ibd", ".isl", ".sdi", ".frm", ".par", ".opt", ".TRG", ".TRN", ".MYD", ".MYI", ".MAD", ".MAI", ".MRG", ".ARM", ".ARZ", ".CSM", ".CSV",
}

// streamed tells whether the tool takes a file: system tablespaces, MySQL's others and
// Aria's log from the directory itself, all of RocksDB's, and the files of the schemas'
// tables.
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

// addSystem counts the files of the system tablespace in dir whose names do not tell what they
// are.
func (d *Data) addSystem(dir, layout string) {
	for _, name := range volume.DataFiles(layout) {
		info, err := os.Lstat(absolute(name, dir))
		if err == nil && filepath.Base(name) == name && !streamed(name) && d.Files > 0 {
			d.FileBytes += info.Size()
			d.Files++
		}
	}
}

// addLink takes note of a symbolic link that leaves the directory: that is what DATA
// DIRECTORY and INDEX DIRECTORY are for MyISAM and Aria, and what people make by hand
// of schemas and logs. A schema's name has no dot here, where it would be encoded; what
// has one and is not streamed, an error log for instance, may lie where it wants.
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

// addPointer takes note of an InnoDB table with a DATA DIRECTORY: a file beside its
// definition names the tablespace, which never is where the server would look by itself.
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

// subject says whose file it is: a table's, or nobody's that is known.
func subject(name string) string {
	schema, file, found := strings.Cut(name, "/")
	if !found || strings.Contains(file, "/") {
		return "the file " + name
	}
	table, _, _ := strings.Cut(strings.TrimSuffix(file, filepath.Ext(file)), "#") // what follows names a partition
	return "the table " + fromFilename(schema) + "." + fromFilename(table) + " (" + file + ")"
}

// fromFilename undoes the server's encoding of names as file names, as far as it has
// four hexadecimal digits for a character.
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
