package volume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// BinlogBasename finds what log_bin has to be so that a server on a data directory goes on
// with the binary logs that are there. It is empty when there are none; of several, those
// written last count, except the indexes that are named, which are others'. It has a
// directory where the logs are listed here and lie elsewhere.
func BinlogBasename(dir string, but ...string) (string, error) {
	index, last, err := binlogs(dir, but...)
	if err != nil || index == "" {
		return "", err
	}
	if !binlogName.MatchString(last) {
		return strings.TrimSuffix(index, ".index"), nil
	}
	name := strings.TrimSuffix(last, path.Ext(last))
	if _, err := os.Stat(filepath.Join(dir, path.Base(last))); err == nil || !elsewhere(last) {
		name = path.Base(name)
	}
	return name, nil
}

// binlogs are the name of the index that was written last, except those that are named, and the log
// that it lists last. Both are empty where there is none.
func binlogs(dir string, but ...string) (index, last string, err error) {
	indexes, err := filepath.Glob(filepath.Join(dir, "*.index"))
	if err != nil {
		return "", "", fmt.Errorf("look for binary logs: %w", err)
	}
	others := map[string]bool{}
	for _, name := range but {
		others[name] = true
	}
	var newest fs.FileInfo
	for _, path := range indexes {
		if others[filepath.Base(path)] || strings.Contains(filepath.Base(path), "relay") {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", "", fmt.Errorf("look for binary logs: %w", err)
		}
		if newest == nil || info.ModTime().After(newest.ModTime()) {
			newest = info
		}
	}
	if newest == nil {
		return "", "", nil
	}
	text, err := os.ReadFile(filepath.Join(dir, newest.Name()))
	if err != nil {
		return "", "", fmt.Errorf("look for binary logs: %w", err)
	}
	if lines := strings.Fields(string(text)); len(lines) > 0 {
		last = lines[len(lines)-1]
	}
	return newest.Name(), last, nil
}

// binlogName is the name of a binary log, with or without a directory.
var binlogName = regexp.MustCompile(`^[[:print:]]+\.[0-9]{6,}$`)

// elsewhere reports whether a binary log's name has another directory than the server's own.
func elsewhere(name string) bool { return path.Dir(name) != "." }

// The places, within a page, of what InnoDB knows of the binary log: in MariaDB's rollback
// segments since 10.3. The page with the list of these segments is always the same.
//
// https://github.com/MariaDB/server/blob/10.11/storage/innobase/include/trx0rseg.h
// https://github.com/MariaDB/server/blob/10.11/storage/innobase/include/trx0sys.h
// https://github.com/MariaDB/server/blob/10.11/storage/innobase/include/fsp0types.h
const (
	pageSpace      = 34 // of the page's header: the number of its tablespace
	spaceFlags     = 54 // on the first page
	listPage       = 5
	listSegments   = 56
	segments       = 128
	segmentSlots   = 38 + 34 // followed by 4 bytes for each slot, of which a page has an n-th of its bytes
	slotDivisor    = 16
	segmentBinlog  = 16 // behind the slots
	maxBinlogName  = 512
	maxUndoSpaces  = 127
	systemSpace    = "ibdata1"
	undoSpaceNames = "undo[0-9][0-9][0-9]"
)

// BinlogElsewhere is the name of the binary log in which a MariaDB server on the directory has last
// logged a commit, if that log was in another directory; empty if it was not, or if nothing can be
// told. InnoDB keeps it for the sake of crash recovery. The directory must not be in use.
func BinlogElsewhere(dir string) (string, error) {
	spaces, size, err := openSpaces(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for the place of the binary logs: %w", err)
	}
	defer func() {
		for _, f := range spaces {
			_ = f.Close()
		}
	}()
	list := make([]byte, size)
	if _, err := spaces[0].ReadAt(list, listPage*size); err != nil {
		return "", nil // a file this short tells nothing
	}
	last := ""
	for i := range segments {
		slot := list[listSegments+8*i:]
		f := spaces[binary.BigEndian.Uint32(slot)]
		if f == nil { // none is there, or its tablespace is not
			continue
		}
		name := make([]byte, maxBinlogName)
		at := int64(binary.BigEndian.Uint32(slot[4:]))*size + segmentSlots + 4*(size/slotDivisor) + segmentBinlog
		if _, err := f.ReadAt(name, at); err != nil {
			continue
		}
		name, _, _ = bytes.Cut(name, []byte{0})
		if text := string(name); binlogName.MatchString(text) && text > last {
			last = text
		}
	}
	if !elsewhere(last) {
		return "", nil
	}
	return last, nil
}

// openSpaces opens the tablespaces that have rollback segments, by number, and finds out the
// size of their pages in bytes.
func openSpaces(dir string) (spaces map[uint32]*os.File, size int64, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, undoSpaceNames))
	if err != nil {
		return nil, 0, err
	}
	spaces = map[uint32]*os.File{}
	defer func() {
		if err != nil {
			for _, f := range spaces {
				_ = f.Close()
			}
		}
	}()
	for _, name := range append([]string{filepath.Join(dir, systemSpace)}, paths[:min(len(paths), maxUndoSpaces)]...) {
		f, err := os.Open(name)
		if err != nil {
			return spaces, 0, err
		}
		header := make([]byte, spaceFlags+4)
		if _, err := f.ReadAt(header, 0); err != nil {
			return spaces, 0, errors.Join(err, f.Close())
		}
		id := binary.BigEndian.Uint32(header[pageSpace:])
		if filepath.Base(name) == systemSpace {
			id, size = 0, pageSize(binary.BigEndian.Uint32(header[spaceFlags:]))
		}
		spaces[id] = f
	}
	return spaces, size, nil
}

// pageSize reads it from a tablespace's flags, which come in two formats.
func pageSize(flags uint32) int64 {
	const newFormat, standard = 0x10, 5
	exponent := flags >> 6 & 0xF
	if flags&newFormat != 0 {
		exponent = flags & 0xF
	}
	if exponent < 3 || exponent > 7 {
		exponent = standard
	}
	return 512 << exponent
}
