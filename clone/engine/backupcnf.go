package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"understudy/clone/volume"

	"golang.org/x/sys/unix"
)

// backupConfig is the option file of a copy, which prepare reads.
const backupConfig = "backup-my.cnf"

// layoutKeys are the options for the layout of a copy's files, as the tools write them over time.
var layoutKeys = []string{
	"innodb_checksum_algorithm", "innodb_log_checksum_algorithm", "innodb_log_checksums", "innodb_fast_checksum",
	volume.LayoutKey, "innodb_log_files_in_group", "innodb_log_file_size", "innodb_page_size", "innodb_log_block_size",
	"innodb_undo_directory", "innodb_undo_tablespaces", "innodb_compression_level", "innodb_buffer_pool_filename",
	"innodb_redo_log_encrypt", "innodb_undo_log_encrypt", "innodb_encrypt_log",
	"server_id", "server_uuid", "master_key_id", "redo_log_version",
}

const (
	keyPluginDir  = "plugin_dir"
	keyPluginLoad = "plugin_load"
)

// harmless matches the permitted values of such options: numbers, words, and files inside the copy.
var harmless = regexp.MustCompile(`^[A-Za-z0-9._:;#@$+-]*$`)

// providers are MariaDB's compression providers. Pages that one has compressed cannot be read
// without it: https://mariadb.com/kb/en/compression-plugins/
var providers = []string{"provider_bzip2", "provider_lz4", "provider_lzma", "provider_lzo", "provider_snappy"}

// restrict rewrites the option file of the copy in dir. The file comes from the donor, which must
// not choose what the prepare loads, reads and writes. Only the options for the layout stay.
func restrict(dir string, log *slog.Logger) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	text, err := root.ReadFile(backupConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // without the file, every tool refuses the copy
	}
	if err != nil {
		return fmt.Errorf("read the copy's settings: %w", err)
	}
	kept, dropped := restricted(string(text), trustedDir)
	if len(dropped) > 0 {
		log.Warn("settings that came with the copy are not used", "file", backupConfig, "settings", dropped)
	}
	if err := root.WriteFile(backupConfig, []byte(kept), 0); err != nil { // it exists, and keeps its mode
		return fmt.Errorf("write the copy's settings: %w", err)
	}
	return nil
}

// restricted returns the permitted part of an option file, and the names of the removed options.
// trusted says whether plugins may come from a directory.
func restricted(text string, trusted func(dir string) bool) (kept string, dropped []string) {
	lines := []string{"# Restricted by understudy to what says how the copy is laid out.", "[mysqld]"}
	group, pluginDir, plugins := "", "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			group = line
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case group != "[mysqld]":
			dropped = append(dropped, name)
		case name == keyPluginDir && trusted(strings.Trim(value, `"`)):
			pluginDir = line
		case name == keyPluginLoad && onlyProviders(value):
			plugins = line
		case !slices.Contains(layoutKeys, name):
			dropped = append(dropped, name)
		case name == "innodb_undo_directory": // the tools put these files into the copy's top directory
			lines = append(lines, name+"=./")
		case name == volume.LayoutKey && harmless.MatchString(flat(value)):
			lines = append(lines, name+"="+flat(value))
		case harmless.MatchString(value):
			lines = append(lines, name+"="+value)
		default:
			dropped = append(dropped, name)
		}
	}
	switch {
	case pluginDir != "" && plugins != "":
		lines = append(lines, pluginDir, plugins)
	case pluginDir != "":
		dropped = append(dropped, keyPluginDir)
	case plugins != "":
		dropped = append(dropped, keyPluginLoad)
	}
	return strings.Join(lines, "\n") + "\n", dropped
}

// flat removes the directories from innodb_data_file_path.
func flat(layout string) string {
	specs := strings.Split(layout, ";")
	for i, spec := range specs {
		path, size, _ := strings.Cut(spec, ":")
		specs[i] = filepath.Base(path) + ":" + size
	}
	return strings.Join(specs, ";")
}

// onlyProviders says whether a list of plugins, NAME=LIBRARY;…, has only compression providers.
func onlyProviders(list string) bool {
	for plugin := range strings.SplitSeq(list, ";") {
		name, library, _ := strings.Cut(plugin, "=")
		if !slices.Contains(providers, name) || library != name {
			return false
		}
	}
	return true
}

// trustedDir says whether only root can put a plugin into a directory of this container.
func trustedDir(dir string) bool {
	var st unix.Stat_t
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != strings.TrimRight(dir, "/") {
		return false
	}
	err := unix.Lstat(strings.TrimRight(dir, "/"), &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Uid == 0 && fs.FileMode(st.Mode)&0o022 == 0
}
