package xbstream

import (
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// maxWindow bounds the memory of one zstd decoder: 8 MiB is what zstd's format (RFC 8878,
// 3.1.1.1.2) tells decoders to allow at least, and all that levels up to 19, the highest that
// xtrabackup takes, make use of.
const maxWindow = 8 << 20

// codec says how the content of a file in the stream is packed.
type codec byte

const (
	plain codec = iota
	zstdFrames
	lz4Frames
)

// codecOf looks at the suffix that the tools add to a name and returns the name without it. A
// suffix that cannot be unpacked here gives a reason.
//
// What a compressed file unpacks to is bounded by the disk alone: there is no telling how long a
// table is.
func codecOf(path string) (name string, c codec, reason string) {
	switch {
	case strings.HasSuffix(path, ".xbcrypt"):
		return path, plain, "the file is encrypted: have the donor run its backup tool without --encrypt"
	case strings.HasSuffix(path, ".qp"):
		return path, plain, "the file is packed with quicklz: have the donor run its backup tool with --compress=zstd, " +
			"--compress=lz4 or without --compress"
	}
	if name, ok := strings.CutSuffix(path, ".zst"); ok {
		return name, zstdFrames, ""
	}
	if name, ok := strings.CutSuffix(path, ".lz4"); ok {
		return name, lz4Frames, ""
	}
	return path, plain, ""
}

// inflate unpacks src, which is read to its end, into dst. Two kinds of errors are told apart:
// those of dst come back as they are, those of the packed data as a reason. No data at all is an
// empty file, since not every version of the tools writes a frame for one.
func (c codec) inflate(dst io.Writer, src io.Reader) (reason string, err error) {
	var dec io.Reader
	switch c {
	case zstdFrames:
		z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return "", fmt.Errorf("start zstd: %w", err)
		}
		defer z.Close()
		dec = z
	default:
		dec = lz4.NewReader(src)
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := dec.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return "", err
			}
		}
		switch err {
		case nil:
		case io.EOF:
			if n, _ := io.ReadFull(src, buf[:1]); n > 0 {
				return "more data after the end of the compressed data", nil
			}
			return "", nil
		default:
			return "compressed data is broken or incomplete: " + err.Error(), nil
		}
	}
}
