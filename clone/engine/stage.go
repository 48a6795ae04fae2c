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
// Before 10.11.8 and 11.4.2 the tool takes all locks in one go, and says only so.
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
	{"Acquiring BACKUP LOCKS", HoldingCommits},
	{"All tables unlocked", Finishing},
}

// stageOf reads a line of the tool's log. It is empty for a line that tells nothing.
func stageOf(line string) Stage {
	for _, s := range stages {
		if strings.Contains(line, s.words) {
			return s.stage
		}
	}
	return ""
}
