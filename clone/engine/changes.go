package engine

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"understudy/clone/xbstream"
)

// changesName is the file of a direct clone that says what has to be done to the others before a
// server can start on them: bytes that replace others, files that were made, renamed or dropped
// while they were copied, and sizes. It is a row of records, in the order in which they are carried
// out; all integers are little-endian:
//
//	kind   1 byte
//	name   2 bytes of length, then so many bytes
//	write  offset (8), length (4), the bytes
//	size   the least size that the file has to have (8)
//	rename the new name, like the first one
//	end    the number of records before it (8), instead of a name
//
// Renames come last, and are carried out together: names may change places. No schema's directory
// has this name: in those a # is written otherwise.
//
// https://dev.mysql.com/doc/refman/8.4/en/identifier-mapping.html
const changesName = "#understudy_changes"

// The kinds of records.
const (
	changeWrite  = 1
	changeSize   = 2
	changeDelete = 3
	changeRename = 4
	changeEnd    = 9
)

// maxChange bounds the bytes of one write: the largest clone_buffer_size.
const maxChange = 256 << 20

var errChanges = errors.New("the file " + changesName + " is broken")

// changes writes records. Its methods may be called by several goroutines at once.
type changes struct {
	mu sync.Mutex
	w  io.WriteCloser
	n  uint64
}

func (c *changes) record(kind byte, name string, rest ...[]byte) error {
	b := appendName([]byte{kind}, name)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	_, err := c.w.Write(b)
	for _, r := range rest {
		if err == nil {
			_, err = c.w.Write(r)
		}
	}
	return err
}

// appendName needs a name that xbstream.CleanPath lets pass.
func appendName(b []byte, name string) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(len(name))) //nolint:gosec // xbstream.MaxPath
	return append(b, name...)
}

func (c *changes) write(name string, offset int64, data []byte) error {
	b := binary.LittleEndian.AppendUint64(nil, uint64(offset)) //nolint:gosec // never negative
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data))) //nolint:gosec // maxChange
	return c.record(changeWrite, name, b, data)
}

func (c *changes) size(name string, size int64) error {
	return c.record(changeSize, name, binary.LittleEndian.AppendUint64(nil, uint64(size))) //nolint:gosec // never negative
}

func (c *changes) delete(name string) error { return c.record(changeDelete, name) }

func (c *changes) rename(from, to string) error {
	return c.record(changeRename, from, appendName(nil, to))
}

// end writes the last record.
func (c *changes) end() error {
	_, err := c.w.Write(binary.LittleEndian.AppendUint64([]byte{changeEnd}, c.n))
	return errors.Join(err, c.w.Close())
}

// applier carries changes out.
type applier struct {
	root    *os.Root
	r       *bufio.Reader
	name    string // of file
	file    *os.File
	renames [][2]string
}

// applyChanges carries out what changesName in root says, and removes it.
func applyChanges(root *os.Root) error {
	from, err := root.Open(changesName)
	if err != nil {
		return fmt.Errorf("%w: %w", errChanges, err)
	}
	defer func() { _ = from.Close() }()
	const readAhead = 1 << 20
	a := &applier{root: root, r: bufio.NewReaderSize(from, readAhead)}
	if err := errors.Join(a.run(), a.close()); err != nil {
		return err
	}
	if err := a.rename(); err != nil {
		return err
	}
	return root.Remove(changesName)
}

func (a *applier) run() error {
	for n := uint64(0); ; n++ {
		kind, err := a.r.ReadByte()
		if err != nil {
			return fmt.Errorf("%w: %w", errChanges, err)
		}
		if kind == changeEnd {
			return a.end(n)
		}
		name, err := a.path()
		if err != nil {
			return err
		}
		switch kind {
		case changeWrite:
			err = a.write(name)
		case changeSize:
			err = a.extend(name)
		case changeDelete:
			err = errors.Join(a.close(), a.root.Remove(name))
		case changeRename:
			var to string
			to, err = a.path()
			a.renames = append(a.renames, [2]string{name, to})
		default:
			err = fmt.Errorf("%w: a record of kind %d", errChanges, kind)
		}
		if err != nil {
			return err
		}
	}
}

