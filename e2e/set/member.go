package set

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"understudy/e2e/process"
	"understudy/e2e/testserver"

	"github.com/go-sql-driver/mysql"
)

// Member is one pod, so to speak.
type Member struct {
	set     *Set
	Ordinal int
	// Host is where the server, the clones and the health checks listen.
	Host string
	// Dir holds the volume, the configuration and the logs.
	Dir, Volume, Config string
	// Scripts is a folder of scripts for /docker-entrypoint-initdb.d; empty: there are none.
	// NoMarks says that it is mounted there alone, without what the manifests put beside it.
	Scripts string
	NoMarks bool
	// Before are words before each of the member's commands: a program that starts them.
	Before []string
	// Server is nil while it does not run.
	Server *testserver.Server

	sidecar *process.Process
}

// Name is the pod's.
func (m *Member) Name() string { return fmt.Sprintf("%s-%d", name, m.Ordinal) }

func (m *Member) runSocket() string { return filepath.Join(m.Dir, "run.sock") }

// Live is the data directory.
func (m *Member) Live() string { return filepath.Join(m.Volume, "mysql") }

func (m *Member) memberFlags() []string {
	return []string{
		"--flavor=" + m.set.cfg.Install.Flavor, "--pod-name=" + m.Name(), "--volume=" + m.Volume, "--peer-host=" + m.set.cfg.Hosts,
		"--secret-file=" + m.set.SecretFile(), "--config-dir=" + m.Config,
	}
}

// InitFlags are the arguments of `understudy init` for this member.
func (m *Member) InitFlags() []string {
	flags := append([]string{"init", "--bootstrap"}, m.memberFlags()...)
	flags = append(flags, "--clone-listen="+m.Host+":3307", "--health-listen="+m.Host+":9307")
	return append(flags, m.set.cfg.InitFlags...)
}

// MakeDirs makes what the kubelet would.
func (m *Member) MakeDirs() error {
	for _, dir := range []string{m.Volume, m.Config} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("make the directories of %s: %w", m.Name(), err)
		}
	}
	return nil
}

// StartInit starts the init container, and does not wait for its end.
func (m *Member) StartInit() (*process.Process, error) {
	if err := m.MakeDirs(); err != nil {
		return nil, err
	}
	log, err := m.openLog("init.log")
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own handle
	cmd := m.command(m.InitFlags())
	cmd.Stdout, cmd.Stderr = log, log
	return process.Start(cmd, false)
}

func (m *Member) command(args []string) *exec.Cmd { return m.before(m.set.command(nil, args)) }

// before puts Before before a command.
func (m *Member) before(cmd *exec.Cmd) *exec.Cmd {
	if len(m.Before) == 0 {
		return cmd
	}
	words := slices.Concat(m.Before, cmd.Args)
	with := exec.Command(words[0], words[1:]...) //nolint:noctx // as in Set.command
	with.Env = cmd.Env
	return with
}

// Init runs the init container. env are further variables, NAME=value.
func (m *Member) Init(ctx context.Context, env []string, more ...string) (Run, error) {
	if err := m.MakeDirs(); err != nil {
		return Run{}, err
	}
	r, err := call(ctx, m.before(m.set.command(env, append(m.InitFlags(), more...))))
	if err != nil {
		return r, err
	}
	return r, m.log("init.log", r.Stderr)
}

func (m *Member) log(file, text string) error {
	f, err := m.openLog(file)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Close())
}

func (m *Member) openLog(file string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(m.Dir, file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a log of %s: %w", m.Name(), err)
	}
	return f, nil
}

// StartServer starts the server's container, whose entrypoint makes the data directory first when
// there is none. Its error may be the container's end: the next call starts the restarted
// container.
func (m *Member) StartServer(ctx context.Context) error {
	in := m.set.cfg.Install
	scripts, err := m.scripts()
	if err != nil {
		return err
	}
	image := testserver.Entrypoint{
		Installation: in, DataDir: m.Live(), RootPassword: rootPassword, ConfDir: m.Config, Scripts: scripts, LogFile: filepath.Join(m.Dir, "image.log"),
	}
	if err := image.Run(ctx); err != nil {
		return fmt.Errorf("start the server of %s: %w", m.Name(), err)
	}
	var run []string
	if m.set.cfg.Run {
		run = []string{m.set.cfg.Binary, "run", "--socket=" + m.runSocket(), "--"}
	}
	m.Server, err = in.Start(ctx, testserver.Config{
		Run:     slices.Concat(m.Before, run),
		DataDir: m.Live(), Addr: m.Host, ConfDir: m.Config, LogFile: filepath.Join(m.Dir, "server.log"),
		RootPassword: rootPassword, Detach: m.set.cfg.Detach, TLS: m.set.tls,
	})
	return err
}

