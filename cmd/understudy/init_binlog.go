package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"understudy/clone"
	"understudy/clone/volume"
	"understudy/cmd/understudy/internal/member"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// commonFile is the file of --config-from for all members.
const commonFile = "common.cnf"

// roleFile is the file of --config-from for a member's role.
func (v *initVerb) roleFile() string {
	if v.member.id.IsFirst() {
		return "primary.cnf"
	}
	return "replica.cnf"
}

// operatorFiles are the option files, by name, that the server will read beside ours: those of
// --config-from, and others in --config-dir.
func (v *initVerb) operatorFiles() (map[string][]byte, error) {
	files := map[string][]byte{}
	paths, err := filepath.Glob(filepath.Join(v.configDir, "*.cnf"))
	if err != nil {
		return nil, usageError{fmt.Errorf("read --config-dir: %w", err)}
	}
	for _, name := range []string{commonFile, v.roleFile()} {
		if v.configFrom != "" {
			paths = append(paths, filepath.Join(v.configFrom, name)) // which replaces the file there
		}
	}
	for _, path := range paths {
		name := filepath.Base(path)
		if name == defaultsFile || name == configFile {
			continue
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, usageError{fmt.Errorf("read the server's option files: %w", err)}
		}
		files[name] = text
	}
	return files, nil
}

// A server's binary logs may lie elsewhere than in its data directory. Only the operator's
// configuration says where, and ours comes after it, so what it says decides as follows:
//
//	data directory     the operator's log_bin         what is written
//	-----------------  -----------------------------  ------------------------------------------
//	it is adopted      names a directory              the same
//	it is adopted      none, and MariaDB's InnoDB     nothing: refused. The numbers of MariaDB's
//	                   knows of logs elsewhere        GTIDs would begin again
//	it has an index    names no directory, or none    the name that the index tells
//	it has none        names no directory             the same
//	any other          names a directory              bare: a copy of a member, or an empty
//	                                                  directory, must not meet old logs. It is said
//
// What was written for an adopted directory is kept in its journal. Relay logs are left to the
// operator's configuration.

// adoptBinlog finds the log_bin with which a directory that is to be adopted was written; empty
// where the directory itself tells it.
func (v *initVerb) adoptBinlog(m *member.Member, o *origin.Origin) (string, error) {
	files, err := v.operatorFiles()
	if err != nil {
		return "", err
	}
	options := parseFiles(files)
	told := options["log_bin"].value
	if strings.Contains(told, "/") {
		return told, nil
	}
	known, err := volume.BinlogBasename(m.Volume.Live(), relayIndexes(options)...)
	if err != nil || known != "" || told != "" || o != nil || m.Flavor != flavor.MariaDB {
		return "", err
	}
	last, err := volume.BinlogElsewhere(m.Volume.Live())
	if err != nil || last == "" {
		return "", err
	}
	return "", fmt.Errorf("%w: its server wrote its binary logs to %s, outside of the data directory, and no option file of --config-from or --config-dir sets log_bin; "+
		"with new binary logs the numbers of its GTIDs would begin again at 1, and replicas would take new transactions for old ones; "+
		"put log_bin=%s into %s, and mount that directory into the server's container; or, if the old logs are not needed and there are no replicas, put log_bin=%s there",
		clone.ErrRefused, last, strings.TrimSuffix(last, path.Ext(last)), commonFile, path.Base(strings.TrimSuffix(last, path.Ext(last))))
}

// binlog is the log_bin of our configuration, empty for the server's default.
func (v *initVerb) binlog(m *member.Member, journal *volume.Journal, own map[string][]byte) (string, error) {
	options := parseFiles(own)
	wanted, said := options["log_bin"]
	binlog := journal.Binlog
	if binlog == "" {
		var err error
		if binlog, err = volume.BinlogBasename(m.Volume.Live(), relayIndexes(options)...); err != nil {
			return "", err
		}
		if binlog == "" && !strings.Contains(wanted.value, "/") {
			binlog = wanted.value
		}
	}
	if said && wanted.value != "" && wanted.value != binlog {
		m.Log.Warn("log_bin of an option file is overridden", "file", wanted.file, "log_bin", wanted.value, "instead", binlog,
			"reason", "a data directory keeps its own binary logs, and a copy or an empty directory has them inside")
	}
	return binlog, nil
}

// relayIndexes are the possible names of relay log indexes in the data directory.
func relayIndexes(options map[string]given) []string {
	var names []string
	for _, option := range []string{"relay_log", "relay_log_index"} {
		if value := options[option].value; value != "" {
			name := path.Base(value)
			names = append(names, name, name+".index", strings.TrimSuffix(name, path.Ext(name))+".index")
		}
	}
	return names
}
