package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"understudy/replicate"
)

// previousPassword is the help of the flags for the password before the current one.
const previousPassword = "`file` with the password before that, while it is rotated; it may be missing or empty. Until\n" +
	"all members have the new one, the account has both (MariaDB, MySQL 8.0.14 and later).\n" +
	"To rotate: 1. make the new password the current one and the old one the previous;\n" +
	"2. when all members have that, and are ready, remove the previous."

// replicationPassword is read anew whenever it is needed.
func (v *sidecarVerb) replicationPassword() (string, error) {
	password, err := readPassword(v.replicationPasswordFile)
	if err != nil {
		return "", err
	}
	if err := replicate.CheckPassword(v.member.flavor, password); err != nil {
		return "", fmt.Errorf("--replication-password-file=%s: %w", v.replicationPasswordFile, err)
	}
	return password, nil
}

// replicationPasswordPrevious is empty when there is none.
func (v *sidecarVerb) replicationPasswordPrevious() (string, error) {
	password, err := readPrevious(v.replicationPasswordFilePrevious)
	if err != nil {
		return "", err
	}
	if err := replicate.CheckPassword(v.member.flavor, password); err != nil {
		return "", fmt.Errorf("--replication-password-file-previous=%s: %w", v.replicationPasswordFilePrevious, err)
	}
	return password, nil
}

// adminPasswordPrevious is nil without the flag: then the account is left alone.
func (v *sidecarVerb) adminPasswordPrevious() func() (string, error) {
	if v.adminPasswordFilePrevious == "" {
		return nil
	}
	return func() (string, error) { return readPrevious(v.adminPasswordFilePrevious) }
}

// readPrevious reads a password from a file that may be missing.
func readPrevious(path string) (string, error) {
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
