package member

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"understudy/clone/wire"
)

// called is a member that answers by this name, and gives no clones.
type called struct {
	backups

	said wire.Member
}

func (c called) Member(context.Context) wire.Member { return c.said }

// asker asks members that are all at one address, where said answers.
func asker(t *testing.T, said wire.Member) *Member {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s := httptest.NewServer(wire.NewServer(called{said: said}, wire.ServerConfig{Slots: 1, Stall: time.Second, Log: log}).Handler())
	t.Cleanup(s.Close)
	host, digits, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatal(err)
	}
	return &Member{Identity: Identity{Set: "db", HostTemplate: host, Ordinal: 3}, Port: port, Log: log}
}

// A member counts once, whoever has the addresses of others by now.
func TestAskChecksTheName(t *testing.T) {
	m := asker(t, wire.Member{Name: "db-2", ServerID: 102, Received: "0-100-7"})
	all := m.Ask(t.Context(), []int{1, 2}, Asking{As: m.Name, Timeout: time.Minute})
	if p := all[0].peer(); !errors.Is(all[0].Err, wire.ErrOther) || p.HasData() || p.Silence == "" {
		t.Errorf("db-1: %+v", all[0])
	}
	if p := all[1].peer(); all[1].Err != nil || !p.HasData() || p.Received != "0-100-7" {
		t.Errorf("db-2: %+v", all[1])
	}
}

func TestIsOpen(t *testing.T) {
	for _, tt := range []struct {
		name string
		said wire.Member
		want bool
	}{
		{"open", wire.Member{Name: "db-0", Role: wire.Primary, Ready: true}, true},
		{"not open yet", wire.Member{Name: "db-0", Role: wire.Primary}, false},
		{"a replica", wire.Member{Name: "db-0", Role: wire.Replica, Ready: true}, false},
		{"somebody else", wire.Member{Name: "db-1", Role: wire.Primary, Ready: true}, false},
	} {
		if open, _ := asker(t, tt.said).IsOpen(t.Context(), "127.0.0.1"); open != tt.want {
			t.Errorf("%s: %t", tt.name, open)
		}
	}
	if open, err := asker(t, wire.Member{Name: "db-0", Role: wire.Primary, Ready: true}).IsOpen(t.Context(), "elsewhere"); open || err == nil {
		t.Errorf("a host that is no member's: %t, %v", open, err)
	}
}
