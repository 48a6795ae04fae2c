package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// programName is the program's name where it is installed.
const programName = "understudy"

// install copies this program into a directory, for the server's container. What is there is
// replaced by a rename: a process that runs it goes on.
func install(dir string) (err error) {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("open this program: %w", err)
	}
	defer from.Close()
	to, err := os.CreateTemp(dir, "."+programName+"-")
	if err != nil {
		return fmt.Errorf("install the program: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(to.Name())
		}
	}()
	_, err = io.Copy(to, from)
	if err == nil {
		err = to.Chmod(0o755) // the server's container may run it as another user
	}
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("install the program: %w", err)
	}
	if err = os.Rename(to.Name(), filepath.Join(dir, programName)); err != nil {
		return fmt.Errorf("install the program: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("install the program: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
