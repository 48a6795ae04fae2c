// Package wire is the clone protocol between members: HTTP/1.1, over TLS 1.3 unless
// the operator asked for less, on port 3307.
//
//	GET    /v1/clone     one xbstream; what it is in the headers, that it is whole in the trailers
//	GET    /v1/clone/ID  the same stream again, from the offset that the header Understudy-Offset names
//	PUT    /v1/clone/ID  reports that the joiner lives, and has all bytes before Understudy-Offset
//	DELETE /v1/clone/ID  ends that stream at once
//	GET    /v1/member    facts about this member, as JSON
//
// A stream is complete only when its trailers say so: exit status 0 of the tool that
// made it, the number of bytes and their XXH64. xbstream itself has no mark for the
// end of an archive.
//
// A stream outlives its connection. The donor keeps the last bytes of what it sent (see
// replay), and a joiner whose connection breaks goes on where it was, as long as both
// processes live and it comes back in time. Offsets count bytes as they travel, after
// the encoding; the number of bytes and the digest of the trailers count the xbstream.
//
// The joiner reports, on a connection of its own, how much has arrived. The donor never has more
// under way than it keeps, whatever the hops between the two buffer, and a joiner whose
// volume stalls keeps its clone for as long as it reports. A joiner of an earlier version does not
// report: it must take a byte in time, and the donor keeps what both kernels can hold.
//
// Beside it there is Raw, the Kubernetes tutorial's way: one xbstream to whoever connects,
// and nothing else. DialRaw takes such streams, SniffRaw and Server.ServeRaw give them, and
// both only when the operator has said so.
package wire
