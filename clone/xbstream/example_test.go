package xbstream_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"understudy/clone/xbstream"
)

// A stream is written file by file, and unpacked into an empty directory.
func Example() {
	var stream bytes.Buffer
	w := xbstream.NewWriter(&stream)
	f, err := w.Create("shop/orders.ibd")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _ = fmt.Fprint(f, "pages")
	_ = f.Close() // without it the stream is truncated

	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = root.Close() }()
	summary, err := xbstream.Extract(context.Background(), &stream, root, xbstream.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	text, _ := os.ReadFile(filepath.Join(dir, "shop", "orders.ibd"))
	fmt.Println(summary.Files, summary.LastFile, string(text))
	// Output: 1 shop/orders.ibd pages
}

// A stream that was cut in the middle of a file is an error. One that was cut between two files is
// not: the archive has no end mark, so whoever carries it needs one.
func ExampleCheck() {
	var stream bytes.Buffer
	w := xbstream.NewWriter(&stream)
	f, _ := w.Create("ibdata1")
	_, _ = fmt.Fprint(f, "pages")
	_ = f.Close()
	whole := stream.Bytes()

	_, err := xbstream.Check(context.Background(), bytes.NewReader(whole[:len(whole)-20]), xbstream.Options{})
	fmt.Println(err != nil)
	summary, err := xbstream.Check(context.Background(), bytes.NewReader(whole), xbstream.Options{})
	fmt.Println(summary.Files, err)
	// Output:
	// true
	// 1 <nil>
}
