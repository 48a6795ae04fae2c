// Package faults is the fault matrix of clones: `make e2e-clone` disturbs about a thousand clones,
// each at another place, and checks the result. Its tests are built with the tag faults only.
//
// Each clone must end in one of these ways, and the tables say in which:
//
//	complete   the fault had no effect
//	resumed    the connection broke, and the stream continued over another one
//	restarted  the stream was lost, and init took another one from its beginning
//	refused    an exit code and a message that name the fault, and no file is left
//	next run   the joiner was killed, and the next one completed the clone
//
// Most faults hit a server that replays a recorded stream and can also lie; the others a real donor
// under a writer. A proxy between donor and joiner plays the network.
package faults
