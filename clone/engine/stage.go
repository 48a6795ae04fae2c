package engine

import "strings"

// Stage is a stage of a backup, by its effect on the server.
type Stage string

const (
	// Copying blocks nothing.
	Copying Stage = "copying"
	// Waiting waits for a lock of another session.
	Waiting Stage = "waiting for a lock"
	// HoldingDDL blocks DDL, and writes to tables without transactions.
	HoldingDDL Stage = "holding off DDL"
	// HoldingCommits blocks commits, also while the lock is only waited for.
	HoldingCommits Stage = "holding off commits"
	// Finishing holds no lock.
	Finishing Stage = "finishing"
)

// stages are the words of mariadb-backup before each lock. Commits queue from the moment that it
// asks for the lock, so asking counts as holding.
//
// https://mariadb.com/kb/en/backup-stage/
var stages = []struct {
	words string
	stage Stage
}{
	{"Starting BACKUP STAGE START", Waiting},
	{"Acquired locks for BACKUP STAGE START", Copying},
	{"Started BACKUP STAGE BLOCK_DDL", Waiting},
	{"Acquired locks for BACKUP STAGE BLOCK_DDL", HoldingDDL},
	{"Starting BACKUP STAGE BLOCK_COMMIT", HoldingCommits},
	{"All tables unlocked", Finishing},
}

// inOneGo is the only line about locks of a tool before 10.11.8 and 11.4.2, which takes all of them
// at once. Later ones print it for the first lock, which blocks nothing.
const inOneGo = "Acquiring BACKUP LOCKS"

// stageReader reads the log of one backup.
type stageReader struct {
	stepwise bool // the tool takes its locks one by one
}

// read takes a line of the log. It returns nothing for a line that tells nothing.
func (r *stageReader) read(line string) Stage {
	if strings.Contains(line, "BACKUP STAGE") {
		r.stepwise = true
	}
	if !r.stepwise && strings.Contains(line, inOneGo) {
		return HoldingCommits
	}
	for _, s := range stages {
		if strings.Contains(line, s.words) {
			return s.stage
		}
	}
	return ""
}

// xtraStages reads the log of one backup of XtraBackup. It prints "Executing" and the statement
// before it waits for a lock, and nothing when it has the lock.
//
//   - LOCK INSTANCE FOR BACKUP, and on Percona Server LOCK TABLES FOR BACKUP, come before
//     anything is copied, from 8.0 on, and last until the end: DDL waits for as long as the
//     clone takes, whatever is done here, and commits do not wait. 2.4 takes the latter
//     after it has copied InnoDB's files, and holds it while it copies the others.
//   - FLUSH TABLES WITH READ LOCK, where there are tables of MyISAM, or a replica that
//     replicates by file and position, and no Percona Server; 2.4 always takes it there.
//     Before it FLUSH NO_WRITE_TO_BINLOG TABLES waits for statements that run long, and
//     whoever comes to their tables waits behind it.
//   - LOCK BINLOG FOR BACKUP, by 2.4 on Percona Server.
//   - performance_schema.log_status, from 8.0 on, is read within an instant.
//
// https://docs.percona.com/percona-xtrabackup/8.0/how-xtrabackup-works.html
// https://docs.percona.com/percona-server/8.0/backup-locks.html
type xtraStages struct {
	copying bool // the tool copies data
}

// read takes a line of the log. It returns nothing for a line that tells nothing.
func (r *xtraStages) read(line string) Stage {
	has := func(words string) bool { return strings.Contains(line, words) }
	switch {
	case has("Executing LOCK INSTANCE FOR BACKUP"), has("Executing LOCK TABLES FOR BACKUP"):
		if r.copying {
			return HoldingDDL
		}
		return Waiting
	case has("cd to ") && !r.copying:
		r.copying = true
		return Copying
	case has("Executing FLUSH NO_WRITE_TO_BINLOG TABLES"), has("Executing FLUSH TABLES WITH READ LOCK"), has("Executing LOCK BINLOG FOR BACKUP"):
		return HoldingCommits
	case has("All tables unlocked"):
		return Finishing
	}
	return ""
}
