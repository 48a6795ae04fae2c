// Package dictionary says which files of a data directory a server's own dictionary names. It is a
// leaf: who asks the server fills it, and who knows the volume compares.
package dictionary

// CompleteMark is the file by which a person says that a data directory which others have filled is
// complete although files are missing that the dictionary names. It is empty.
const CompleteMark = ".understudy-complete"

// Dictionary is what a server says of the files in its data directory. Paths are relative to that,
// with slashes, and as the server writes names: "shop/caf@0t.ibd".
type Dictionary struct {
	// Tablespaces are files of InnoDB.
	Tablespaces []string
	// Defined are paths without the .frm: of InnoDB's tables, and of those that every server has.
	// Where such a one has had another name, both stand there: "mysql/global_priv|mysql/user".
	Defined []string
	// Definitions says that each table, and each view, has a file .frm: on MariaDB, and on MySQL
	// before 8.0. InnoDB are InnoDB's tables then, also those in the system tablespace.
	Definitions bool
	InnoDB      []string
	// Others are tables of other engines, where no .frm tells of them.
	Others []Table
}

// Table is a table by its name as people write it.
type Table struct{ Schema, Name, Engine string }

// Lost are files that the dictionary names, by their paths.
type Lost struct {
	// Absent are not there, Short are shorter than they themselves, or their kind, say.
	Absent, Short []string
}
