// Package xbstream reads, writes, checks and unpacks xbstream archives: the format in which
// mariadb-backup and Percona XtraBackup stream a backup (--stream=xbstream), and which mbstream -x
// and xbstream -x unpack.
//
// # Format
//
// An archive is a row of chunks and nothing else; all integers are little-endian:
//
//	magic        8 bytes, "XBSTCK01"
//	flags        1 byte
//	type         1 byte: P payload, S sparse payload, E end of a file
//	path length  4 bytes
//	path
//	             E ends here; P and S go on:
//	map entries  4 bytes, S only
//	length       8 bytes, of the payload
//	offset       8 bytes, where the chunk belongs in its file
//	checksum     4 bytes, CRC-32 (ISO 3309, the one of zlib) over map and payload
//	map          8 bytes an entry, S only: bytes to skip (4), then payload bytes that follow the skip (4)
//	payload
//
// Chunks of several files may be interleaved. An empty file is a lone E. The archive has no end
// mark: one that was cut between two files looks whole, so whoever carries a stream over a network
// needs an end mark of its own.
//
// Sources: the doc comment of each rule says where it comes from. "The format text" is the xbstream
// format page that Percona ships with XtraBackup 9.7.1-rc1; what is said of mbstream was measured
// with MariaDB 10.11 and 11.8.
package xbstream
