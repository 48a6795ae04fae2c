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

// healthcheckFile has the login of the health check of MariaDB's image, see docs/images.md. Its
// account is in the data, so it is in each copy, but no backup tool copies the file. So the file
// travels in the stream, which is as confidential.
const healthcheckFile = ".my-healthcheck.cnf"

// healthcheckMember is its name in the stream: mbstream stops at a name that begins with a dot.
const healthcheckMember = "understudy_healthcheck.cnf"

// maxHealthcheck bounds the file in bytes, far above its usual size.
const maxHealthcheck = 64 << 10

// withHealthcheck adds the file to a backup's stream if the data directory has it.
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

// placeHealthcheck gives the file its name and mode in a copy. The file may be absent.
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

// accompanied is a backup's stream with another member before it. The member comes with the
// backup's first byte, because a backup that ends before its first byte is an answer.
type accompanied struct {
	backup io.Reader
	member []byte
	all    io.Reader // nil before the first byte of the backup
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
