// Package faults is the fault matrix of clones: `make e2e-clone` breaks some hundreds of
// them, each at another place, and checks what must follow. Its tests are built with the
// tag faults only.
//
// Whatever happens, a clone ends as one of these, and the tables say as which one:
//
//	complete   nobody noticed
//	resumed    the connection broke, and the stream went on over another one
//	restarted  the stream was lost, and init took another one from its beginning
//	refused    an exit code and a sentence that name what is wrong, and no file is left
//	next run   the joiner was killed, and the next one found its way
//
// Most faults are done to a server that replays a recorded stream, which can lie as well;
// the others to a real donor under a writer. Between donor and joiner is a proxy that
// plays the network.
package faults
