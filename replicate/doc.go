// Package replicate keeps a member in its role: the primary open for writes, every other member a
// running replica of the primary.
//
// It is one level-triggered loop: observe the server (Facts), decide (Decide, a pure function below
// its table), act. A restart of the server, of this program, or of both is only another
// observation.
package replicate
