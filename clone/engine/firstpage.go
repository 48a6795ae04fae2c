package engine

import (
	"encoding/binary"
	"hash/crc32"

	"understudy/clone/mysqlwire"
)

// The layout of InnoDB's tablespaces.
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/fil0types_8h.html
// https://dev.mysql.com/doc/dev/mysql-server/latest/fsp0types_8h.html
const (
	// noTablespace stands for the number and the flags of a file that is no tablespace.
	noTablespace = 1<<32 - 1
	// firstLogSpace is the number after those of undo tablespaces, undoSpaces how many there are.
	firstLogSpace = 0xFFFFFFF0
	undoSpaces    = 127 * 400000
	// undoBytes is the initial size of an undo tablespace, tablePages that of any other tablespace
	// in pages.
	undoBytes  = 16 << 20
	tablePages = 7
	// extentPages is how many pages an extent has when they have at most 16 KiB: 1 MiB of
	// uncompressed pages.
	extentBytes = 1 << 20
)

// isUndo says whether a tablespace is an undo tablespace.
func isUndo(f mysqlwire.File) bool {
	return f.Space < firstLogSpace && f.Space >= firstLogSpace-1-undoSpaces
}

// pageSize is the size of a tablespace's pages on disk. The flags have the size of compressed pages
// (ROW_FORMAT=COMPRESSED) in bits 1 to 4, as a power of two above 512.
func pageSize(flags uint32, logical int64) int64 {
	if step := flags >> 1 & 0xf; step != 0 && flags != noTablespace {
		return 512 << step
	}
	return logical
}

// extentSize is the growth step of a large tablespace: recovery requires a multiple of it.
func extentSize(flags uint32, logical int64) int64 {
	pages := max(extentBytes, logical*64) / logical
	return pageSize(flags, logical) * pages
}

// Offsets in the first page, and from the end of each page.
const (
	atNumber  = 4
	atLSN     = 16
	atType    = 24
	atSpace   = 34
	atHeader  = 38
	atFlags   = atHeader + 16
	atVersion = 8  // the server's, in the place of the previous page
	atLayout  = 12 // the tablespace's, in the place of the next page
	trailer   = 8
)

// The versions that a server from 8.0 on writes into a new tablespace.
const (
	versionServer     = 80000
	versionTablespace = 1
)

// firstPage makes the first page of a tablespace that a DDL statement made during the clone. The
// pages themselves are in the redo log, or among the changed ones, but before a server reads them
// it has to know which tablespace the file is.
func firstPage(f mysqlwire.File, logical int64) []byte {
	size := pageSize(f.SpaceFlags, logical)
	page := make([]byte, size)
	put := binary.BigEndian.PutUint32
	put(page[atVersion:], versionServer)
	put(page[atLayout:], versionTablespace)
	put(page[atSpace:], f.Space)
	put(page[atHeader:], f.Space)
	put(page[atFlags:], f.SpaceFlags)
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	sum := func(from, to int64) uint32 { return crc32.Checksum(page[from:to], castagnoli) }
	if size != logical || f.SpaceFlags>>1&0xf != 0 { // compressed pages have no trailer; the LSN stays 0
		put(page, sum(atNumber, atLSN)^sum(atType, atType+2)^sum(atSpace, size))
		return page
	}
	all := sum(atNumber, atType+2) ^ sum(atHeader, size-trailer)
	put(page, all)
	put(page[size-trailer:], all)
	return page
}
