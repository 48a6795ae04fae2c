// Package flavor names the server flavours and reads their version strings, and those of the backup
// tools that must match them.
package flavor

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Flavor is a family of servers that share one SQL dialect of replication.
type Flavor string

const (
	// MySQL is Oracle MySQL or Percona Server.
	MySQL Flavor = "mysql"
	// MariaDB is MariaDB Server.
	MariaDB Flavor = "mariadb"
)

// ErrUnknown is returned for a flavour or a version that cannot be read.
var ErrUnknown = errors.New("unknown flavor or version")

// Parse reads a flavour as it is written on the command line.
func Parse(s string) (Flavor, error) {
	switch f := Flavor(strings.ToLower(s)); f {
	case MySQL, MariaDB:
		return f, nil
	}
	return "", fmt.Errorf("%w: %q is neither mysql nor mariadb", ErrUnknown, s)
}

// Version is the version of a server or of a backup tool.
type Version struct {
	Flavor Flavor
	Major  int
	Minor  int
	Patch  int
}

var (
	numbers = regexp.MustCompile(`(\d+)\.(\d+)\.(\d+)`)
	// mariadb-backup: "mariadb-backup based on MariaDB server 10.11.18-MariaDB debian-linux-gnu
	// (x86_64)"
	mariadbTool = regexp.MustCompile(`based on MariaDB server (\S+)`)
	// xtrabackup: "xtrabackup version 8.0.35-31 based on MySQL server 8.0.35 Linux (x86_64)
	// (revision id: 55ec21d7)"
	xtraTool = regexp.MustCompile(`xtrabackup version \S+ based on MySQL server (\S+)`)
)

// ParseServer reads what a server says of itself in @@version, for example
// "10.11.18-MariaDB-0+deb12u1" or "9.7.4". A MariaDB server that speaks to old clients as
// "5.5.5-10.11.18-MariaDB" is read as 10.11.18.
func ParseServer(s string) (Version, error) {
	v := Version{Flavor: MySQL}
	if strings.Contains(strings.ToLower(s), "mariadb") {
		v.Flavor = MariaDB
		s = strings.TrimPrefix(s, "5.5.5-")
	}
	return v.number(s)
}

// ParseSeries reads a version of a flavour as people write it: "10.11", "10.11.18" or what
// ParseServer reads.
func ParseSeries(f Flavor, s string) (Version, error) {
	if strings.Count(s, ".") == 1 {
		s += ".0"
	}
	return Version{Flavor: f}.number(s)
}

// ParseMariaDBBackup reads what `mariadb-backup --version` prints.
func ParseMariaDBBackup(s string) (Version, error) {
	m := mariadbTool.FindStringSubmatch(s)
	if m == nil {
		return Version{}, fmt.Errorf("%w: no MariaDB version in %q", ErrUnknown, s)
	}
	return Version{Flavor: MariaDB}.number(m[1])
}

// ParseXtraBackup reads what `xtrabackup --version` prints: the version of MySQL that the tool was
// built on. That is what decides which servers it can copy; the tool's own number has not always
// been the same: 2.4 is built on 5.7, and 8.0.6 on 8.0.14.
func ParseXtraBackup(s string) (Version, error) {
	m := xtraTool.FindStringSubmatch(s)
	if m == nil {
		return Version{}, fmt.Errorf("%w: no MySQL version in %q", ErrUnknown, s)
	}
	return Version{Flavor: MySQL}.number(m[1])
}

func (v Version) number(s string) (Version, error) {
	m := numbers.FindStringSubmatch(s)
	if m == nil {
		return Version{}, fmt.Errorf("%w: no version number in %q", ErrUnknown, s)
	}
	for i, n := range []*int{&v.Major, &v.Minor, &v.Patch} {
		var err error
		if *n, err = strconv.Atoi(m[i+1]); err != nil {
			return Version{}, fmt.Errorf("%w: %q", ErrUnknown, s)
		}
	}
	return v, nil
}

// Series is the part of the version within which the data format stays the same in both directions:
// "10.11", "8.0", "9.7".
func (v Version) Series() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// String prints flavour and number: "mariadb 10.11.18".
func (v Version) String() string {
	return fmt.Sprintf("%s %d.%d.%d", v.Flavor, v.Major, v.Minor, v.Patch)
}

// AtLeast reports whether v is major.minor.patch or later, whatever its flavour.
func (v Version) AtLeast(major, minor, patch int) bool {
	return !v.Less(Version{Major: major, Minor: minor, Patch: patch})
}

// Less reports whether v's number comes before w's.
func (v Version) Less(w Version) bool {
	if v.Major != w.Major {
		return v.Major < w.Major
	}
	if v.Minor != w.Minor {
		return v.Minor < w.Minor
	}
	return v.Patch < w.Patch
}
