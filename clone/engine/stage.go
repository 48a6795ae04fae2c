package engine

import "strings"

// Stage is what a backup is at, as far as it concerns the server that it copies.
type Stage string

const (
	// Copying disturbs nobody.
	Copying Stage = "copying"
	// Waiting is for a lock that somebody else holds.
	Waiting Stage = "waiting for a lock"
	// HoldingDDL lets no table be altered, and none without transactions be written.
	HoldingDDL Stage = "holding off DDL"
	// HoldingCommits lets no transaction commit.
	HoldingCommits Stage = "holding off commits"
	// Finishing holds nothing any more.
	Finishing Stage = "finishing"
)

// stages are the words with which mariadb-backup says what it is about to do. Commits
// queue up from the moment that it asks for the lock, so that asking counts as holding.
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

// allLocks is what the tool says before 10.11.8 and 11.4.2, where it takes all locks in one
// go. Later ones say it, too, when they ask for their first lock, which holds off nobody.
const allLocks = "Acquiring BACKUP LOCKS"

// stageReader reads the log of one run of the tool.
type stageReader struct {
	stepwise bool // the tool takes its locks one after the other
}

// stageOf reads a line. It is empty for a line that tells nothing.
func (r *stageReader) stageOf(line string) Stage {
	for _, s := range stages {
		if strings.Contains(line, s.words) {
			r.stepwise = true
			return s.stage
		}
	}
	if !r.stepwise && strings.Contains(line, allLocks) {
		return HoldingCommits
	}
	return ""
}