// end checks that the records are complete and that nothing follows.
func (a *applier) end(n uint64) error {
	want, err := a.number()
	if err != nil {
		return err
	}
	if _, err := a.r.ReadByte(); want != n || err != io.EOF {
		return fmt.Errorf("%w: %d records of %d", errChanges, n, want)
	}
	return nil
}

func (a *applier) path() (string, error) {
	var n [2]byte
	if _, err := io.ReadFull(a.r, n[:]); err != nil {
		return "", fmt.Errorf("%w: %w", errChanges, err)
	}
	b := make([]byte, binary.LittleEndian.Uint16(n[:]))
	if _, err := io.ReadFull(a.r, b); err != nil {
		return "", fmt.Errorf("%w: %w", errChanges, err)
	}
	name, err := xbstream.CleanPath(string(b))
	if err == nil && (name == changesName || strings.HasPrefix(name, changesName+asideMark)) {
		err = fmt.Errorf("a record names %s", name)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", errChanges, err)
	}
	return name, nil
}

func (a *applier) number() (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(a.r, b[:]); err != nil {
		return 0, fmt.Errorf("%w: %w", errChanges, err)
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

func (a *applier) write(name string) error {
	offset, err := a.number()
	if err != nil {
		return err
	}
	var n [4]byte
	if _, err := io.ReadFull(a.r, n[:]); err != nil {
		return fmt.Errorf("%w: %w", errChanges, err)
	}
	length := binary.LittleEndian.Uint32(n[:])
	if length > maxChange || offset > math.MaxInt64-maxChange {
		return fmt.Errorf("%w: %d bytes at %d of %s", errChanges, length, offset, name)
	}
	if err := a.open(name); err != nil {
		return err
	}
	copied, err := io.CopyN(io.NewOffsetWriter(a.file, int64(offset)), a.r, int64(length))
	if err == io.EOF { //nolint:errorlint // io.CopyN does not wrap it
		err = fmt.Errorf("%w: it ends %d bytes before a record does", errChanges, int64(length)-copied)
	}
	return err
}

// extend never shortens a file.
func (a *applier) extend(name string) error {
	size, err := a.number()
	if err != nil {
		return err
	}
	if size > math.MaxInt64 {
		return fmt.Errorf("%w: %s is to have %d bytes", errChanges, name, size)
	}
	if err := a.open(name); err != nil {
		return err
	}
	info, err := a.file.Stat()
	if err == nil && info.Size() < int64(size) {
		err = a.file.Truncate(int64(size))
	}
	return err
}

// open keeps one file open: consecutive records are often for the same file.
func (a *applier) open(name string) error {
	if a.file != nil && a.name == name {
		return nil
	}
	if err := a.close(); err != nil {
		return err
	}
	if err := a.root.MkdirAll(path.Dir(name), copyDirMode); err != nil {
		return err
	}
	var err error
	a.name = name
	a.file, err = a.root.OpenFile(name, os.O_WRONLY|os.O_CREATE, copyFileMode)
	return err
}

// The modes of files and directories that are made here are those of the servers.
const (
	copyDirMode  = 0o750
	copyFileMode = 0o640
)

func (a *applier) close() error {
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file = nil
	return err
}

// asideMark is between changesName and the number of a file that is renamed, while it has neither
// name.
const asideMark = ".aside."

// rename moves all files out of the way first.
func (a *applier) rename() error {
	aside := func(i int) string { return changesName + asideMark + strconv.Itoa(i) }
	for i, r := range a.renames {
		if err := a.root.Rename(r[0], aside(i)); err != nil {
			return err
		}
	}
	for i, r := range a.renames {
		if _, err := a.root.Lstat(r[1]); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("%w: two files are to be %s", errChanges, r[1]), err)
		}
		if err := a.root.MkdirAll(path.Dir(r[1]), copyDirMode); err != nil {
			return err
		}
		if err := a.root.Rename(aside(i), r[1]); err != nil {
			return err
		}
	}
	return nil
}
