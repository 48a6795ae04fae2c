package mysqlwire

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
)

// Stage is what a clone is at.
type Stage uint32

// The stages, in their order.
const (
	Begin    Stage = 1
	FileCopy Stage = 2 // all files as they are, while the server writes to them
	PageCopy Stage = 3 // the pages that were changed meanwhile
	RedoCopy Stage = 4 // the redo log of the time that this took
	Done     Stage = 5
)

func (s Stage) String() string {
	switch s {
	case Begin:
		return "begin"
	case FileCopy:
		return "file copy"
	case PageCopy:
		return "page copy"
	case RedoCopy:
		return "redo copy"
	case Done:
		return "done"
	}
	return fmt.Sprintf("stage %d", uint32(s))
}

// InnoDB's descriptors begin with a version, their length and their type, each of four bytes. All
// their integers are big-endian, those of the messages around them little-endian.
const (
	descriptorVersion = 100
	headerLen         = 12

	typeLocator = 1
	typeTask    = 2
	typeState   = 3
	typeFile    = 4
	typeData    = 5
)

// The lengths of the descriptors, a file's without its name.
const (
	locatorLen = headerLen + 8 + 8 + 4 + 1 + 1
	taskLen    = headerLen + 3*4
	stateLen   = headerLen + 4*4 + 2*8 + 2
	fileLen    = headerLen + 4 + 2*8 + 2*4 + 2 + 5*4
	dataLen    = headerLen + 6*4 + 2*8
	// keyLen is what follows the name of a file whose key travels.
	keyLen = 64
)

// leastLen are the lengths of descriptors by their types, a file's without its name; 0: there is no
// such type.
var leastLen = [...]int{typeLocator: locatorLen, typeTask: taskLen, typeState: stateLen, typeFile: fileLen, typeData: dataLen}

const (
	// maxName is the longest name of a file: that of a path.
	maxName = 4096
	// maxData bounds what one block of data may have.
	maxData = maxMessage - 1
	// maxSize bounds offsets and sizes of files: InnoDB's largest tablespace has 256 TiB.
	maxSize = 1 << 48
)

// State says that a stage begins or ends.
type State struct {
	Stage         Stage
	Task          uint32
	Chunks, Files uint32
	Bytes         uint64 // about so many follow
	DiskBytes     uint64
	Start, Ack    bool
}

const (
	flagStart = 1 << 0
	flagAck   = 1 << 1
)

// File describes one file.
type File struct {
	Stage       Stage
	Size        uint64
	Allocated   uint64 // on disk, of a file with holes
	SpaceFlags  uint32
	BlockSize   uint32 // of the donor's file system, for files with compressed pages
	Compressed  bool   // its pages are
	Encrypted   bool
	Renamed     bool // by a DDL statement since it was described first
	Deleted     bool
	Space       uint32 // the number of the tablespace
	Index       uint32 // the number of the file
	First, Last uint32 // its chunks
	Name        string // below the data directory; empty for a file of the redo log
}

const (
	flagZlib      = 1 << 0
	flagLZ4       = 1 << 1
	flagEncrypted = 1 << 2
	flagRenamed   = 1 << 3
	flagDeleted   = 1 << 4
	flagKey       = 1 << 5
)

// Block describes bytes of a file, which follow it.
type Block struct {
	Stage    Stage
	Task     uint32
	Chunk    uint32
	Number   uint32 // in the chunk
	File     uint32 // its index
	Length   uint32
	Offset   uint64
	FileSize uint64
}

// reader takes integers off a descriptor whose length has been checked.
type reader struct{ b []byte }

func (r *reader) u16() uint16 {
	v := binary.BigEndian.Uint16(r.b)
	r.b = r.b[2:]
	return v
}

