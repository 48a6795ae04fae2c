package testserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"understudy/e2e/process"
)

// bootstrapTimeout bounds the making of the system tables, which takes less than a second on an
// idle machine, and minutes on a shared disk that stands.
const bootstrapTimeout = 5 * time.Minute

// systemTables are the SQL scripts of ShareDir that mariadb-install-db runs, in its order. Their
// names begin with "mysql" before MariaDB 11 and with "mariadb" since.
var systemTables = []string{
	"*_system_tables.sql", "*_performance_tables.sql", "*_system_tables_data.sql",
	"fill_help_tables.sql", "maria_add_gis_sp_bootstrap.sql", "*_sys_schema.sql",
}

// Initialise makes dataDir, which must be empty or not there, a fresh data directory: it has the
// system tables, and root may log in with rootPassword by the socket and from any address. It is
// the quick way to what Entrypoint makes without scripts, and leaves neither time zones nor the
// accounts of health checks.
func (in Installation) Initialise(ctx context.Context, dataDir, rootPassword string) error {
	if entries, err := os.ReadDir(dataDir); err == nil && len(entries) > 0 {
		return fmt.Errorf("initialise %s: it is not empty: %s", dataDir, entries[0].Name())
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("initialise: %w", err)
	}
	if err := os.MkdirAll(dataDir, 0o750); err != nil {
		return fmt.Errorf("initialise: %w", err)
	}
	begin := in.bootstrap
	if in.Flavor == MySQL {
		begin = in.initialize
	}
	if err := begin(ctx, dataDir, rootAccounts(rootPassword)); err != nil {
		return fmt.Errorf("initialise %s: %w", dataDir, err)
	}
	return nil
}

// bootstrapScript is what a server in bootstrap mode is given to make the system tables, and
// accounts. That mode wants each statement to end at the end of a line.
func (in Installation) bootstrapScript(accounts string) ([]byte, error) {
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
	// The scripts make password-less roots for this host's name and addresses. Account statements
	// work in bootstrap mode once FLUSH PRIVILEGES has loaded the tables.
	for _, statement := range []string{
		"DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> 'localhost'",
		"DELETE FROM mysql.proxies_priv WHERE Host <> 'localhost'",
		"FLUSH PRIVILEGES",
	} {
		script.WriteString(statement + ";\n")
	}
	script.WriteString(accounts)
	return script.Bytes(), nil
}

// rootAccounts lets root in from everywhere, one statement a line.
func rootAccounts(password string) string {
	password = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password) + "'"
	return "ALTER USER root@localhost IDENTIFIED BY " + password + ";\n" +
		"CREATE USER root@'%' IDENTIFIED BY " + password + ";\n" +
		"GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;\n"
}

// bootstrap has MariaDB make a data directory: it is given the statements on its standard input.
func (in Installation) bootstrap(ctx context.Context, dataDir, accounts string) error {
	script, err := in.bootstrapScript(accounts)
	if err != nil {
		return err
	}
	return in.once(ctx, dataDir, script, "--bootstrap", "--log-warnings=0", "--max-allowed-packet=8M")
}

// initialize has MySQL make a data directory.
func (in Installation) initialize(ctx context.Context, dataDir, accounts string) (err error) {
	file, err := os.CreateTemp("", "understudy-*.sql")
	if err != nil {
		return fmt.Errorf("make a file: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(file.Name())) }()
	_, err = file.WriteString(accounts)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write the accounts: %w", err)
	}
	return in.once(ctx, dataDir, nil, "--initialize-insecure", "--init-file="+file.Name())
}

// once runs the server over an empty folder until it ends by itself.
func (in Installation) once(ctx context.Context, dataDir string, stdin []byte, options ...string) error {
	// Servers that share a folder for temporary tables remove each other's when they start.
	tmp, err := os.MkdirTemp("", "understudy-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	optionFile := filepath.Join(tmp, "my.cnf")
	if err := os.WriteFile(optionFile, []byte(in.defaults()), 0o600); err != nil {
		return fmt.Errorf("write options: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, bootstrapTimeout)
	defer cancel()
	args := append(in.options(optionFile, dataDir), "--tmpdir="+tmp)
	cmd := exec.CommandContext(ctx, in.Server, append(args, options...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	server, err := process.Start(cmd, false)
	if err != nil {
		return err
	}
	if err := server.Err(); err != nil {
		return fmt.Errorf("run %s %s: %w: %s", in.Server, options[0], err, tail(out.Bytes()))
	}
	return nil
}
