package fence

import (
	"slices"
	"strings"
)

// String is how the server ended and which errors it printed last.
func (e End) String() string {
	if why := errorLines(e.Output); why != "" {
		return e.How + ": " + why
	}
	return e.How
}

// mostErrors is how many lines errorLines takes.
const mostErrors = 3

// errorLines are the last errors in a server's output, without their times. "Aborting" follows each
// of them.
func errorLines(lines []string) string {
	var errs []string
	for _, line := range slices.Backward(lines) {
		_, text, found := strings.Cut(line, "[ERROR] ")
		if !found || strings.HasSuffix(text, "Aborting") || slices.Contains(errs, text) {
			continue
		}
		if errs = append(errs, text); len(errs) == mostErrors {
			break
		}
	}
	slices.Reverse(errs)
	return strings.Join(errs, "; ")
}
