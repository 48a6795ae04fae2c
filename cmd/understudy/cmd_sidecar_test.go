package main

import (
	"testing"

	"understudy/replicate/flavor"
)

// A socket is taken where something uses it.
func TestServerSocket(t *testing.T) {
	for _, tt := range []struct {
		flavor         flavor.Flavor
		engine, socket string
		ok             bool
	}{
		{flavor.MySQL, engineAuto, "", true},
		{flavor.MySQL, engineAuto, "/run/mysqld/mysqld.sock", true},
		{flavor.MySQL, "clone", "/run/mysqld/mysqld.sock", true},
		{flavor.MySQL, "clone", "mysqld.sock", false},
		{flavor.MySQL, "xtrabackup", "/run/mysqld/mysqld.sock", false},
		{flavor.MariaDB, engineAuto, "/run/mysqld/mysqld.sock", false},
	} {
		v := sidecarVerb{serverSocket: tt.socket}
		v.engine.name, v.member.id.Flavor = tt.engine, tt.flavor
		if err := v.validateSocket(); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

// One flag says on which port the servers listen.
func TestPorts(t *testing.T) {
	for _, tt := range []struct {
		server      string
		source, got int // 0: it is refused
	}{
		{"127.0.0.1:3306", 0, 3306},
		{"127.0.0.1:3316", 0, 3316},
		{"[::1]:3316", 3306, 3306},
		{"127.0.0.1", 0, 0},
		{"127.0.0.1:mysql", 0, 0},
		{"127.0.0.1:0", 0, 0},
		{"127.0.0.1:70000", 0, 0},
		{"127.0.0.1:3306", 70000, 0},
		{"127.0.0.1:3306", -1, 0},
	} {
		v := sidecarVerb{server: tt.server, sourcePort: tt.source}
		if err := v.validatePorts(); (err == nil) != (tt.got != 0) || err == nil && v.sourcePort != tt.got {
			t.Errorf("--server=%s --source-port=%d: port %d (%v), want %d", tt.server, tt.source, v.sourcePort, err, tt.got)
		}
	}
}
