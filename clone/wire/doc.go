// Package wire is the clone protocol between members: HTTP/1.1 on port 3307, over TLS 1.3 unless
// the operator asked for less.
//
//	GET    /v1/clone     one xbstream; what it is in the headers, that it is whole in the trailers
//	GET    /v1/clone/ID  the same stream again, from the offset that the header Understudy-Offset names,
//	                     or one lane of it
//	PUT    /v1/clone/ID  reports that the joiner lives, and has all bytes before Understudy-Offset
//	DELETE /v1/clone/ID  ends that stream at once
//	GET    /v1/member    facts about this member, as JSON
//	POST   /v1/lead/…    questions about who leads, with --primary=lease, see PathLead
//
// A stream is complete only when its trailers say so: exit status 0 of the tool, the number of
// bytes and their XXH64. xbstream itself does not mark the end of an archive.
//
// A stream outlives its connection. The donor keeps the last bytes that it sent (see replay). A
// joiner whose connection breaks continues where it was, as long as both processes live and it
// returns within the grace. Offsets count encoded bytes; the number of bytes and the digest in the
// trailers are those of the xbstream.
//
// The joiner reports on a separate connection how much has arrived. The donor never has more bytes
// under way than it keeps, whatever the hops between the two buffer. A joiner whose volume stalls
// keeps its clone while it reports. Joiners of earlier versions do not report: they must take bytes
// in time, and the donor keeps as much as both kernels can hold.
//
// # Several connections
//
// A joiner can ask for a stream over n connections, at most [MaxConnections]. They help where one
// is slow: over a long way, where a network bounds each of them, and where one core cannot encrypt
// fast enough. Both sides merge and divide the encoded stream and nothing else: tool, encoding,
// ring, digest, trailers, reports and extractor are those of one connection.
//
// The encoded stream is divided into stripes of 1 MiB; the last one is what is left. Lane i of n
// consists of the stripes i, i+n, i+2n, …, and each lane has a connection of its own. Before each
// stripe stands a frame: its position in the encoded stream (8 bytes), its length (4) and the XXH64
// of its bytes (8), big endian.
//
//	GET /v1/clone     Understudy-Connections: 4
//	200               Understudy-Connections: 3, Understudy-Lane: 0; the body is lane 0
//	GET /v1/clone/ID  Understudy-Lane: 1, Understudy-Offset: 1048576
//	200               Understudy-Lane: 1; the body is lane 1 from that stripe on
//	GET /v1/clone/ID  Understudy-Offset: 7340032
//	200               one connection carries the rest of the stream, from any byte on
//
// The donor grants at most as many connections as were asked for. A donor of an earlier version
// ignores the header and answers with the stream, and a joiner that wants one connection does not
// send it: then every byte is that of the protocol without lanes.
//
// The proof is the same as with one connection: the trailers, which end every lane and must be
// equal, have the number of bytes and the XXH64 of the whole xbstream, and the joiner compares them
// with what it merged. The digest of a stripe only finds a wrong one before it is written.
//
// A lane whose connection breaks continues on another one at the stripe that is due. When that does
// not succeed within 10 seconds, or three times in a row before a stripe was whole, the joiner ends
// all lanes and continues with one connection, from the byte that it needs; there are no lanes any
// more then. So the lanes add no way to lose a clone. A lane that all others have overtaken by a
// stripe for 10 seconds gets another connection, once for each stripe; after that it is one
// connection as well. What breaks one connection for good, such as a donor that stalls, breaks all.
//
//	every lane has a connection ◀───▶ some lane has none
//	             │                           │
//	             │            no success     ▼
//	             │                    one connection
//	             ▼                           │
//	           whole ◀───────────────────────┘
//
// Memory is bounded by the ring of the donor, which is as large as with one connection: its writer
// waits for the joiner's reports, so at most the ring is under way, wherever it is. The joiner has
// two stripes for each lane, and reads no more before the one that is due is there.
//
// What each side checks:
//
//	the joiner   the number of connections: at most as many as it asked for
//	             each answer: the stream, the lane, the position, the encoding that it asked for
//	             each frame: exactly the position that is due in this lane, 1 byte to 1 MiB; so a
//	             stripe out of range, twice, or overlapping another one ends the clone
//	             each stripe: its digest; a wrong one ends the clone
//	             the end: no stripe after a short one, nothing more in any lane, equal trailers
//	the donor    the peer: a lane is given only to the key, and in the name of the member, with
//	             which the clone was begun, and who knows its id of 128 random bits
//	             the lane: less than was granted; a second connection of a lane ends the first one
//	             the position: the beginning of a stripe of the lane, within the ring
//	             reports: none for --stall-timeout ends the connections, as with one
//
// A hostile joiner can so get no more than it may get anyway: the clone that it was given, at most
// [MaxConnections] connections at a time for each slot, and its own clone spoilt if it reports what
// it does not have. A hostile donor can send anything in a stream, with lanes or without; it cannot
// make a joiner take more memory, nor take a stream for whole that is not the one it proves.
//
// # Raw
//
// Raw is the Kubernetes tutorial's way: whoever connects gets one xbstream. DialRaw takes such
// streams; SniffRaw and Server.ServeRaw give them. Both are off unless the operator enables them.
package wire
