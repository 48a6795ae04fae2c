package testserver

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"understudy/e2e/process"

	"github.com/go-sql-driver/mysql"
)

const (
	// startTimeout bounds the time until a server answers, crash recovery included: seconds, but a
	// shared disk may stand for minutes. What a start may take is checked elsewhere.
	startTimeout = 5 * time.Minute
	// pollInterval is the time between two tries to reach a server that starts.
	pollInterval = 20 * time.Millisecond
	// dialTimeout bounds the connecting to a server; statements are bounded by their contexts.
	dialTimeout = 5 * time.Second
	// maxSocketPath is what the kernel has room for in a socket's address (unix(7)), less the
	// closing NUL.
	maxSocketPath = 107
	// tailBytes is how much of the end of a log goes into an error.
	tailBytes = 4096
)

// defaults are the options of a small server. Everything else may override them.
func (in Installation) defaults() string {
	text := `[mysqld]
innodb_buffer_pool_size = 64M
skip_name_resolve = ON
`
	if in.Flavor == MySQL {
		// What a clone is at stands in its performance schema: that stays on. The server takes 330
		// MiB with this, and 100 MiB more without the two lines about the log buffer and about
		// errors.
		return text + `innodb_redo_log_capacity = 32M
innodb_log_buffer_size = 4M
performance_schema_error_size = 0
table_open_cache = 400
table_definition_cache = 400
mysqlx = OFF
secure_file_priv = NULL
`
	}
	return text + `innodb_log_file_size = 32M
loose_aria_pagecache_buffer_size = 8M
performance_schema = OFF
`
}

// Config says how to start a server.
type Config struct {
	// DataDir is the data directory, made by Initialise or cloned from another server. Required.
	DataDir string
	// Addr is the address to listen on, of 127.0.0.0/8. Default: one that no other server of the
	// tests has.
	Addr string
	// Port is the TCP port. Default: 3306.
	Port int
	// ConfDir is a folder of option files (*.cnf) that the server reads after the defaults of this
	// package.
	ConfDir string
	// Socket is the path of the server's socket, of at most 107 bytes. Default: a file that goes
	// away with the server.
	Socket string
	// LogFile is the path of the error log, which is appended to. Default: a file that goes away
	// with the server.
	LogFile string
	// Run are words before the server's command: a program that starts it.
	Run []string
	// Extra are command-line options. They override everything else.
	Extra []string
	// Detach lets the server go on after this program's end.
	Detach bool
	// RootPassword is root's password, for DB. The server starts whether it is right or not.
	RootPassword string
	// TLS has DB and Open use TLS where the server has it.
	TLS bool
}

// Server is a running server process.
type Server struct {
	cfg             Config // as given, with the address and the port
	runDir          string
	socket, logFile string
	proc            *process.Process
	db              *sql.DB
	over            sync.Once // Stop and Kill: the first one decides
}

// Start starts a server and waits until it answers on TCP; the end of ctx ends only the waiting.
// The error of a server that does not come up has the end of its log. The server runs until Stop or
// Kill, and is killed when this program ends unless Detach says otherwise.
func (in Installation) Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Addr == "" {
		cfg.Addr = Address()
	}
	cfg.Port = cmp.Or(cfg.Port, 3306)
	runDir, err := os.MkdirTemp("", "understudy-")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", in.Name, err)
	}
	s := &Server{
		cfg:     cfg,
		runDir:  runDir,
		socket:  cmp.Or(cfg.Socket, filepath.Join(runDir, "s.sock")),
		logFile: cmp.Or(cfg.LogFile, filepath.Join(runDir, "error.log")),
	}
	if err := s.start(ctx, in); err != nil {
		s.Kill()
		return nil, fmt.Errorf("start %s on %s: %w", in.Name, s.hostPort(), err)
	}
	return s, nil
}

// options are the options without which the server finds neither its files nor its data. The option
// file must come first.
func (in Installation) options(optionFile, dataDir string) []string {
	options := []string{"--defaults-file=" + optionFile, "--basedir=" + in.BaseDir, "--datadir=" + dataDir}
	if in.Flavor == MySQL { // it looks elsewhere than Debian puts them
		options = append(options, "--lc-messages-dir="+in.ShareDir, "--character-sets-dir="+filepath.Join(in.ShareDir, "charsets"),
			"--plugin-dir="+filepath.Join(in.BaseDir, "lib", "mysql", "plugin"))
	}
	if os.Geteuid() == 0 {
		options = append(options, "--user=root")
	}
	return options
}

