package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"understudy/clone/mysqlwire"
	"understudy/clone/xbstream"
	"understudy/replicate/origin"
)

// direct puts what the server hands over into an xbstream: the files as they are copied, each as
// soon as its first bytes come, and everything that comes later into changes. It is a
// mysqlwire.Sink.
type direct struct {
	*snapshot
	ctx     context.Context //nolint:containedctx // a Sink's methods have none
	replica bool
	logical int64 // the size of a page
	out     *archive
	changes *changes
	origin  origin.Origin
	hold    *hold // while the applier stands still

	mu    sync.Mutex
	files map[fileID]*directFile
}

// fileID is a file's number; those of the redo log are counted by themselves.
type fileID struct {
	redo  bool
	index uint32
}

// directFile is a file of the copy.
type directFile struct {
	mysqlwire.File
	staged string // its name until the changes are carried out

	fixed bool // its size is a setting, and no multiple of anything

	whole uint64 // how many bytes come while files are copied; 0: it is not known, or none does

	mu      sync.Mutex
	member  *xbstream.PlacedWriter // while it is open
	was     bool                   // in the stream as a file of its own, or made by a change
	size    int64                  // where the last of its bytes ends
	missing string                 // which of its bytes did not come while files were copied
	deleted mysqlwire.Stage        // in which that was told; 0: it was not
}

// Begin takes note of a stage.
func (d *direct) Begin(s mysqlwire.State) error {
	switch s.Stage {
	case mysqlwire.FileCopy:
		d.reached(Copying)
	case mysqlwire.RedoCopy:
		return d.passed()
	}
	return nil
}

// End closes what belongs to a stage.
func (d *direct) End(s mysqlwire.Stage) error {
	switch s {
	case mysqlwire.FileCopy:
		return errors.Join(d.begin(), d.closeAll())
	case mysqlwire.PageCopy:
		return d.originAt()
	}
	return nil
}

// begin writes the first bytes, once everything that may be refused has been looked at.
func (d *direct) begin() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changes != nil {
		return nil
	}
	d.out.changes = changesName
	if err := d.out.begin(d.text); err != nil {
		return err
	}
	w, err := d.out.w.Create(changesName)
	if err == nil {
		d.changes = &changes{w: w}
		err = d.writeStatus()
	}
	return err
}

// writeStatus writes the files from which the plugin of the copy's server learns that its data are
// a clone: it says at its first start, in performance_schema.clone_status, at which position of the
// donor's binary log. They are those of CLONE LOCAL.
func (d *direct) writeStatus() error {
	now := strconv.FormatInt(time.Now().UnixMicro(), 10)
	for name, text := range map[string]string{
		"#clone/#replace_files": "",
		"#clone/#status_fix":    "",
		"#clone/#view_status":   "2 1\n" + now + " " + now + "\nLOCAL INSTANCE\n0\n\n\n0\n\n",
	} {
		f, err := d.out.w.Create(name)
		if err != nil {
			return err
		}
		if _, err := f.Write([]byte(text)); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// File takes note of a file, and of what DDL statements have done to one.
func (d *direct) File(now mysqlwire.Stage, f mysqlwire.File) error {
	if f.Encrypted {
		return refuseEncrypted(f)
	}
	id := fileID{redo: f.Stage == mysqlwire.RedoCopy && f.Name == "", index: f.Index}
	d.mu.Lock()
	known := d.files[id]
	if known == nil {
		known = &directFile{File: f, staged: f.Name}
		if now < mysqlwire.FileCopy || f.Stage == mysqlwire.FileCopy {
			known.whole = f.Size
		}
		d.files[id] = known
		d.mu.Unlock()
		return d.add(now, id, known)
	}
	d.mu.Unlock()
	known.mu.Lock()
	defer known.mu.Unlock()
	switch {
	case f.Deleted && known.deleted == 0:
		known.deleted = f.Stage
		return known.close() // whatever is missing will not come
	case f.Deleted:
		return nil
	case known.deleted != 0:
		return fmt.Errorf("%w: the file %s was dropped, and is described again", mysqlwire.ErrProtocol, known.Name)
	case f.Renamed:
		known.Name = f.Name
	}
	known.Size = max(known.Size, f.Size)
	known.Compressed = f.Compressed
	return nil
}

// add makes a file that is described for the first time.
func (d *direct) add(now mysqlwire.Stage, id fileID, f *directFile) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.Deleted:
		f.deleted = f.Stage
	case id.redo:
		f.Name = d.redoName(id.index)
		f.staged = f.Name
	case now == mysqlwire.FileCopy && f.Stage == mysqlwire.FileCopy: // it is made with its first bytes
	default:
		return d.make(f)
	}
	return nil
}

