package set

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// WithProgram builds the program for a suite's tests, runs these, and removes the program. flags are
// those of go build. It returns the exit code of the suite's main function.
func WithProgram(run func(program string) int, flags ...string) int {
	dir, err := os.MkdirTemp("", "understudy-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, "understudy")
	args := append(append([]string{"build"}, flags...), "-o", program, "understudy/cmd/understudy")
	build := exec.CommandContext(context.Background(), "go", args...)
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the program under test:", err)
		return 1
	}
	return run(program)
}
