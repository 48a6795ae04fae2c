package testserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// bootstrapTimeout bounds the making of the system tables, which takes less than a second on an idle machine.
	bootstrapTimeout = 2 * time.Minute
	// copyTimeout bounds the copying of a fresh data directory, which has some 80 MB.
	copyTimeout = time.Minute
)

// systemTables are the SQL scripts of ShareDir that mariadb-install-db runs, in its order. Their names begin with "mysql"
// before MariaDB 11 and with "mariadb" since.
var systemTables = []string{
	"*_system_tables.sql", "*_performance_tables.sql", "*_system_tables_data.sql",
	"fill_help_tables.sql", "maria_add_gis_sp_bootstrap.sql", "*_sys_schema.sql",
}

// Initialise makes dataDir, which must be empty or not there, a fresh data directory as the official image's entrypoint
// would: it has the system tables, and root may log in with rootPassword by the socket and from any address.
// The result of a first call is kept as a template, by version and password, which further calls copy.
func (in Installation) Initialise(ctx context.Context, dataDir, rootPassword string) error {
	if entries, err := os.ReadDir(dataDir); err == nil && len(entries) > 0 {
		return fmt.Errorf("initialise %s: it is not empty: %s", dataDir, entries[0].Name())
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("initialise: %w", err)
	}
	template, err := in.template(ctx, rootPassword)
	if err != nil {
		return fmt.Errorf("initialise %s: %w", dataDir, err)
	}
	if err := os.MkdirAll(dataDir, 0o750); err != nil {
		return fmt.Errorf("initialise: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", template+"/.", dataDir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("initialise %s: copy %s: %w: %s", dataDir, template, err, out)
	}
	return nil
}

// template returns the path of a data directory to copy and makes it if it is not there. Tests of several packages run
// at once, so the making is under a lock and ends with a rename.
func (in Installation) template(ctx context.Context, rootPassword string) (string, error) {
	script, err := in.bootstrapScript(rootPassword)
	if err != nil {
		return "", err
	}
	templates := filepath.Join(cacheDir(), "templates")
	if err := os.MkdirAll(templates, 0o700); err != nil {
		return "", fmt.Errorf("make template: %w", err)
	}
	key := sha256.Sum256(append([]byte(in.Version+defaults), script...))
	dir := filepath.Join(templates, fmt.Sprintf("%s-%x", in.Name, key[:6]))
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return "", fmt.Errorf("make template: %w", err)
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	making := dir + ".new"
	if err := errors.Join(os.RemoveAll(making), os.Mkdir(making, 0o750)); err != nil {
		return "", fmt.Errorf("make template: %w", err)
	}
	if err := in.bootstrap(ctx, making, script); err != nil {
		return "", errors.Join(fmt.Errorf("make template: %w", err), os.RemoveAll(making))
	}
	if err := os.Rename(making, dir); err != nil {
		return "", fmt.Errorf("make template: %w", err)
	}
	return dir, nil
}

// lock waits for the lock file and returns what releases it.
func lock(path string) (func(), error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
	}
	return func() { _ = file.Close() }, nil // closing releases it
}

// bootstrapScript is what a server in bootstrap mode is given to make the system tables and root's accounts.
// That mode wants each statement to end at the end of a line.
func (in Installation) bootstrapScript(rootPassword string) ([]byte, error) {
	var script bytes.Buffer
	script.WriteString("CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n")
	for _, pattern := range systemTables {
		paths, err := filepath.Glob(filepath.Join(in.ShareDir, pattern))
		if err != nil || len(paths) != 1 {
			return nil, fmt.Errorf("find %s in %s: %d files (%w)", pattern, in.ShareDir, len(paths), err)
		}
		text, err := os.ReadFile(paths[0])
		if err != nil {
			return nil, fmt.Errorf("read system tables: %w", err)
		}
		script.Write(text)
		script.WriteByte('\n')
	}
	password := "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(rootPassword) + "'"
	// The scripts make password-less roots for this host's name and addresses. Account statements work in bootstrap
	// mode once FLUSH PRIVILEGES has loaded the tables.
	for _, statement := range []string{
		"DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> 'localhost'",
		"DELETE FROM mysql.proxies_priv WHERE Host <> 'localhost'",
		"FLUSH PRIVILEGES",
		"ALTER USER root@localhost IDENTIFIED BY " + password,
		"CREATE USER root@'%' IDENTIFIED BY " + password,
		"GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION",
	} {
		script.WriteString(statement + ";\n")
	}
	return script.Bytes(), nil
}

// bootstrap runs the server once over an empty folder.
func (in Installation) bootstrap(ctx context.Context, dataDir string, script []byte) error {
	options, err := os.CreateTemp("", "understudy-*.cnf")
	if err != nil {
		return fmt.Errorf("write options: %w", err)
	}
	defer func() { _ = os.Remove(options.Name()) }()
	_, err = options.WriteString(defaults)
	if err := errors.Join(err, options.Close()); err != nil {
		return fmt.Errorf("write options: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, bootstrapTimeout)
	defer cancel()
	args := append(in.options(options.Name(), dataDir), "--bootstrap", "--log-warnings=0", "--max-allowed-packet=8M")
	cmd := exec.CommandContext(ctx, in.Server, args...)
	cmd.Stdin = bytes.NewReader(script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	server, err := start(cmd)
	if err != nil {
		return err
	}
	if <-server.exited; server.err != nil {
		return fmt.Errorf("run %s --bootstrap: %w: %s", in.Server, server.err, tail(out.Bytes()))
	}
	return nil
}