// make makes a file that a DDL statement has made. Another one may have had its name before.
func (d *direct) make(f *directFile) error {
	if err := d.begin(); err != nil {
		return err
	}
	f.staged = changesName + ".new." + strconv.FormatUint(uint64(f.Index), 10)
	f.was = true
	if f.Space == noTablespace {
		return d.changes.size(f.staged, 0)
	}
	page := firstPage(f.File, d.logical)
	least := int64(undoBytes)
	if !isUndo(f.File) {
		least = tablePages * int64(len(page))
	}
	f.Size = max(f.Size, uint64(least))
	f.size = int64(len(page))
	return d.changes.write(f.staged, 0, page)
}

// redoName is the name of a file of the redo log.
//
// https://dev.mysql.com/doc/refman/8.4/en/innodb-redo-log.html
func (d *direct) redoName(index uint32) string {
	if d.version.AtLeast(8, 0, 30) {
		return redoDir + "/#ib_redo" + strconv.FormatUint(uint64(index), 10)
	}
	return "ib_logfile" + strconv.FormatUint(uint64(index), 10)
}

// Block puts bytes where they belong.
func (d *direct) Block(b mysqlwire.Block, data []byte) error {
	if err := d.begin(); err != nil {
		return err
	}
	d.mu.Lock()
	f := d.files[fileID{redo: b.Stage == mysqlwire.RedoCopy, index: b.File}]
	d.mu.Unlock()
	if f == nil {
		return fmt.Errorf("%w: bytes of the file %d, which was not described", mysqlwire.ErrProtocol, b.File)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.deleted == 0:
	case b.Stage > f.deleted:
		return fmt.Errorf("%w: bytes of the file %s, which was dropped", mysqlwire.ErrProtocol, f.Name)
	default:
		return nil // they were on their way, over another connection
	}
	offset := int64(b.Offset) //nolint:gosec // mysqlwire bounds it
	f.size = max(f.size, offset+int64(len(data)))
	if b.Stage == mysqlwire.FileCopy {
		err := d.place(f, offset, data)
		if !errors.Is(err, xbstream.ErrPlace) {
			return err
		}
	}
	if b.Stage == mysqlwire.PageCopy && offset == 0 {
		f.Size = max(f.Size, b.FileSize)
	}
	f.was = true
	return d.changes.write(f.staged, offset, data)
}

// place writes to the file of the stream; xbstream.ErrPlace says that it cannot.
func (d *direct) place(f *directFile, offset int64, data []byte) error {
	if f.member == nil && f.was {
		return xbstream.ErrPlace // it is complete
	}
	if f.member == nil {
		m, err := d.out.w.CreatePlaced(f.staged)
		if err != nil {
			return err
		}
		f.member, f.was = m, true
	}
	var err error
	if f.Compressed {
		holes, payload := findHoles(data)
		_, err = f.member.WriteSparseAt(holes, payload, offset)
	} else {
		_, err = f.member.WriteAt(data, offset)
	}
	if err == nil && f.member.Whole() && uint64(f.member.Size()) >= f.Size { //nolint:gosec // never negative
		err = f.close()
	}
	return err
}

// close needs f.mu.
func (f *directFile) close() error {
	if f.member == nil {
		return nil
	}
	m := f.member
	f.member = nil
	return m.Close(0)
}

