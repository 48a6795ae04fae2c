package xbstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
)

// benchStream has files files of size bytes, in chunks of n bytes, all open at the same time. The
// second result is the stream without its ends.
func benchStream(files, size, n int) (whole, data []byte) {
	var s stream
	payload := string(bytes.Repeat([]byte("0123456789abcde\n"), n/16))
	for at := 0; at < size; at += n {
		for i := range files {
			s.data(fmt.Sprintf("db/t%d.ibd", i), int64(at), payload)
		}
	}
	last := len(s.b)
	for i := range files {
		s.end(fmt.Sprintf("db/t%d.ibd", i))
	}
	return s.b, s.b[:last]
}

// BenchmarkReader parses streams in memory and checks them, on one core.
func BenchmarkReader(b *testing.B) {
	for _, n := range []int{64 << 10, 1 << 20, 10 << 20} {
		b.Run(fmt.Sprintf("chunk=%dKiB", n>>10), func(b *testing.B) {
			_, stream := benchStream(2, 4*n, n)
			src := bytes.NewReader(stream)
			r := NewReader(endless{src})
			buf := make([]byte, bufferSize)
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				for range 2 * 4 {
					if err := readChunk(r, buf); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// endless delivers the same over and over.
type endless struct{ *bytes.Reader }

func (e endless) Read(p []byte) (int, error) {
	if e.Len() == 0 {
		if _, err := e.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
	}
	return e.Reader.Read(p)
}

// readChunk reads one chunk with its payload.
func readChunk(r *Reader, buf []byte) error {
	_, err := r.Next()
	for err == nil {
		_, err = r.Read(buf)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// TestReaderAllocs: no chunk of a file that is known costs an allocation, neither read nor passed
// over.
func TestReaderAllocs(t *testing.T) {
	var s stream
	for i := range 4 {
		s.data("db/t.ibd", int64(i), "some payload").data("./db/u.ibd", int64(i), "")
		s.sparse("db/s.ibd", int64(i), []Extent{{3, 2}, {4, 1}, {9, 0}}, "xyz")
	}
	src := endless{bytes.NewReader(s.b)}
	r, buf := NewReader(src), make([]byte, 5)
	read := func() {
		if err := readChunk(r, buf); err != nil {
			t.Fatal(err)
		}
	}
	for range 12 {
		read()
	}
	if n := testing.AllocsPerRun(100, read); n > 0 {
		t.Errorf("%v allocations per chunk that is read", n)
	}
	n := testing.AllocsPerRun(100, func() {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations per chunk that is passed over", n)
	}
}

// BenchmarkCheck passes over payloads without copying them out.
func BenchmarkCheck(b *testing.B) {
	stream, _ := benchStream(2, 64<<20, 10<<20)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Check(b.Context(), bytes.NewReader(stream), Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExtract writes to a temporary directory, so it measures the disk cache more than
// anything here.
func BenchmarkExtract(b *testing.B) {
	stream, _ := benchStream(4, 32<<20, 1<<20)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		root := openRoot(b, b.TempDir())
		b.StartTimer()
		if _, err := Extract(b.Context(), bytes.NewReader(stream), root, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWriter frames files and sums them, on one core.
func BenchmarkWriter(b *testing.B) {
	content := bytes.Repeat([]byte("0123456789abcde\n"), 8<<20/16)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	w := NewWriter(io.Discard)
	f, err := w.Create("db/t.ibd")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := io.Copy(f, struct{ io.Reader }{bytes.NewReader(content)}); err != nil {
			b.Fatal(err)
		}
	}
}
