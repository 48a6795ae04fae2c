package main

import (
	"fmt"

	"understudy/replicate"
)

// semiSyncFlags say how much commits wait for replicas.
type semiSyncFlags struct {
	name string

	mode replicate.SemiSync // of name
}

func (s *semiSyncFlags) define(f *flagSet) {
	f.StringVar(&s.name, "semi-sync", string(replicate.SemiSyncOff), "`mode` of semi-synchronous replication, the same for init and sidecar of all members:\n"+
		"off: the servers' own settings are left alone; preferred: a commit waits up to 10 s for a replica to have it;\n"+
		"required: a commit waits until a replica has it, from the first replica on, and for good if all are away")
}

func (s *semiSyncFlags) validate() error {
	var err error
	if s.mode, err = replicate.ParseSemiSync(s.name); err != nil {
		return fmt.Errorf("--semi-sync: %w", err)
	}
	return nil
}
