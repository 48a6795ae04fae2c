package replicate

import "testing"

// Only what certainly never leaves the host may go in clear.
func TestOnThisHost(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:3306": true, "127.3.2.1:3306": true, "[::1]:3306": true, "localhost:3306": true,
		"10.0.0.1:3306": false, "db-0.db:3306": false, "0.0.0.0:3306": false, "[::]:3306": false, "localhost.example:3306": false, "127.0.0.1": false,
	} {
		if got := onThisHost(address); got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
}
