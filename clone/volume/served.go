package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Served says that some process has files of a data directory locked, as a server does for as long
// as it lives: an fcntl lock ends with its process, and is seen in every container of the node. False
// says nothing where a server that is known to run is not seen to have any, as on a file system
// without such locks, or with these files in another directory.
//
// Both flavours lock the files of InnoDB that they open for writing (os_file_lock), MariaDB also
// Aria's control file. A process loses a lock by closing any handle of its own of that file, as
// CLONE of MySQL does with all that it copies. So only files count that are in no copy.
func Served(dataDir string) (bool, error) {
	for _, dir := range []string{dataDir, filepath.Join(dataDir, "#innodb_temp")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("look whether a server runs on the data directory: %w", err)
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || !staysLocked(e.Name()) {
				continue
			}
			if is, err := lockedByAnother(filepath.Join(dir, e.Name())); err != nil || is {
				return is, err
			}
		}
	}
	return false, nil
}

// staysLocked says that a server has a file of that name locked as long as it lives.
func staysLocked(name string) bool {
	switch filepath.Ext(name) {
	case ".dblwr", ".ibt":
		return true
	}
	return name == "aria_log_control" || strings.HasPrefix(name, "ibtmp")
}

// lockedByAnother says that another process has a lock on a file. One that is not there has none.
func lockedByAnother(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether a server runs on the data directory: %w", err)
	}
	defer func() { _ = f.Close() }()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return false, fmt.Errorf("ask for the locks of %s: %w", path, err)
	}
	return lock.Type != unix.F_UNLCK, nil
}

// The head of a binary log: four bytes, and the event that describes it, with flags at its end. A
// server takes the flag away when it closes the log.
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication_binlog_event.html
const (
	binlogMagic   = "\xfebin"
	binlogFlags   = len(binlogMagic) + 17
	binlogInUse   = 1
	binlogHeadEnd = binlogFlags + 2
)

// LeftOpen says that the server that ran on a data directory last has not closed its binary log: it
// was killed, or has crashed. It is false where the log cannot be read, as it is encrypted or in
// another directory.
func LeftOpen(dataDir string) (bool, error) {
	_, last, err := binlogs(dataDir)
	if err != nil || last == "" {
		return false, err
	}
	f, err := os.Open(filepath.Join(dataDir, path.Base(last)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the last binary log: %w", err)
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, binlogHeadEnd)
	if _, err := io.ReadFull(f, head); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the last binary log: %w", err)
	}
	return strings.HasPrefix(string(head), binlogMagic) && head[binlogFlags]&binlogInUse != 0, nil
}
