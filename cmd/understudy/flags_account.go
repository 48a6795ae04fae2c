package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"understudy/replicate"
)

// previousPassword is the help of the flags for the password before the current one. sidecarAbout
// says how to rotate.
const previousPassword = "`file` with the previous password during a rotation; may be missing or empty"

// replicationPassword reads the file at each use.
func (v *sidecarVerb) replicationPassword() (string, error) {
	return v.checkedPassword("--replication-password-file", v.replicationPasswordFile, readPassword)
}

// replicationPasswordPrevious is empty when there is none.
func (v *sidecarVerb) replicationPasswordPrevious() (string, error) {
	return v.checkedPassword("--replication-password-file-previous", v.replicationPasswordFilePrevious, readOptional)
}

// checkedPassword reads the file of a flag and checks that the server takes such a password.
func (v *sidecarVerb) checkedPassword(flag, path string, read func(string) (string, error)) (string, error) {
	password, err := read(path)
	if err != nil {
		return "", err
	}
	if err := replicate.CheckPassword(v.member.id.Flavor, password); err != nil {
		return "", fmt.Errorf("%s=%s: %w", flag, path, err)
	}
	return password, nil
}

// accountFlags name an account of the member's own server and its passwords.
type accountFlags struct{ user, passwordFile, passwordFilePrevious string }

func (a *accountFlags) define(f *flagSet, name, user, account, file string) {
	f.StringVar(&a.user, name+"-user", user, account)
	f.StringVar(&a.passwordFile, name+"-password-file", "", file)
	f.StringVar(&a.passwordFilePrevious, name+"-password-file-previous", "", previousPassword)
}

// administrator is the account of --admin-user. Its password is changed only if there is a flag for
// the previous one.
func (a *accountFlags) administrator() replicate.Login {
	login := replicate.Login{User: a.user, Password: func() (string, error) { return readPassword(a.passwordFile) }}
	if a.passwordFilePrevious != "" {
		login.Previous = func() (string, error) { return readOptional(a.passwordFilePrevious) }
	}
	return login
}

// made is an account that the primary's sidecar creates. Its file may be missing, because a set's
// Secret may be older than the account.
func (a *accountFlags) made(log *slog.Logger) replicate.Login {
	if a.passwordFile == "" {
		return replicate.Login{}
	}
	if _, err := os.Stat(a.passwordFile); errors.Is(err, fs.ErrNotExist) {
		log.Info("an account has no password yet: the administrator is used instead", "account", a.user, "file", a.passwordFile)
	}
	return replicate.Login{
		User:     a.user,
		Password: func() (string, error) { return readOptional(a.passwordFile) },
		Previous: func() (string, error) { return readOptional(a.passwordFilePrevious) },
	}
}

// readOptional reads a password from a file that may be missing: then there is none.
func readOptional(path string) (string, error) {
	password, err := readPassword(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return password, err
}

// readPassword reads a password and trims its trailing newlines. Without a path there
// is none.
func readPassword(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read a password: %w", err)
	}
	return string(bytes.TrimRight(text, "\r\n")), nil
}
