// Package testserver runs real database servers for tests and demonstrations: it finds the servers
// on this machine, makes data directories, and starts and stops server processes that cannot
// outlive the program that started them.
//
// packages.sh beside it brings the servers onto the machine.
package testserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// ErrNotInstalled is in the error when a server is not on this machine; the error's text says how
// to get it.
var ErrNotInstalled = errors.New("not installed")

// versionTimeout bounds the question to a server program about its version.
const versionTimeout = 20 * time.Second

// The flavours, as the program's --flavor wants them.
const (
	MariaDB = "mariadb"
	MySQL   = "mysql"
)

// Installation is one server installation on this machine: where its programs and files are.
type Installation struct {
	// Flavor is MariaDB or MySQL.
	Flavor string
	// Name is the flavour and the series: "mariadb-10.11".
	Name string
	// Version is the full version: "10.11.19-MariaDB-0+deb12u1".
	Version string
	// Bin is the folder of Client, Backup and Mbstream: put it first in the PATH of a program that
	// calls these by name.
	Bin string
	// Server, Client, Backup and Mbstream are the absolute paths of mariadbd, mariadb,
	// mariadb-backup and mbstream, or of mysqld and mysql, which have no backup tool beside them.
	Server, Client, Backup, Mbstream string
	// BaseDir is the server's basedir: what it finds its messages, character sets and plugins
	// below.
	BaseDir string
	// ShareDir is the folder of the server's SQL scripts, messages and character sets.
	ShareDir string
}

// WithOptions is the installation with a server that always has these options: a script in dir.
func (in Installation) WithOptions(dir string, options ...string) (Installation, error) {
	script := "#!/bin/sh\nexec " + in.Server + " \"$@\" " + strings.Join(options, " ") + "\n"
	in.Server = filepath.Join(dir, filepath.Base(in.Server))
	if err := os.WriteFile(in.Server, []byte(script), 0o700); err != nil { //nolint:gosec // it has to be executable
		return in, fmt.Errorf("give a server options: %w", err)
	}
	return in, nil
}

// All finds the installations that tests know, by name. A further version of a server is a row
// here.
var All = map[string]func(context.Context) (Installation, error){
	"mariadb-10.11": MariaDB1011,
	"mariadb-11.8":  func(ctx context.Context) (Installation, error) { return MariaDB118(ctx, "") },
	"mysql-9.7":     func(ctx context.Context) (Installation, error) { return MySQL97(ctx, "") },
}

// MariaDB1011 finds the MariaDB 10.11 whose programs are installed on the machine.
func MariaDB1011(ctx context.Context) (Installation, error) {
	const name = "mariadb-10.11"
	server, err := program("mariadbd")
	if err != nil {
		return Installation{}, notInstalled(name, err)
	}
	client, err := program("mariadb")
	if err != nil {
		return Installation{}, notInstalled(name, err)
	}
	return inspect(ctx, name, server, filepath.Dir(client), "/usr")
}

// MariaDB118 finds the MariaDB 11.8 that packages.sh unpacked below dir. With dir "" this is
// .cache/servers/mariadb-11.8 of the repository that the working directory is in.
func MariaDB118(ctx context.Context, dir string) (Installation, error) {
	const name = "mariadb-11.8"
	dir, err := unpacked(name, dir)
	if err != nil {
		return Installation{}, err
	}
	bin := filepath.Join(dir, "bin")
	return inspect(ctx, name, filepath.Join(bin, "mariadbd"), bin, filepath.Join(dir, "root", "usr"))
}

// MySQL97 finds the MySQL 9.7 that packages.sh unpacked below dir. With dir "" this is
// .cache/servers/mysql-9.7 of the repository that the working directory is in.
func MySQL97(ctx context.Context, dir string) (Installation, error) {
	const name = "mysql-9.7"
	dir, err := unpacked(name, dir)
	if err != nil {
		return Installation{}, err
	}
	bin, base := filepath.Join(dir, "bin"), filepath.Join(dir, "root", "usr")
	return Installation{
		Flavor: MySQL, Name: name, Bin: bin, Server: filepath.Join(bin, "mysqld"), Client: filepath.Join(bin, "mysql"),
		BaseDir: base, ShareDir: filepath.Join(base, "share", "mysql"),
	}.checked(ctx)
}

