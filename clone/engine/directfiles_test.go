package engine

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"understudy/clone/mysqlwire"
	"understudy/clone/xbstream"
)

// newSink is what a server hands its data over to, into a buffer.
func newSink(layout string, logical int64) (*direct, *bytes.Buffer) {
	out := new(bytes.Buffer)
	s := &snapshot{layout: layout, text: "9.7.4", gtid: false, reached: func(Stage) {}, log: slog.New(slog.DiscardHandler)}
	return &direct{snapshot: s, logical: logical, out: newArchive(out), files: map[fileID]*directFile{}}, out
}

const mib = 1 << 20

// event is a call of a sink's.
type event func(d *direct) error

func describe(f mysqlwire.File) event {
	return func(d *direct) error { return d.File(f.Stage, f) }
}

func file(stage mysqlwire.Stage, index uint32, size uint64) mysqlwire.File {
	return mysqlwire.File{Stage: stage, Index: index, Space: 5 + index, Size: size, Name: "shop/" + string("abcdefgh"[index]) + ".ibd"}
}

func dropped(f mysqlwire.File, stage mysqlwire.Stage) mysqlwire.File {
	f.Stage, f.Deleted = stage, true
	return f
}

func bring(stage mysqlwire.Stage, index uint32, offset uint64, n int) event {
	return func(d *direct) error {
		return d.Block(mysqlwire.Block{Stage: stage, File: index, Offset: offset, Length: uint32(n)}, make([]byte, n)) //nolint:gosec // small
	}
}

func finish(stage mysqlwire.Stage) event {
	return func(d *direct) error { return d.End(stage) }
}

// A file is in the copy as a whole, or not at all; a server that says otherwise is not believed.
func TestDirectFilesAreWhole(t *testing.T) {
	const copying, pages, redo = mysqlwire.FileCopy, mysqlwire.PageCopy, mysqlwire.RedoCopy
	a := file(copying, 0, 3*mib)
	tests := []struct {
		name   string
		events []event
		want   string // of the error; empty: none
	}{
		{"whole", []event{describe(a), bring(copying, 0, 2*mib, mib), bring(copying, 0, 0, 2*mib), finish(copying)}, ""},
		{"nothing came", []event{describe(a), finish(copying)}, "shop/a.ibd is not whole: 0 bytes came, of 3145728"},
		{"a gap", []event{describe(a), bring(copying, 0, 0, mib), bring(copying, 0, 2*mib, mib), finish(copying)}, "shop/a.ibd is not whole: there are gaps before byte 3145728"},
		{"no end", []event{describe(a), bring(copying, 0, 0, mib), finish(copying)}, "shop/a.ibd is not whole: 1048576 bytes came, of 3145728"},
		{"dropped meanwhile", []event{describe(a), bring(copying, 0, 0, mib), describe(dropped(a, copying)), finish(copying)}, ""},
		{"dropped meanwhile, and told later", []event{describe(a), bring(copying, 0, 2*mib, mib), finish(copying), describe(dropped(a, pages)), finish(pages)}, ""},
		{"on its way over another connection", []event{describe(a), describe(dropped(a, copying)), bring(copying, 0, 0, mib), finish(copying)}, ""},
		{"dropped, and more comes", []event{describe(a), describe(dropped(a, copying)), finish(copying), bring(pages, 0, 0, mib)}, "bytes of the file shop/a.ibd, which was dropped"},
		{"dropped, and there again", []event{describe(a), describe(dropped(a, copying)), finish(copying), describe(file(redo, 0, mib))}, "the file shop/a.ibd was dropped, and is described again"},
		{"not described", []event{bring(copying, 7, 0, mib)}, "bytes of the file 7, which was not described"},
		{"made while files are copied", []event{
			describe(a), func(d *direct) error { return d.File(copying, file(pages, 1, mib)) }, bring(copying, 0, 0, 3*mib), finish(copying),
		}, ""},
		{"made before anything came", []event{describe(file(pages, 0, mib))}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, out := newSink("ibdata1:12M:autoextend", 16<<10)
			var err error
			for _, e := range tt.events {
				if err = e(d); err != nil {
					break
				}
			}
			if err == nil {
				err = d.end()
			}
			if tt.want != "" {
				if !errors.Is(err, mysqlwire.ErrProtocol) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := xbstream.Check(t.Context(), out, xbstream.Options{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// The files of a system tablespace have the sizes that the settings name; only one that may grow
// has whole extents.
func TestSizesOfTheSystemTablespace(t *testing.T) {
	system := func(index uint32, size uint64) *directFile {
		return &directFile{File: mysqlwire.File{Index: index, Size: size, Name: "ibdata"}, size: int64(size), was: true} //nolint:gosec // small
	}
	tests := []struct {
		layout string
		pages  int64
		sizes  []uint64
		want   []int64 // what each file is to have at least; 0: it stays
	}{
		{"a:10M;b:10M:autoextend", 64 << 10, []uint64{10 * mib, 10 * mib}, []int64{0, 12 * mib}},
		{"a:10M;b:10M", 64 << 10, []uint64{10 * mib, 10 * mib}, []int64{0, 0}},
		{"a:11M", 32 << 10, []uint64{11 * mib}, []int64{0}},
		{"a:11M:autoextend:max:500M", 32 << 10, []uint64{11 * mib}, []int64{12 * mib}},
	}
	for _, tt := range tests {
		t.Run(tt.layout, func(t *testing.T) {
			d, _ := newSink(tt.layout, tt.pages)
			var b bytes.Buffer
			d.changes = &changes{w: nopCloser{&b}}
			var ids []fileID
			for i, size := range tt.sizes {
				id := fileID{index: uint32(i)}
				ids = append(ids, id)
				d.files[id] = system(id.index, size)
			}
			d.files[ids[0]].Size = 0
			for _, size := range tt.sizes {
				d.files[ids[0]].Size += size // as its first page says, of all of them
			}
			d.spread(ids)
			for i, id := range ids {
				b.Reset()
				if err := d.endSize(id, d.files[id]); err != nil {
					t.Fatal(err)
				}
				var want bytes.Buffer
				if tt.want[i] > 0 {
					_ = (&changes{w: nopCloser{&want}}).size("", tt.want[i])
				}
				if !bytes.Equal(b.Bytes(), want.Bytes()) {
					t.Errorf("file %d: changes %v, want %v", i, b.Bytes(), want.Bytes())
				}
			}
		})
	}
}
