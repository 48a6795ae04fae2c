package mysqlwire

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/e2e/testserver"

	"github.com/go-sql-driver/mysql"
)

// Every way to log in: with and without TLS, when the server has cached the proof and when it has
// not.
func TestLogin(t *testing.T) {
	s, a := startServer(t)
	execute(t, s.DB(), "CREATE USER backup IDENTIFIED BY 'pass word'", "GRANT BACKUP_ADMIN ON *.* TO backup",
		"CREATE USER nothing IDENTIFIED BY ''", "CREATE USER old IDENTIFIED WITH sha256_password BY 'pass word'", "CREATE USER bare IDENTIFIED WITH sha256_password BY ''", "CREATE USER secure IDENTIFIED BY 'pass word' REQUIRE SSL", "CREATE USER fresh IDENTIFIED BY 'pass word'")
	secured := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a server of the test's
	tests := []struct {
		user, password string
		tls            *tls.Config
		socket         bool
		number         uint16 // of the server's error; 0: none
	}{
		{"backup", "pass word", nil, false, 0}, // the server asks for the password
		{"backup", "pass word", nil, false, 0}, // it has the proof
		{"backup", "wrong", nil, false, 1045},
		{"backup", "", nil, false, 1045},
		{"nothing", "", nil, false, 0},
		{"secure", "pass word", nil, false, 1045},
		{"secure", "pass word", secured, false, 0},
		{"secure", "wrong", secured, false, 1045},
		{"old", "pass word", nil, false, 0},
		{"old", "wrong", nil, false, 1045},
		{"old", "pass word", secured, false, 0},
		{"bare", "", nil, false, 0},
		{"old", "pass word", nil, true, 0},
		{"fresh", "pass word", nil, true, 0}, // over a socket the server takes the password itself
		{"fresh", "wrong", nil, true, 1045},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.user, " ", tt.password, " ", tt.tls != nil, " ", tt.socket), func(t *testing.T) {
			account := Account{Address: a.Address, User: tt.user, Password: tt.password, TLS: tt.tls}
			if tt.socket {
				account.Address = s.Socket()
			}
			c, id, err := login(t.Context(), account, time.Minute)
			if tt.number != 0 {
				if e, ok := errors.AsType[*mysql.MySQLError](err); !ok || e.Number != tt.number {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || id == 0 {
				t.Fatal(id, err)
			}
			if err := errors.Join(c.query("SET @a = 1"), c.net.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("only what is secure", func(t *testing.T) {
		execute(t, s.DB(), "SET GLOBAL require_secure_transport = ON")
		defer execute(t, s.DB(), "SET GLOBAL require_secure_transport = OFF")
		account := Account{Address: a.Address, User: "backup", Password: "pass word"}
		if _, _, err := login(t.Context(), account, time.Minute); err == nil || !strings.Contains(err.Error(), "require_secure_transport") {
			t.Errorf("error %v", err)
		}
		account.TLS = secured
		if err := clone(t.Context(), account, 1, newCounter(nil)); err != nil {
			t.Error(err)
		}
		account.TLS, account.Address = nil, s.Socket()
		if err := clone(t.Context(), account, 1, newCounter(nil)); err != nil {
			t.Error(err)
		}
	})
	t.Run("on this host", func(t *testing.T) {
		execute(t, s.DB(), "FLUSH PRIVILEGES") // it forgets the proofs
		local := Account{Address: a.Address, User: "backup", Password: "pass word", TLS: secured, Local: true}
		over := func(account Account) bool {
			t.Helper()
			c, _, err := login(t.Context(), account, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			_, tls := c.net.(*tls.Conn)
			_ = c.net.Close()
			return tls
		}
		if !over(local) {
			t.Error("the password went out in clear")
		}
		if over(local) {
			t.Error("TLS, though the server has the proof")
		}
		strict := local
		strict.User = "secure"
		if !over(strict) {
			t.Error("an account that asks for TLS came in without")
		}
		execute(t, s.DB(), "SET GLOBAL require_secure_transport = ON")
		defer execute(t, s.DB(), "SET GLOBAL require_secure_transport = OFF")
		if !over(local) {
			t.Error("a server that asks for TLS let somebody in without")
		}
		old := local
		old.User = "old"
		if !over(old) {
			t.Error("sha256_password sends the password always")
		}
		local.Password = "wrong"
		if _, _, err := login(t.Context(), local, time.Minute); err == nil {
			t.Error("a wrong password opens")
		}
	})
	t.Run("over the socket first", func(t *testing.T) {
		execute(t, s.DB(), "CREATE USER near@localhost IDENTIFIED BY 'pass word'", "GRANT BACKUP_ADMIN ON *.* TO near@localhost",
			"CREATE USER far@'127.%' IDENTIFIED BY 'pass word'", "GRANT BACKUP_ADMIN ON *.* TO far@'127.%'")
		for _, tt := range []struct {
			user, socket string
			over         string // a part of why it is not over the socket
		}{
			{"near", s.Socket(), ""},
			{"far", s.Socket(), "Access denied for user 'far'@'localhost'"},
			{"far", s.Socket() + ".none", "no such file"},
		} {
			account := Account{Address: a.Address, User: tt.user, Password: "pass word", TLS: secured, Local: true, Socket: tt.socket}
			c, err := Open(t.Context(), account)
			if err != nil {
				t.Fatal(err)
			}
			sink := newCounter(nil)
			if err := errors.Join(c.Run(t.Context(), 2, sink), c.Close(t.Context())); err != nil || len(sink.bytes) == 0 {
				t.Error(tt.user, err)
			}
			if (c.NoSocket == nil) != (tt.over == "") || c.NoSocket != nil && !strings.Contains(c.NoSocket.Error(), tt.over) {
				t.Errorf("%s: over TCP, for: %v", tt.user, c.NoSocket)
			}
		}
	})
	t.Run("another plugin", func(t *testing.T) {
		if _, err := (Account{}).prove("authentication_ldap_simple", nil); !errors.Is(err, ErrPlugin) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("privilege", func(t *testing.T) {
		_, err := Open(t.Context(), Account{Address: a.Address, User: "nothing"})
		if e, ok := errors.AsType[*mysql.MySQLError](err); !ok || e.Number != 1227 {
			t.Errorf("error %v", err)
		}
	})
}

// MySQL 9.7 has no mysql_native_password any more; MariaDB has nothing else.
func TestNativePassword(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: no server is started")
	}
	in, err := testserver.MariaDB118(t.Context(), "")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir() + "/data"
	if err := in.Initialise(t.Context(), dir, password); err != nil {
		t.Fatal(err)
	}
	s, err := in.Start(t.Context(), testserver.Config{DataDir: dir, RootPassword: password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	a := Account{Address: net.JoinHostPort(s.Config().Addr, strconv.Itoa(s.Config().Port)), User: "root", Password: password}
	c, _, err := login(t.Context(), a, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.net.Close()
	a.Password = "wrong"
	if _, _, err := login(t.Context(), a, time.Minute); err == nil {
		t.Error("a wrong password opens")
	}
}
