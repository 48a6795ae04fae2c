package replicate

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"
)

// crowd takes all of a server's connections, and goes on trying to get more, as clients do that
// wait for a primary. The function that it returns sends it away.
func (m *member) crowd(t *testing.T) (leave func()) {
	t.Helper()
	m.server.DB().SetMaxIdleConns(-1)
	db, err := m.server.Open("client", secret)
	if err != nil {
		t.Fatal(err)
	}
	var held []*sql.Conn
	for {
		conn, err := db.Conn(t.Context())
		if full(err) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var crowd sync.WaitGroup
	for range 4 {
		crowd.Go(func() {
			for ctx.Err() == nil {
				if conn, err := db.Conn(ctx); err == nil {
					_ = conn.Close()
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return sync.OnceFunc(func() {
		cancel()
		crowd.Wait()
		for _, conn := range held {
			_ = conn.Close()
		}
		_ = db.Close()
	})
}

// Clients that have all connections, and wait for a primary to open, do not keep out the sidecar
// that opens it.
func TestTooManyConnections(t *testing.T) {
	for name := range installations {
		t.Run(name, func(t *testing.T) {
			m := lone(t, name, SemiSyncOff)
			m.steps(t, MakeAccount, MarkAttached, OpenForWrites, Rest)
			m.run(t, "CREATE USER client@'127.%' IDENTIFIED BY '"+secret+"'")
			m.extra = append(m.extra, "--max-connections=12")
			m.reboot(t)
			leave := m.crowd(t)
			defer leave()
			m.steps(t, OpenForWrites, Rest)
			m.agent.logins.mu.Lock()
			in := m.agent.logins.in.user
			m.agent.logins.mu.Unlock()
			if in != sidecarUser {
				t.Errorf("it is in as %s", in)
			}
			// It keeps what it has.
			m.agent.logins.logInAnew(t.Context())
			for range 20 {
				if step, err := m.agent.turn(t.Context()); step != Rest || err != nil {
					t.Fatalf("%s, %v, %+v", step, err, m.agent.Status().Action)
				}
			}
			leave()
			m.steps(t, Rest)
		})
	}
}