func (r *reader) u32() uint32 {
	v := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

func (r *reader) u64() uint64 {
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

// parseHeader returns the type of a descriptor, and what follows the header.
func parseHeader(b []byte) (kind uint32, r reader, err error) {
	if len(b) < headerLen {
		return 0, r, fmt.Errorf("%w: a descriptor of %d bytes", ErrProtocol, len(b))
	}
	r.b = b
	if version := r.u32(); version != descriptorVersion {
		return 0, r, fmt.Errorf("%w: a descriptor of version %d", ErrProtocol, version)
	}
	if n := r.u32(); uint64(n) != uint64(len(b)) {
		return 0, r, fmt.Errorf("%w: a descriptor of %d bytes says that it has %d", ErrProtocol, len(b), n)
	}
	kind = r.u32()
	if kind >= uint32(len(leastLen)) || leastLen[kind] == 0 || len(b) < leastLen[kind] {
		return 0, r, fmt.Errorf("%w: a descriptor of type %d has %d bytes", ErrProtocol, kind, len(b))
	}
	return kind, r, nil
}

// parseDescriptor returns a State, a File, a Block, or nil for what says nothing here.
func parseDescriptor(b []byte) (any, error) {
	kind, r, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	switch kind {
	case typeState:
		return parseState(r)
	case typeFile:
		return parseFile(r)
	case typeData:
		return parseBlock(r)
	}
	return nil, nil //nolint:nilnil // documented
}

func parseStage(r *reader) (Stage, error) {
	s := Stage(r.u32())
	if s < Begin || s > Done {
		return s, fmt.Errorf("%w: there is no %s", ErrProtocol, s)
	}
	return s, nil
}

func parseState(r reader) (State, error) {
	var s State
	var err error
	if s.Stage, err = parseStage(&r); err != nil {
		return s, err
	}
	s.Task, s.Chunks, s.Files = r.u32(), r.u32(), r.u32()
	s.Bytes, s.DiskBytes = r.u64(), r.u64()
	flags := r.u16()
	s.Start, s.Ack = flags&flagStart != 0, flags&flagAck != 0
	return s, nil
}

func parseFile(r reader) (File, error) {
	var f File
	var err error
	if f.Stage, err = parseStage(&r); err != nil {
		return f, err
	}
	f.Size, f.Allocated = r.u64(), r.u64()
	f.SpaceFlags, f.BlockSize = r.u32(), r.u32()
	flags := r.u16()
	f.Compressed = flags&(flagZlib|flagLZ4) != 0
	f.Encrypted = flags&(flagEncrypted|flagKey) != 0
	f.Renamed, f.Deleted = flags&flagRenamed != 0, flags&flagDeleted != 0
	f.Space, f.Index, f.First, f.Last = r.u32(), r.u32(), r.u32(), r.u32()
	n := int64(r.u32())
	want := n
	if flags&flagKey != 0 {
		want += keyLen
	}
	if n > maxName || want != int64(len(r.b)) || f.Size > maxSize {
		return f, fmt.Errorf("%w: the description of file %d: a name of %d bytes, and %d follow; size %d", ErrProtocol, f.Index, n, len(r.b), f.Size)
	}
	if n > 0 {
		f.Name, err = cleanName(r.b[:n])
	}
	return f, err
}

// cleanName takes a name with its NUL. It has to stay below the data directory.
func cleanName(b []byte) (string, error) {
	name, nul := strings.CutSuffix(string(b), "\x00")
	short := strings.TrimPrefix(name, "./")
	if !nul || strings.ContainsRune(short, 0) {
		return "", fmt.Errorf("%w: a name that does not end: %q", ErrProtocol, name)
	}
	if filepath.IsAbs(short) {
		return "", fmt.Errorf("%w: %s", ErrOutside, name)
	}
	if short == "" || !filepath.IsLocal(short) || filepath.Clean(short) != short {
		return "", fmt.Errorf("%w: %q is no name of a file", ErrProtocol, name)
	}
	return short, nil
}

func parseBlock(r reader) (Block, error) {
	var d Block
	var err error
	if d.Stage, err = parseStage(&r); err != nil {
		return d, err
	}
	d.Task, d.Chunk, d.Number, d.File = r.u32(), r.u32(), r.u32(), r.u32()
	d.Length, d.Offset, d.FileSize = r.u32(), r.u64(), r.u64()
	if d.Length > maxData || d.Offset > maxSize || d.FileSize > maxSize {
		return d, fmt.Errorf("%w: %d bytes at %d of file %d, which has %d", ErrProtocol, d.Length, d.Offset, d.File, d.FileSize)
	}
	return d, nil
}

// header begins a descriptor.
func header(kind uint32, n int) []byte {
	b := make([]byte, 0, n)
	b = binary.BigEndian.AppendUint32(b, descriptorVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(n)) //nolint:gosec // one of the lengths above
	return binary.BigEndian.AppendUint32(b, kind)
}

// acknowledgement is the descriptor that answers the end of a stage.
func (s State) acknowledgement() []byte {
	b := header(typeState, stateLen)
	for _, v := range []uint32{uint32(s.Stage), s.Task, s.Chunks, s.Files} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	b = binary.BigEndian.AppendUint64(b, s.Bytes)
	b = binary.BigEndian.AppendUint64(b, s.DiskBytes)
	return binary.BigEndian.AppendUint16(b, flagAck)
}

// firstLocator asks for a new clone: the server chooses all numbers.
func firstLocator() []byte {
	b := header(typeLocator, locatorLen)
	b = append(b, make([]byte, 8+8+4)...)
	return append(b, byte(Begin), 0)
}
