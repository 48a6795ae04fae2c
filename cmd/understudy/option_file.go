package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// given is an option that an option file of the operator sets.
type given struct {
	// value is empty for an option without a value.
	value string
	// file is the name of that file.
	file string
}

// serverGroup are the groups of an option file that a server reads, some of them with the
// series of its version.
//
// https://mariadb.com/kb/en/configuring-mariadb-with-option-files/#option-groups
// https://dev.mysql.com/doc/refman/8.4/en/option-files.html
var serverGroup = regexp.MustCompile(`^(mysqld|mariadbd?|server)(-\d+\.\d+)?$`)

// optionsIn reads the option files of a directory, except the named ones, in the server's order.
// The last value of an option counts. Option names have underscores, and no prefix loose_.
func optionsIn(dir string, but ...string) (map[string]given, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the server's option files: %w", err)
	}
	skip := map[string]bool{}
	for _, name := range but {
		skip[name] = true
	}
	all := map[string]given{}
	for _, e := range entries {
		if skip[e.Name()] || filepath.Ext(e.Name()) != ".cnf" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read the server's option files: %w", err)
		}
		parseOptions(string(text), e.Name(), all)
	}
	return all, nil
}

// parseFiles reads the texts of option files, by their names, as optionsIn does.
func parseFiles(files map[string][]byte) map[string]given {
	all := map[string]given{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		parseOptions(string(files[name]), name, all)
	}
	return all
}

// parseOptions adds the options of one file's text. Files that it includes are not read.
func parseOptions(text, file string, all map[string]given) {
	inServer := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if group, ok := strings.CutPrefix(line, "["); ok {
			group, _, _ = strings.Cut(group, "]")
			inServer = serverGroup.MatchString(strings.TrimSpace(group))
			continue
		}
		if !inServer || line == "" || strings.ContainsAny(line[:1], "#;!") {
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		name = strings.ToLower(strings.ReplaceAll(strings.TrimSpace(name), "-", "_"))
		all[strings.TrimPrefix(name, "loose_")] = given{value: optionValue(value), file: file}
	}
}

// optionValue is a value without its quotes, and without the comment behind it.
func optionValue(text string) string {
	text = strings.TrimSpace(text)
	if text != "" && strings.ContainsAny(text[:1], `'"`) {
		if value, _, ok := strings.Cut(text[1:], text[:1]); ok {
			return value
		}
	}
	text, _, _ = strings.Cut(text, "#")
	return strings.TrimSpace(text)
}

// isOn says that a boolean option is set.
func (g given) isOn() bool {
	switch strings.ToUpper(g.value) {
	case "", "1", "ON", "TRUE":
		return true
	}
	return false
}
