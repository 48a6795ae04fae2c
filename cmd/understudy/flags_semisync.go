package main

import (
	"fmt"

	"understudy/replicate"
)

// semiSyncFlags say whether commits wait for replicas.
type semiSyncFlags struct {
	name string

	mode replicate.SemiSync // of name
}

func (s *semiSyncFlags) define(f *flagSet) {
	f.StringVar(&s.name, "semi-sync", string(replicate.SemiSyncOff), "`mode` of semi-synchronous replication, the same for init and sidecar of all members:\n"+
		"off: the servers' own settings stay; preferred: a commit waits up to 10 s until a replica has\n"+
		"received it, with --primary=lease up to --degrade-after and until the Lease is written;\n"+
		"required: without limit, once a replica was attached")
}

func (s *semiSyncFlags) validate() error {
	var err error
	if s.mode, err = replicate.ParseSemiSync(s.name); err != nil {
		return fmt.Errorf("--semi-sync: %w", err)
	}
	return nil
}