// unpacked is where packages.sh unpacked a server. Servers change their working directory, so it is
// absolute.
func unpacked(name, dir string) (string, error) {
	if dir == "" {
		dir = filepath.Join(cacheDir(), "servers", name)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	return dir, nil
}

// inspect completes an installation of MariaDB whose server program, other programs and basedir are
// known.
func inspect(ctx context.Context, name, server, bin, baseDir string) (Installation, error) {
	in := Installation{
		Flavor:   MariaDB,
		Name:     name,
		Bin:      bin,
		Server:   server,
		Client:   filepath.Join(bin, "mariadb"),
		Backup:   filepath.Join(bin, "mariadb-backup"),
		Mbstream: filepath.Join(bin, "mbstream"),
		BaseDir:  baseDir,
		ShareDir: filepath.Join(baseDir, "share", "mariadb"),
	}
	if _, err := os.Stat(in.ShareDir); err != nil { // the folder's name before 11
		in.ShareDir = filepath.Join(baseDir, "share", "mysql")
	}
	return in.checked(ctx)
}

// checked is the installation with its version, if it is all there and of the series that its name
// ends in.
func (in Installation) checked(ctx context.Context) (Installation, error) {
	paths := []string{in.Server, in.Client, in.ShareDir}
	if in.Flavor == MariaDB {
		paths = append(paths, in.Backup, in.Mbstream)
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			return Installation{}, notInstalled(in.Name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, in.Server, "--no-defaults", "--version").CombinedOutput()
	if err != nil {
		return Installation{}, fmt.Errorf("ask %s for its version: %w: %s", in.Server, err, out)
	}
	in.Version, err = parseVersion(string(out))
	if err != nil {
		return Installation{}, fmt.Errorf("ask %s for its version: %w", in.Server, err)
	}
	_, series, _ := strings.Cut(in.Name, "-")
	if !strings.HasPrefix(in.Version, series+".") {
		return Installation{}, notInstalled(in.Name, fmt.Errorf("%s is of version %s", in.Server, in.Version))
	}
	return in, nil
}

func notInstalled(name string, why error) error {
	return fmt.Errorf("find %s (install it with `make servers`): %w: %w", name, ErrNotInstalled, why)
}

// versionLine is what follows the program's path in the output of --version.
var versionLine = regexp.MustCompile(`\bVer (\d+\.\d+\.\d+\S*)`)

func parseVersion(line string) (string, error) {
	found := versionLine.FindStringSubmatch(line)
	if found == nil {
		return "", fmt.Errorf("no version in %q", line)
	}
	return found[1], nil
}

// program finds a program of the machine. Servers lie in folders that an ordinary user's PATH does
// not have.
func program(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	if err != nil {
		return "", fmt.Errorf("find program %s: %w", name, err)
	}
	return filepath.Abs(path)
}

// Repository is a path below the top of the repository that the working directory is in.
func Repository(elements ...string) (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		text, readErr := os.ReadFile(filepath.Join(dir, "go.mod"))
		if readErr == nil && strings.HasPrefix(string(text), "module understudy\n") {
			return filepath.Join(append([]string{dir}, elements...)...), nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("the working directory is not in the repository")
		}
		dir = filepath.Dir(dir)
	}
	return "", fmt.Errorf("find %s: %w", filepath.Join(elements...), err)
}

// cacheDir is the repository's .cache folder or, when the program runs outside the repository, one
// for this user among the temporary files.
func cacheDir() string {
	if dir, err := Repository(".cache"); err == nil {
		return dir
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("understudy-cache-%d", os.Getuid()))
}
