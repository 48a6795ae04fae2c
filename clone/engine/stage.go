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

// inOneGo is all that a tool before 10.11.8 and 11.4.2 says of its locks: it takes them
// together. Later ones say it, too, of the first lock, which holds nobody off.
const inOneGo = "Acquiring BACKUP LOCKS"

// stageReader follows the log of one backup.
type stageReader struct {
	stepwise bool // whether the tool takes its locks one by one
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
