package network

import (
	"net"
	"net/http"
	"testing"
)

// Serve answers with h on l until the test ends.
func Serve(t *testing.T, l net.Listener, h http.Handler) {
	t.Helper()
	server := &http.Server{Handler: h} //nolint:gosec // a test's server needs no timeouts
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Close
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}