// scripts makes the folder that the manifests mount at /docker-entrypoint-initdb.d: the marks that
// the sidecar waits for, and the member's own scripts between them. Without the marks it is the
// folder of the member's own.
func (m *Member) scripts() (string, error) {
	if m.NoMarks {
		return m.Scripts, nil
	}
	marks, err := testserver.Repository("manifests", "base", "initdb")
	if err != nil {
		return "", err
	}
	joined := filepath.Join(m.Dir, "initdb")
	links := map[string]string{"-understudy-begin.sh": filepath.Join(marks, "begin.sh"), "zzzz-understudy-end.sh": filepath.Join(marks, "end.sh")}
	if m.Scripts != "" {
		own, err := os.ReadDir(m.Scripts)
		if err != nil {
			return "", fmt.Errorf("read the scripts of %s: %w", m.Name(), err)
		}
		for _, e := range own {
			links[e.Name()] = filepath.Join(m.Scripts, e.Name())
		}
	}
	if err := errors.Join(os.RemoveAll(joined), os.Mkdir(joined, 0o750)); err != nil {
		return "", fmt.Errorf("make the scripts of %s: %w", m.Name(), err)
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(joined, name)); err != nil {
			return "", fmt.Errorf("make the scripts of %s: %w", m.Name(), err)
		}
	}
	return joined, nil
}

// StopServer stops the server cleanly. It is no error when none runs.
func (m *Member) StopServer(ctx context.Context) error {
	if m.Server == nil {
		return nil
	}
	err := m.Server.Stop(ctx)
	m.Server = nil
	return err
}

// KillServer ends the server as a crash does. It is no error when none runs.
func (m *Member) KillServer() {
	if m.Server != nil {
		m.Server.Kill()
		m.Server = nil
	}
}

// StartSidecar starts the sidecar; it does not wait for it.
func (m *Member) StartSidecar(more ...string) error {
	flags := append([]string{"sidecar"}, m.memberFlags()...)
	flags = append(
		flags, "--server="+m.Host+":3306", "--clone-listen="+m.Host+":3307", "--health-listen="+m.Host+":9307",
		"--admin-password-file="+m.set.path("root"), "--replication-password-file="+m.set.ReplicationPasswordFile(), "--interval=200ms",
		"--sidecar-password-file="+m.set.SidecarPasswordFile(), "--clone-password-file="+m.set.ClonePasswordFile(),
		// Many servers at once on a small machine: only the test of the limit keeps to the default.
		"--max-commit-block=1m",
	)
	if m.set.cfg.Run {
		flags = append(flags, "--run-socket="+m.runSocket())
	}
	cmd := m.command(append(append(flags, m.set.cfg.SidecarFlags...), more...))
	log, err := m.openLog("sidecar.log")
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own handle
	cmd.Stdout, cmd.Stderr = log, log
	m.sidecar, err = process.Start(cmd, m.set.cfg.Detach)
	return err
}

// Sidecar is the sidecar's process; nil when none was started.
func (m *Member) Sidecar() *process.Process { return m.sidecar }

// ErrSidecar is returned when a sidecar did not end as it should.
var ErrSidecar = errors.New("the sidecar did not end well")

// StopSidecar ends the sidecar as the kubelet does, and checks that it ended well. It is
// no error when none runs.
func (m *Member) StopSidecar(ctx context.Context) error {
	p := m.sidecar
	if p == nil {
		return nil
	}
	m.sidecar = nil
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.Exited():
	case <-ctx.Done():
		p.Kill()
	}
	if err := p.Err(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSidecar, m.Name(), err)
	}
	return nil
}

