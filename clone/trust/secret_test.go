package trust

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
)

func TestSets(t *testing.T) {
	us := identity(t, "prod", "db", secret('a'))
	for _, tt := range []struct {
		name string
		peer *Identity
		want bool
	}{
		{"same secret", identity(t, "prod", "db", secret('a')), true},
		{"another secret", identity(t, "prod", "db", secret('b')), false},
		{"another set", identity(t, "prod", "db2", secret('a')), false},
		{"another namespace", identity(t, "test", "db", secret('a')), false},
		{"another set in the midst of the same rotation", identity(t, "prod", "db2", secret('b'), secret('a')), false},
		{"another namespace in the midst of the same rotation", identity(t, "test", "db", secret('b'), secret('a')), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, us, tt.peer, tt.want)
			check(t, tt.peer, us, tt.want)
		})
	}
}

func check(t *testing.T, server, client *Identity, want bool) {
	t.Helper()
	serverErr, clientErr := shake(t.Context(), server.Server(), client.Client())
	if got := serverErr == nil && clientErr == nil; got != want {
		t.Errorf("trusted = %v: server %v, client %v", got, serverErr, clientErr)
	}
	if !want {
		// Each of them must refuse, not only the one that looks first.
		if serverErr, _ := shake(t.Context(), server.Server(), blind(client.Client())); !errors.Is(serverErr, ErrUntrusted) {
			t.Errorf("the server lets the client in: %v", serverErr)
		}
		if !strings.HasSuffix(clientErr.Error(), "it does not hold this set's secret") {
			t.Errorf("the client says %v", clientErr)
		}
	}
}

// Whatever two members have as current and as previous secret, and whoever dials: they
// talk if and only if they have one in common.
func TestRotationTable(t *testing.T) {
	var states []string
	for _, current := range "abc" {
		states = append(states, string(current))
		for _, previous := range "abc" {
			states = append(states, string(current)+string(previous))
		}
	}
	of := func(state string) *Identity {
		var secrets [][]byte
		for _, c := range []byte(state) {
			secrets = append(secrets, secret(c))
		}
		return identity(t, "prod", "db", secrets...)
	}
	for _, server := range states {
		for _, client := range states {
			t.Run(server+" gives to "+client, func(t *testing.T) {
				check(t, of(server), of(client), strings.ContainsAny(server, client))
			})
		}
	}
}

// member is one with its secrets in a volume.
type member struct {
	volume
	*Identity
}

