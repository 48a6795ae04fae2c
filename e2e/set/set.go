// Package set runs a replicated set on this machine as Kubernetes would: for each
// member a volume, the real binary as init container and as sidecar, and a real server
// between them. Tests and the demonstration use it.
package set

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"understudy/e2e/process"
	"understudy/e2e/testserver"
)

// Config says what a set is made of.
type Config struct {
	// Binary is the understudy program.
	Binary string
	// Install is the server. Its flavour is the set's.
	Install testserver.Installation
	// Dir gets a directory for each member.
	Dir string
	// Hosts is the template of the members' addresses, with {ordinal}. Default: one that no other
	// set of this program uses.
	Hosts string
	// InitFlags and SidecarFlags are added to every call.
	InitFlags, SidecarFlags []string
	// Run has each server started by understudy run.
	Run bool
	// Command, when set, makes the commands of the program.
	Command func(program string, args ...string) *exec.Cmd
	// Detach lets the members go on after this program's end.
	Detach bool
}

// Set is a number of members of one set.
type Set struct {
	cfg     Config
	tls     bool
	members map[int]*Member
}

const (
	name         = "db"
	rootPassword = "root-of-the-set"
)

var hosts atomic.Int64

// New makes the directories, the secrets and nothing else.
func New(cfg Config) (*Set, error) {
	if cfg.Hosts == "" {
		// Each set has ten addresses of the program's own part of loopback.
		cfg.Hosts = fmt.Sprintf("%s.%d{ordinal}", testserver.Network(), 1+hosts.Add(1)%24)
	}
	s := &Set{cfg: cfg, members: map[int]*Member{}}
	for _, secret := range []struct{ file, text string }{
		{"secret", random()}, {"root", rootPassword}, {"replication", random()[:32]}, // the most that MySQL takes
		{"sidecar", random()}, {"clone", random()},
	} {
		if err := os.WriteFile(s.path(secret.file), []byte(secret.text+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("make the secrets: %w", err)
		}
	}
	return s, nil
}

func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return hex.EncodeToString(b)
}

func (s *Set) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

// Hosts is the template of the members' addresses.
func (s *Set) Hosts() string { return s.cfg.Hosts }

// Host is the address of a member.
func (s *Set) Host(ordinal int) string {
	return strings.ReplaceAll(s.cfg.Hosts, "{ordinal}", strconv.Itoa(ordinal))
}

// Install is the servers' installation.
func (s *Set) Install() testserver.Installation { return s.cfg.Install }

// SecretFile is the file with the set's secret.
func (s *Set) SecretFile() string { return s.path("secret") }

// ReplicationPasswordFile is the file with the password of the replication account.
func (s *Set) ReplicationPasswordFile() string { return s.path("replication") }

// SidecarPasswordFile is the file with the password of the sidecar's account.
func (s *Set) SidecarPasswordFile() string { return s.path("sidecar") }

// ClonePasswordFile is the file with the password of the account that makes backups.
func (s *Set) ClonePasswordFile() string { return s.path("clone") }

// UseBinary has what is started from now on be this program.
func (s *Set) UseBinary(path string) { s.cfg.Binary = path }

// UseTLS has the tests' own connections use TLS where a server has it, from its next start on.
func (s *Set) UseTLS() { s.tls = true }

// RootPassword is that of every server.
func (s *Set) RootPassword() string { return rootPassword }

// Member is one member; it is made when it is asked for first.
func (s *Set) Member(ordinal int) *Member {
	if m := s.members[ordinal]; m != nil {
		return m
	}
	dir := s.path(fmt.Sprintf("%s-%d", name, ordinal))
	m := &Member{set: s, Ordinal: ordinal, Host: s.Host(ordinal), Dir: dir, Volume: filepath.Join(dir, "volume"), Config: filepath.Join(dir, "conf.d")}
	s.members[ordinal] = m
	return m
}

// Down stops all processes of the set cleanly, as the deletion of its pods does, replicas first. It
// returns what went wrong.
func (s *Set) Down(ctx context.Context) error {
	var errs []error
	for _, o := range slices.Backward(slices.Sorted(maps.Keys(s.members))) {
		errs = append(errs, s.members[o].StopSidecar(ctx), s.members[o].StopServer(ctx))
	}
	return errors.Join(errs...)
}

// End stops the sidecars cleanly and kills the servers, whose data are not needed any more: a clean
// shutdown of MySQL takes seconds. It returns what went wrong.
func (s *Set) End(ctx context.Context) error {
	var errs []error
	for _, m := range s.members {
		errs = append(errs, m.StopSidecar(ctx))
	}
	for _, m := range s.members {
		m.KillServer()
	}
	return errors.Join(errs...)
}

// Log is what a process of a member has written.
type Log struct {
	Path string
	Text []byte
}

// Tail is the end of the log, for messages.
func (l Log) Tail() []byte {
	const most = 6000
	return l.Text[max(0, len(l.Text)-most):]
}

// Logs reads the logs of all members.
func (s *Set) Logs() ([]Log, error) {
	paths, err := filepath.Glob(s.path("*/*.log"))
	if err != nil {
		return nil, fmt.Errorf("find the logs: %w", err)
	}
	var logs []Log
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read a log: %w", err)
		}
		logs = append(logs, Log{path, text})
	}
	return logs, nil
}

// Run is how a call of the binary ended.
type Run struct {
	Code   int
	Stdout string
	Stderr string
}

// LastLine is the last line of its stderr.
func (r Run) LastLine() string {
	lines := strings.Split(strings.TrimSpace(r.Stderr), "\n")
	return lines[len(lines)-1]
}

// Call runs the binary to its end.
func (s *Set) Call(ctx context.Context, env []string, args ...string) (Run, error) {
	return call(ctx, s.command(env, args))
}

func call(ctx context.Context, cmd *exec.Cmd) (Run, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	p, err := process.Start(cmd, false)
	if err != nil {
		return Run{}, err
	}
	select {
	case <-p.Exited():
	case <-ctx.Done():
		p.Signal(syscall.SIGTERM)
		<-p.Exited()
	}
	return Run{Code: p.Cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}, nil
}

// command puts the server's own tools first in the PATH, as its image does.
func (s *Set) command(env, args []string) *exec.Cmd {
	cmd := exec.Command(s.cfg.Binary, args...) //nolint:noctx // process.Start's children end in other ways
	cmd.Env = os.Environ()
	if s.cfg.Command != nil {
		cmd = s.cfg.Command(s.cfg.Binary, args...)
	}
	cmd.Env = append(cmd.Env, "PATH="+s.cfg.Install.Bin+":"+os.Getenv("PATH"))
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// Pids are the processes of the set that run.
func (s *Set) Pids() []int {
	var pids []int
	for _, m := range s.members {
		if m.sidecar != nil {
			pids = append(pids, m.sidecar.Pid())
		}
		if m.Server != nil {
			pids = append(pids, m.Server.Pid())
		}
	}
	slices.Sort(pids)
	return pids
}