// KillSidecar ends the sidecar with SIGKILL.
func (m *Member) KillSidecar() {
	if m.sidecar != nil {
		m.sidecar.Kill()
		m.sidecar = nil
	}
}

// Get asks the sidecar's health port.
func (m *Member) Get(ctx context.Context, path string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.Host+":9307"+path, http.NoBody)
	if err != nil {
		return 0, "", fmt.Errorf("ask %s: %w", m.Name(), err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("ask %s: %w", m.Name(), err)
	}
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, strings.TrimSpace(string(text)), errors.Join(err, res.Body.Close())
}

// AwaitReady returns when /readyz says so, or with what it says when ctx ends. It does not wait for
// a sidecar that has ended by itself.
func (m *Member) AwaitReady(ctx context.Context) error {
	return m.await(ctx, "ready", func() (bool, string) {
		status, body, err := m.Get(ctx, "/readyz")
		if err != nil {
			body = err.Error()
		}
		return status == http.StatusOK, body
	})
}

// Await polls until ok, and fails with the last word when ctx ends.
func (m *Member) await(ctx context.Context, what string, ok func() (bool, string)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var ended <-chan struct{}
	if m.sidecar != nil {
		ended = m.sidecar.Exited()
	}
	for {
		done, word := ok()
		if done {
			return nil
		}
		select {
		case <-ended:
			text, err := os.ReadFile(filepath.Join(m.Dir, "sidecar.log"))
			return fmt.Errorf("wait for %s to be %s: %w: %s", m.Name(), what, errors.Join(ErrSidecar, err), Run{Stderr: string(text)}.LastLine())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s to be %s: %w: %s", m.Name(), what, ctx.Err(), word)
		case <-tick.C:
		}
	}
}

// Up brings the member up from whatever is on its volume and waits until it is ready.
func (m *Member) Up(ctx context.Context) error {
	r, err := m.Init(ctx, nil)
	if err != nil {
		return err
	}
	if r.Code != 0 {
		return fmt.Errorf("init of %s ended with %d: %s", m.Name(), r.Code, r.LastLine())
	}
	if err := m.StartSidecar(); err != nil {
		return err
	}
	if err := m.StartServer(ctx); err != nil {
		return err
	}
	return m.AwaitReady(ctx)
}

// Journal is what the volume's journal says.
type Journal struct {
	Phase  string `json:"phase"`
	ID     string `json:"id"`
	Donor  string `json:"donor"`
	Origin struct {
		Mode string `json:"mode"`
		Of   string `json:"of"`
		GTID string `json:"gtid"`
	} `json:"origin"`
}

// Journal reads the volume's journal.
func (m *Member) Journal() (Journal, error) {
	var j Journal
	text, err := os.ReadFile(filepath.Join(m.Volume, ".understudy", "journal"))
	if err != nil {
		return j, fmt.Errorf("read the journal of %s: %w", m.Name(), err)
	}
	if err := json.Unmarshal(text, &j); err != nil {
		return j, fmt.Errorf("read the journal of %s: %w", m.Name(), err)
	}
	return j, nil
}

// Execute executes statements on one connection of the member's server: all of them again, some times,
// where the sidecar has undone what the first of them did, before the next one came.
func (m *Member) Execute(ctx context.Context, statements ...string) error {
	conn, err := m.Server.DB().Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", m.Name(), err)
	}
	defer func() { _ = conn.Close() }()
	for range 20 {
		again := false
		for i, text := range statements {
			if _, err = conn.ExecContext(ctx, text); err != nil {
				again = i > 0 && undone(err)
				err = fmt.Errorf("%s: %s: %w", m.Name(), text, err)
				break
			}
		}
		if !again {
			break
		}
	}
	return err
}

// undone reports whether a statement failed because replication runs (ER_SLAVE_MUST_STOP, or on
// MySQL ER_REPLICA_CHANNEL_MUST_STOP or ER_REPLICA_CHANNEL_IO_THREAD_MUST_STOP), or because the server
// is read-only (ER_OPTION_PREVENTS_STATEMENT).
func undone(err error) bool {
	failed, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && slices.Contains([]uint16{1198, 1290, 3021, 3081}, failed.Number)
}