// closeAll ends the copying of files. Of one that was dropped meanwhile, which may be told later,
// bytes may be missing.
func (d *direct) closeAll() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		f.mu.Lock()
		f.note()
		err := f.close()
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// note takes note of what is missing. It needs f.mu.
func (f *directFile) note() {
	switch {
	case f.member != nil && !f.member.Whole():
		f.missing = fmt.Sprintf("there are gaps before byte %d", f.member.Size())
	case uint64(f.size) < f.whole: //nolint:gosec // never negative
		f.missing = fmt.Sprintf("%d bytes came, of %d", f.size, f.whole)
	}
}

// holeBytes is the least length of a hole: that of a block of every common file system.
const holeBytes = 4 << 10

// findHoles takes blocks of zeros out of what comes of a file with compressed pages, which are
// short and have holes behind them. They read as zeros, whatever they were.
func findHoles(data []byte) (holes []xbstream.Extent, payload []byte) {
	payload = make([]byte, 0, len(data))
	var zeros [holeBytes]byte
	current := xbstream.Extent{}
	for block := range slices.Chunk(data, holeBytes) {
		if len(block) == holeBytes && bytes.Equal(block, zeros[:]) {
			if current.Length > 0 {
				holes = append(holes, current)
				current = xbstream.Extent{}
			}
			current.Skip += holeBytes
			continue
		}
		current.Length += uint32(len(block)) //nolint:gosec // holeBytes
		payload = append(payload, block...)
	}
	return append(holes, current), payload
}

// end writes what has to be done to the files, and the last bytes.
func (d *direct) end() error {
	ids := make([]fileID, 0, len(d.files))
	for id := range d.files {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b fileID) int { return int(int64(a.index) - int64(b.index)) })
	d.spread(ids)
	for _, step := range []func(fileID, *directFile) error{endWhole, d.endSize, d.endDeleted, d.endRenamed} {
		for _, id := range ids {
			if err := step(id, d.files[id]); err != nil {
				return err
			}
		}
	}
	if err := d.changes.end(); err != nil {
		return err
	}
	return d.out.end(d.origin, d.layout)
}

// endWhole refuses a file that the server has not sent to its end.
func endWhole(_ fileID, f *directFile) error {
	if f.deleted == 0 && f.missing != "" {
		return fmt.Errorf("%w: the file %s is not whole: %s", mysqlwire.ErrProtocol, f.Name, f.missing)
	}
	return nil
}

// spread gives each file of the system tablespace its part of the size that its first page tells:
// all but the last one have a fixed size, and that one has, too, where it may not grow.
func (d *direct) spread(ids []fileID) {
	var system []*directFile
	for _, id := range ids {
		if f := d.files[id]; !id.redo && f.deleted == 0 && f.Space == 0 {
			system = append(system, f)
		}
	}
	for i, f := range system {
		f.fixed = i < len(system)-1 || !strings.Contains(d.layout, ":autoextend")
	}
	if len(system) < 2 { //nolint:mnd // one file, or none
		return
	}
	first, last := system[0], system[len(system)-1]
	total := first.Size
	first.Size = uint64(first.size) //nolint:gosec // never negative
	for _, f := range system[:len(system)-1] {
		total -= min(total, f.Size)
	}
	last.Size = max(last.Size, total)
}

// endSize gives a file its size. That of a large tablespace is a multiple of its extents, unless it
// is a setting.
func (d *direct) endSize(_ fileID, f *directFile) error {
	if f.deleted != 0 {
		return nil
	}
	want := int64(f.Size) //nolint:gosec // mysqlwire bounds it
	if extent := extentSize(f.SpaceFlags, d.logical); f.SpaceFlags != noTablespace && !f.fixed && max(want, f.size) > extent {
		want = (max(want, f.size) + extent - 1) / extent * extent
	}
	if want <= f.size && f.was {
		return nil
	}
	f.was = true
	return d.changes.size(f.staged, want)
}

func (d *direct) endDeleted(_ fileID, f *directFile) error {
	if f.deleted == 0 || !f.was {
		return nil
	}
	return d.changes.delete(f.staged)
}

func (d *direct) endRenamed(_ fileID, f *directFile) error {
	if f.deleted != 0 || f.staged == f.Name {
		return nil
	}
	return d.changes.rename(f.staged, f.Name)
}