func (s *Server) start(ctx context.Context, in Installation) error {
	// The server changes its working directory.
	dataDir, err := filepath.Abs(s.cfg.DataDir)
	if err != nil {
		return fmt.Errorf("find the data directory: %w", err)
	}
	if len(s.socket) > maxSocketPath {
		return fmt.Errorf("socket path is longer than %d bytes: %s", maxSocketPath, s.socket)
	}
	if s.db, err = s.Open("root", s.cfg.RootPassword); err != nil {
		return err
	}
	if err := s.checkFree(ctx); err != nil {
		return err
	}
	text := in.defaults()
	if s.cfg.ConfDir != "" {
		text += "!includedir " + s.cfg.ConfDir + "\n"
	}
	optionFile := filepath.Join(s.runDir, "my.cnf")
	if err := os.WriteFile(optionFile, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write options: %w", err)
	}
	log, err := os.OpenFile(s.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }() // the server has its own handle

	args := append(in.options(optionFile, dataDir),
		"--bind-address="+s.cfg.Addr, "--port="+strconv.Itoa(s.cfg.Port), "--socket="+s.socket,
		"--pid-file="+filepath.Join(s.runDir, "pid"),
		// Servers that share one remove each other's temporary tables when they start.
		"--tmpdir="+s.runDir)
	// The server outlives ctx, which bounds the waiting only.
	words := slices.Concat(s.cfg.Run, []string{in.Server}, args, s.cfg.Extra)
	cmd := exec.CommandContext(context.WithoutCancel(ctx), words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if s.proc, err = process.Start(cmd, s.cfg.Detach); err != nil {
		return err
	}
	return s.await(ctx)
}

// checkFree fails if another program listens already: it would be taken for the server.
func (s *Server) checkFree(ctx context.Context) error {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", s.hostPort())
	if err != nil {
		return fmt.Errorf("check the address: %w", err)
	}
	return listener.Close()
}

// await waits until the server answers on TCP. A refused login is an answer: the password may be
// another server's.
func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := s.db.PingContext(ctx)
		if answer := (*mysql.MySQLError)(nil); err == nil || errors.As(err, &answer) {
			return nil
		}
		select {
		case <-s.proc.Exited():
			return fmt.Errorf("server ended with %s, its log ends:\n%s", s.proc.Cmd.ProcessState, s.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("wait for an answer: %w (last: %w), the log ends:\n%s", ctx.Err(), err, s.LogTail())
		case <-ticker.C:
		}
	}
}

// Stop tells the server to shut down and waits until it has. If ctx ends first, the server is
// killed. The error says if the shutdown was not a clean one, or the server had ended before. After
// a first Stop or Kill it does nothing.
func (s *Server) Stop(ctx context.Context) (err error) {
	s.over.Do(func() {
		err = s.shutDown(ctx)
		s.end()
	})
	return err
}

// ServerPid is the server's own process, where Config.Run has started it.
func (s *Server) ServerPid() (int, error) {
	text, err := os.ReadFile(filepath.Join(s.runDir, "pid"))
	if err != nil {
		return 0, fmt.Errorf("read the server's pid: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// Kill ends the server at once with SIGKILL, as a crash would, and waits until the process is gone.
// After a first Stop or Kill it does nothing.
func (s *Server) Kill() { s.over.Do(s.end) }

func (s *Server) shutDown(ctx context.Context) error {
	// MySQL sleeps two seconds while it has connections, idle ones too (close_connections in its
	// sql/mysqld.cc).
	s.db.SetMaxIdleConns(-1)
	s.proc.Signal(syscall.SIGTERM)
	select {
	case <-s.proc.Exited():
	case <-ctx.Done():
		return fmt.Errorf("stop server %d: %w, the log ends:\n%s", s.Pid(), ctx.Err(), s.LogTail())
	}
	if err := s.proc.Err(); err != nil {
		return fmt.Errorf("stop server %d: %w, its log ends:\n%s", s.Pid(), err, s.LogTail())
	}
	return nil
}

// end leaves nothing of the server but its data directory and the files that the caller has named.
func (s *Server) end() {
	if s.proc != nil {
		s.proc.Kill()
	}
	if s.db != nil {
		_ = s.db.Close()
	}
	_ = os.RemoveAll(s.runDir)
}

// Exited is closed when the server process has ended, for whatever reason.
func (s *Server) Exited() <-chan struct{} { return s.proc.Exited() }

// Pid is the server's process id.
func (s *Server) Pid() int { return s.proc.Pid() }

// Config is what the server was started with, address and port filled in: give it to Start to start
// the server again.
func (s *Server) Config() Config { return s.cfg }

// Socket is the path of the server's socket.
func (s *Server) Socket() string { return s.socket }

// DB is a pool of connections to the server as root. The server closes it when it stops.
func (s *Server) DB() *sql.DB { return s.db }

// Open makes a pool of connections over TCP for another user. The caller closes it.
func (s *Server) Open(user, password string) (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd = user, password
	cfg.Net, cfg.Addr = "tcp", s.hostPort()
	cfg.Timeout = dialTimeout
	if s.cfg.TLS {
		cfg.TLSConfig = "preferred"
	}
	cfg.InterpolateParams = true    // one round trip for a statement with arguments, not three
	cfg.Logger = &mysql.NopLogger{} // it would report on standard error every connection that a test cuts
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("open connections: %w", err)
	}
	return sql.OpenDB(connector), nil
}

// LogTail is the end of the server's error log, for messages. It is empty once the log has gone
// away with the server.
func (s *Server) LogTail() string {
	text, err := os.ReadFile(s.logFile)
	if err != nil {
		return ""
	}
	return string(tail(text))
}

func (s *Server) hostPort() string { return net.JoinHostPort(s.cfg.Addr, strconv.Itoa(s.cfg.Port)) }

// tail cuts text to its last lines.
func tail(text []byte) []byte {
	if len(text) > tailBytes {
		text = text[len(text)-tailBytes:]
		text = text[bytes.IndexByte(text, '\n')+1:]
	}
	return text
}

var addresses atomic.Int64

// Address returns an address of 127.0.0.0/8 that this program has not returned before and that
// programs running at the same time do not return, so that each server, and each process beside it,
// can have the usual ports. After 254 calls it begins again. None is of Network.
func Address() string { return network(0) + fmt.Sprintf(".%d", 1+(addresses.Add(1)-1)%254) }

// Network returns the first three bytes of this program's other addresses, for members of sets.
func Network() string { return network(127) }

func network(above int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d", above+1+pid/256%127, pid%256)
}
