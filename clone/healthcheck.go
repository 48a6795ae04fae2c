package clone

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"understudy/clone/xbstream"
)

// healthcheckFile is how the health check of MariaDB's image logs in, see docs/images.md. The
// accounts that it is for are in the data, and with them in each copy, and no backup tool copies
// the file. So it travels with what it opens: the stream, and who may have that, are the same.
const healthcheckFile = ".my-healthcheck.cnf"

// healthcheckMember is its name in the stream: mbstream calls one that begins with a dot invalid,
// and unpacks nothing more.
const healthcheckMember = "understudy_healthcheck.cnf"

// maxHealthcheck is far more than the file has, in bytes.
const maxHealthcheck = 64 << 10

// withHealthcheck is the backup's stream with that file, where the data directory has it.
func withHealthcheck(backup io.Reader, dir string, log *slog.Logger) io.Reader {
	path := filepath.Join(dir, healthcheckFile)
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxHealthcheck {
		return backup
	}
	var member bytes.Buffer
	if err := addFile(&member, path); err != nil {
		log.Warn("the copy will lack what the health check of MariaDB's image logs in with", "error", err)
		return backup
	}
	return &accompanied{backup: backup, member: member.Bytes()}
}

func addFile(to io.Writer, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f, err := xbstream.NewWriter(to).Create(healthcheckMember)
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Close()
}

// placeHealthcheck gives the file its own name and mode in a copy that has arrived. It need not be
// there.
func placeHealthcheck(root *os.Root) error {
	err := root.Rename(healthcheckMember, healthcheckFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = root.Chmod(healthcheckFile, 0o600)
	}
	return err
}

// accompanied is a backup's stream with another member before it, which comes only when there is a
// backup: one that ends before its first byte says by that why.
type accompanied struct {
	backup io.Reader
	member []byte
	all    io.Reader // nil before the first byte
}

// Read implements io.Reader.
func (a *accompanied) Read(p []byte) (int, error) {
	if a.all == nil {
		var first [1]byte
		if n, err := a.backup.Read(first[:]); n == 0 {
			return 0, err
		}
		a.all = io.MultiReader(bytes.NewReader(a.member), bytes.NewReader(first[:]), a.backup)
	}
	return a.all.Read(p)
}
