package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"understudy/clone/volume"
	"understudy/clone/xbstream"
	"understudy/replicate/origin"

	"golang.org/x/sys/unix"
)

// The values of backup_type in MySQLCloneInfo, before and after Prepare.
const (
	typeRaw      = "backup_type = full-backuped\n"
	typePrepared = "backup_type = full-prepared\n"
)

// changesKey is the key of the file's name in MySQLCloneInfo whose changes have to be carried out.
const changesKey = "changes"

// archive writes a snapshot as an xbstream. MySQLCloneInfo is opened first, which shows the joiner
// early that the backup has begun, and closed last.
type archive struct {
	w       *xbstream.Writer
	info    *xbstream.FileWriter // nil until begin
	changes string               // the file that Prepare has to find; empty: none
}

func newArchive(w io.Writer) *archive { return &archive{w: xbstream.NewWriter(w)} }

// begin writes the first bytes. It may be called more than once.
func (a *archive) begin(server string) error {
	if a.info != nil {
		return nil
	}
	info, err := a.w.Create(MySQLCloneInfo)
	if err != nil {
		return err
	}
	a.info = info
	_, err = fmt.Fprintf(info, "tool_name = understudy\nserver_version = %s\nstart_time = %s\n%s", server, time.Now().UTC().Format(time.RFC3339), typeRaw)
	return errors.Join(err, info.Flush())
}

// add writes all files of a directory in the order of their names, and removes each written file,
// which frees its space. Names include the directories.
func (a *archive) add(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("stream the snapshot: %w", err)
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || e.IsDir() {
			return err
		}
		if err := a.addFile(root, name); err != nil {
			return fmt.Errorf("stream %s: %w", name, err)
		}
		return root.Remove(name)
	})
}

func (a *archive) addFile(root *os.Root, name string) error {
	from, err := root.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := a.w.Create(name)
	if err != nil {
		return err
	}
	if err := copySparse(to, from); err != nil {
		return err
	}
	return to.Close()
}

// copySparse copies a file with its holes. Tables with compressed pages are full of holes and would
// otherwise grow to their uncompressed size.
//
// https://dev.mysql.com/doc/refman/8.4/en/innodb-page-compression.html
func copySparse(to *xbstream.FileWriter, from *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return err
	}
	const block = 512 // see stat(2)
	if st.Blocks*block >= st.Size {
		_, err := io.Copy(to, from)
		return err
	}
	for at := int64(0); at < st.Size; {
		data, err := from.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return to.WriteHole(st.Size - at)
		}
		if err != nil {
			return err
		}
		end, err := from.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := to.WriteHole(data - at); err != nil {
			return err
		}
		if _, err := from.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(to, from, end-data); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// end writes where replication begins on the copy, the layout of its system tablespace, and the
// last byte.
func (a *archive) end(o origin.Origin, layout string) error {
	text, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("write the origin: %w", err)
	}
	_, err = fmt.Fprintf(a.info, "end_time = %s\norigin = %s\n%s = %s\n", time.Now().UTC().Format(time.RFC3339), text, volume.LayoutKey, layout)
	if a.changes != "" {
		_, changesErr := fmt.Fprintf(a.info, "%s = %s\n", changesKey, a.changes)
		err = errors.Join(err, changesErr)
	}
	return errors.Join(err, a.info.Close())
}
