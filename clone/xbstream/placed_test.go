package xbstream

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Bytes that come in any order make the file; what is missing is a hole.
func TestPlacedWriter(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	p, err := w.CreatePlaced("d/placed")
	if err != nil {
		t.Fatal(err)
	}
	other, err := w.Create("beside")
	if err != nil {
		t.Fatal(err)
	}
	write := func(_ int, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	write(p.WriteAt([]byte("world"), 6))
	write(other.Write([]byte("x")))
	if p.Whole() {
		t.Error("it is whole")
	}
	write(p.WriteAt([]byte("hello"), 0))
	write(p.WriteSparseAt([]Extent{{Skip: 2, Length: 1}, {Skip: 3}}, []byte("!"), 20))
	if p.Size() != 26 {
		t.Errorf("size %d", p.Size())
	}
	for _, offset := range []int64{4, 6, 10, 22} {
		before := b.Len()
		if _, err := p.WriteAt([]byte("xy"), offset); !errors.Is(err, ErrPlace) || b.Len() != before {
			t.Errorf("at %d: %v, %d bytes", offset, err, b.Len()-before)
		}
	}
	if _, err := p.WriteSparseAt([]Extent{{Skip: 1, Length: 2}}, []byte("x"), 100); !errors.Is(err, ErrPlace) {
		t.Errorf("error %v", err)
	}
	if err := errors.Join(p.Close(30), p.Close(30), other.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.WriteAt([]byte("x"), 50); err == nil {
		t.Error("it takes bytes after its end")
	}
	dir := t.TempDir()
	if _, err := Extract(t.Context(), &b, openRoot(t, dir), Options{}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "d", "placed"))
	want := make([]byte, 30)
	copy(want, "hello")
	copy(want[6:], "world")
	copy(want[22:], "!")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// A file of which nothing came is empty.
func TestPlacedWriterEmpty(t *testing.T) {
	var b bytes.Buffer
	p, err := NewWriter(&b).CreatePlaced("empty")
	if err == nil {
		err = p.Close(0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if summary, err := Check(t.Context(), &b, Options{}); err != nil || summary.Files != 1 || summary.Bytes != 0 {
		t.Errorf("%+v, %v", summary, err)
	}
}
