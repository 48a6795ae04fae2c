package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// flagSet is pflag's, with an environment variable for every flag.
type flagSet struct {
	*pflag.FlagSet
	out io.Writer
	// about is the first part of the help.
	about string
	// also names a second variable of some flags, which is read after our own.
	also map[string]string
}

func newFlagSet(name string, out io.Writer) *flagSet {
	f := &flagSet{FlagSet: pflag.NewFlagSet(name, pflag.ContinueOnError), out: out, also: map[string]string{}}
	f.SortFlags = false
	f.Usage = func() {}
	f.SetOutput(io.Discard)
	return f
}

// alsoFrom gives a flag a second variable, one that Kubernetes manifests commonly set, such as
// POD_NAME.
func (f *flagSet) alsoFrom(flag, variable string) { f.also[flag] = variable }

func envName(flag string) string {
	return "UNDERSTUDY_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// parse reads the flags, and the environment for those that were not given.
func (f *flagSet) parse(args []string, lookup func(string) (string, bool)) (help bool, err error) {
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			f.help()
			return true, nil
		}
		return false, fmt.Errorf("%w; see understudy %s --help", err, f.Name())
	}
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Changed {
			return
		}
		for _, name := range []string{envName(flag.Name), f.also[flag.Name]} {
			value, ok := lookup(name)
			if name == "" || !ok {
				continue
			}
			if setErr := f.Set(flag.Name, value); setErr != nil {
				err = errors.Join(err, fmt.Errorf("read %s: %w", name, setErr))
			}
			return
		}
	})
	return false, err
}

func (f *flagSet) help() {
	var b strings.Builder
	b.WriteString(f.about)
	b.WriteString("\nFlags, each with its environment variable:\n")
	f.VisitAll(func(flag *pflag.Flag) {
		kind, text := pflag.UnquoteUsage(flag)
		short := ""
		if flag.Shorthand != "" {
			short = "-" + flag.Shorthand + ", "
		}
		if kind != "" {
			kind = " " + kind
		}
		fmt.Fprintf(&b, "  %s--%s%s\n        %s\n        [%s", short, flag.Name, kind, strings.ReplaceAll(text, "\n", "\n        "), envName(flag.Name))
		if also := f.also[flag.Name]; also != "" {
			b.WriteString(", " + also)
		}
		b.WriteString("]")
		if flag.DefValue != "" && flag.DefValue != "false" {
			b.WriteString(" (default " + flag.DefValue + ")")
		}
		b.WriteString("\n")
	})
	b.WriteString("\n" + exitHelp)
	_, _ = io.WriteString(f.out, b.String())
}

// logFlags choose how a verb logs.
type logFlags struct {
	level, format string
}

func (l *logFlags) define(f *flagSet) {
	f.StringVar(&l.level, "log-level", "info", "`level` of the log: debug, info, warn or error")
	f.StringVar(&l.format, "log-format", "auto", "`format` of the log: json, text, or auto: text on a terminal")
}

func (l *logFlags) validate() error {
	if err := new(slog.Level).UnmarshalText([]byte(l.level)); err != nil {
		return fmt.Errorf("--log-level=%s: it must be debug, info, warn or error", l.level)
	}
	switch l.format {
	case "auto", "json", "text":
		return nil
	}
	return fmt.Errorf("--log-format=%s: it must be json, text or auto", l.format)
}

// logger makes the verb's logger. Call it after validate.
func (l *logFlags) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l.level)) // checked by validate
	opts := &slog.HandlerOptions{Level: level}
	if l.format == "text" || l.format == "auto" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
