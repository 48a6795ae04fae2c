// Package replicate makes a member what it has to be, and keeps it so: the primary
// open for writes, every other member a running replica of it.
//
// It is one level-triggered loop: observe the server (Facts), decide (Decide, a pure
// function under its table), act. A restart of the server, of this program or of both
// is only another observation.
package replicate
