package replicate

import "testing"

// A primary of MariaDB that has another server_id than before says nothing in gtid_current_pos of
// what it wrote until then, and a copy would begin again from there.
func TestReadyForBackup(t *testing.T) {
	for _, name := range []string{"mariadb-10.11", "mariadb-11.8"} {
		t.Run(name, func(t *testing.T) {
			p, r := openPair(t, name)
			p.run(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT)", "INSERT INTO d.t VALUES (0)")
			wrote := p.ask(t, "SELECT @@gtid_binlog_pos")
			p.settings.ServerID = 4100
			p.reboot(t)
			p.follow(t, nil)
			if says := p.ask(t, "SELECT @@gtid_current_pos"); says == wrote {
				t.Fatalf("the server says %s: nothing is shown", says)
			}
			ready := func(m *member, want string) {
				t.Helper()
				if err := m.agent.ReadyForBackup(t.Context()); err != nil {
					t.Error(err)
				}
				if says := m.ask(t, "SELECT @@gtid_current_pos"); says != want {
					t.Errorf("the server says %s, and has %s", says, want)
				}
			}
			ready(p, wrote)
			p.settle(t, Rest)
			p.run(t, "INSERT INTO d.t VALUES (1)")
			wrote = p.ask(t, "SELECT @@gtid_binlog_pos")
			ready(p, wrote)

			r.boot(t)
			r.follow(t, p)
			r.settle(t, Rest)
			r.arrives(t, rows, "0,1")
			r.arrives(t, "SELECT @@gtid_slave_pos", wrote) // a moment later
			ready(r, wrote)
		})
	}
}
