// Package wire is the clone protocol between members: HTTP/1.1 on port 3307, over TLS 1.3 unless
// the operator asked for less.
//
//	GET    /v1/clone     one xbstream; what it is in the headers, that it is whole in the trailers
//	GET    /v1/clone/ID  the same stream again, from the offset that the header Understudy-Offset names
//	PUT    /v1/clone/ID  reports that the joiner lives, and has all bytes before Understudy-Offset
//	DELETE /v1/clone/ID  ends that stream at once
//	GET    /v1/member    facts about this member, as JSON
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
// Raw is the Kubernetes tutorial's way: whoever connects gets one xbstream. DialRaw takes such
// streams; SniffRaw and Server.ServeRaw give them. Both are off unless the operator enables them.
package wire