func newMember(t *testing.T, secrets string) member {
	t.Helper()
	v := newVolume(t, secretsOf(secrets))
	id, err := FromSecretFiles("prod", "db", SecretFiles{v.path("secret"), v.path("secret-previous")}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return member{v, id}
}

func secretsOf(state string) map[string]string {
	files := map[string]string{"secret": string(secret(state[0])) + "\n"}
	if len(state) > 1 {
		files["secret-previous"] = string(secret(state[1])) + "\n"
	}
	return files
}

// The secret is rotated over and over, in every order of the members, and taken back,
// while they talk: not one handshake fails.
func TestRotationWithoutDowntime(t *testing.T) {
	members := []member{newMember(t, "a"), newMember(t, "a"), newMember(t, "a")}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var (
		group errgroup.Group
		// A handshake is not to span two steps, which an operator does minutes apart.
		step sync.RWMutex
	)
	for i, server := range members {
		client := members[(i+1)%len(members)]
		group.Go(func() error {
			serverConfig, clientConfig := server.Server(), client.Client() // made once, as in a process
			for ctx.Err() == nil {
				step.RLock()
				serverErr, clientErr := shake(context.WithoutCancel(ctx), serverConfig, clientConfig)
				step.RUnlock()
				if serverErr != nil || clientErr != nil {
					return fmt.Errorf("server %w, client %w", serverErr, clientErr)
				}
			}
			return nil
		})
	}
	for round := range 3 {
		order := slices.Clone(members)
		for range round % 3 {
			order = append(order[1:], order[0])
		}
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, state := range []string{"ba", "b", "ab", "ba", "ab", "a"} {
			for _, m := range order {
				if err := m.swap(secretsOf(state)); err != nil {
					t.Fatal(err)
				}
				if serverErr, clientErr := shake(ctx, order[0].Server(), order[2].Client()); serverErr != nil || clientErr != nil {
					t.Fatalf("round %d, state %s: server %v, client %v", round, state, serverErr, clientErr)
				}
			}
			step.Lock()
			step.Unlock() //nolint:staticcheck // nothing is guarded: all handshakes of the step are over
		}
	}
	stop()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	stranger := newMember(t, "b")
	check(t, members[0].Identity, stranger.Identity, false) // what was removed opens nothing
}

func TestSecretFiles(t *testing.T) {
	good := string(secret('a'))
	for _, tt := range []struct {
		name  string
		files map[string]string
		peer  string // who is accepted then; empty: none at all
	}{
		{"current alone", map[string]string{"secret": good}, "a"},
		{"an empty previous one", map[string]string{"secret": good, "secret-previous": ""}, "a"},
		{"a previous one of newlines", map[string]string{"secret": good, "secret-previous": "\r\n\n"}, "a"},
		{"both", map[string]string{"secret": string(secret('b')), "secret-previous": good + "\n"}, "a"},
		{"newlines do not count", map[string]string{"secret": good[1:] + "\r\n\n"}, ""},
		{"a short one", map[string]string{"secret": "short\n"}, ""},
		{"a short previous one", map[string]string{"secret": good, "secret-previous": "short"}, ""},
		{"none", nil, ""},
		{"the previous one alone", map[string]string{"secret-previous": good}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newVolume(t, tt.files)
			id, err := FromSecretFiles("prod", "db", SecretFiles{v.path("secret"), v.path("secret-previous")}, quiet())
			if tt.peer == "" {
				if !errors.Is(err, ErrSecret) || !strings.Contains(err.Error(), "/dev/urandom") || strings.Contains(err.Error(), good) {
					t.Errorf("err = %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			check(t, id, identity(t, "prod", "db", secret(tt.peer[0])), true)
		})
	}
}

// What cannot be used is said once, and what was good stays in force.
func TestBrokenSecretKeepsTheLastGoodOne(t *testing.T) {
	v := newVolume(t, secretsOf("a"))
	log, lines := journal()
	id, err := FromSecretFiles("prod", "db", SecretFiles{v.path("secret"), v.path("secret-previous")}, log)
	if err != nil {
		t.Fatal(err)
	}
	a, b := identity(t, "prod", "db", secret('a')), identity(t, "prod", "db", secret('b'))
	for _, tt := range []struct {
		name  string
		files map[string]string
		peer  *Identity
		want  string // in the one line of the log
	}{
		{"half written", map[string]string{"secret": "bbbbbbbb"}, a, "holds 8 bytes"},
		{"half written, further", map[string]string{"secret": "bbbbbbbbb"}, a, "holds 9 bytes"},
		{"gone", nil, a, "no such file"},
		{"a broken previous one", map[string]string{"secret": string(secret('b')), "secret-previous": "a"}, a, "the previous secret"},
		{"whole", secretsOf("b"), b, "are used from now on"},
		{"empty", map[string]string{"secret": ""}, b, "holds 0 bytes"},
		{"as it was", secretsOf("b"), b, "are used from now on"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := v.swap(tt.files); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				check(t, id, tt.peer, true)
				check(t, tt.peer, id, true)
			}
			got := lines()
			if len(got) != 1 || !strings.Contains(got[0], tt.want) || strings.Contains(got[0], "bbbbbbbb") {
				t.Errorf("log:\n%s", strings.Join(got, "\n"))
			}
			if len(got) == 1 && strings.Contains(got[0], "level=WARN") != (tt.want != "are used from now on") {
				t.Errorf("level of %s", got[0])
			}
		})
	}
}

// A pipe, as of a shell's <(command), gives its secret once.
func TestSecretFromPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if _, err := w.Write(secret('a')); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	log, lines := journal()
	id, err := FromSecretFiles("prod", "db", SecretFiles{Current: fmt.Sprintf("/proc/self/fd/%d", r.Fd())}, log)
	if err != nil {
		t.Fatal(err)
	}
	check(t, id, identity(t, "prod", "db", secret('a')), true)
	if got := lines(); len(got) > 0 {
		t.Errorf("log: %q", got)
	}
}

func TestSecretsByHand(t *testing.T) {
	for _, secrets := range [][][]byte{{}, {[]byte("short")}, {secret('a'), []byte("short")}, {secret('a'), secret('b'), secret('c')}} {
		if _, err := FromSecrets("n", "s", secrets...); !errors.Is(err, ErrSecret) || !strings.Contains(err.Error(), "/dev/urandom") {
			t.Errorf("%d secrets: %v", len(secrets), err)
		}
	}
}
