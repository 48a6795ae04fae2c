package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// versionTimeout bounds a call that only prints a version.
const versionTimeout = 10 * time.Second

// ErrPairing is returned when the tool does not suit the server.
var ErrPairing = errors.New("the backup tool does not match the server")

// maxParallel is how many threads a backup reads with, where nobody says: they share the donor's
// disk and cores with its server.
const maxParallel = 4

// parallel is how many threads a backup reads with: n, or for 0 one for each core that this process
// may use, but no more than maxParallel.
func parallel(n int) int {
	if n > 0 {
		return n
	}
	return min(runtime.GOMAXPROCS(0), maxParallel)
}

// Account is how a tool logs in to the server, and the server's role.
type Account struct {
	// Replica says that the server replicates, so its copy needs the source's coordinate.
	Replica bool

	// Host and Port are where the server listens; a tool runs beside it. The engine clone takes the
	// path of a socket as Host, too.
	Host string
	Port int
	// Socket is the path of the server's socket; empty: it is not known. Only the engine clone uses
	// it, for the server's data, and Host and Port where that fails.
	Socket   string
	User     string
	Password string
	// TLS configures connections to the server; nil for a server without TLS.
	TLS *tls.Config
}

// askVersion returns the output of the tool's --version, on stdout or stderr.
func askVersion(ctx context.Context, program string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "--version").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: ask %s for its version: %w", ErrTool, program, err)
	}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: %w", ErrUnable, err)
	}
	return string(out), err
}

// backupTool is a tool that makes a backup.
type backupTool struct {
	log     *slog.Logger
	account Account
	// options are the text of its option file, and args makes its arguments from the paths of that
	// file and of a working directory.
	options []byte
	args    func(options, work string) []string
	// read finds stages in its log, which are passed to reached.
	read    func(line string) Stage
	reached func(Stage)
}

// start starts the tool in the empty directory dir, which gets the option file, which only this
// account can read, and the working directory.
func (b backupTool) start(ctx context.Context, dir string) (*Process, error) {
	options := filepath.Join(dir, "client.cnf")
	if err := os.WriteFile(options, b.options, 0o600); err != nil {
		return nil, fmt.Errorf("write the tool's option file: %w", err)
	}
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		return nil, fmt.Errorf("make the tool's working directory: %w", err)
	}
	awaitNoTemporary(ctx, b.log, b.account)
	s := &session{account: b.account, log: b.log}
	heard := func(line string) {
		if stage := b.read(line); stage != "" {
			s.look()
			b.reached(stage)
		}
	}
	return child{argv: b.args(options, work), stdout: true, heard: heard, session: s}.start(ctx, b.log)
}

// optionFile renders the account and more lines as a group of options, quoted as in
// https://dev.mysql.com/doc/refman/8.4/en/option-files.html
func optionFile(group string, a Account, more ...string) []byte {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`)
	lines := append([]string{
		"[" + group + "]",
		fmt.Sprintf(`host="%s"`, quote.Replace(a.Host)),
		fmt.Sprintf(`port=%d`, a.Port),
		fmt.Sprintf(`user="%s"`, quote.Replace(a.User)),
		fmt.Sprintf(`password="%s"`, quote.Replace(a.Password)),
	}, more...)
	return []byte(strings.Join(lines, "\n") + "\n")
}

// runPrepare returns when the tool has prepared the copy in dir.
func runPrepare(ctx context.Context, log *slog.Logger, dir string, argv []string, memory int64) error {
	if err := restrict(dir, log); err != nil {
		return fmt.Errorf("prepare the copy: %w", err)
	}
	p, err := child{argv: argv}.start(ctx, log)
	if err != nil {
		return err
	}
	if err := p.Wait(); err != nil {
		return fmt.Errorf("prepare the copy with %d MiB of memory: %w", memory>>20, err)
	}
	return nil
}
