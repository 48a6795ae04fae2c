// Package engine drives the tools that make physical copies of a server's data.
package engine
