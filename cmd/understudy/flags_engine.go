package main

import (
	"fmt"
	"log/slog"
	"os/exec"

	"understudy/clone"
	"understudy/clone/engine"
	"understudy/replicate/flavor"
)

// engineAuto lets the program choose the engine.
const engineAuto = "auto"

// engineFlags say how clones are made and prepared.
type engineFlags struct {
	name, tool string

	parallel int // of a donor, see defineDonor
}

func (e *engineFlags) define(f *flagSet) {
	f.StringVar(&e.name, "engine", engineAuto, "`engine` of clones: mariadb-backup for MariaDB; xtrabackup for MySQL; clone for MySQL 8.0.17 and\nlater, without a tool;\n"+
		"auto: mariadb-backup; or xtrabackup where it is installed and supports the server, else clone")
	f.StringVar(&e.tool, "backup-tool", "", "`program` of the engine, matching the server's version; empty: mariadb-backup or xtrabackup")
}

// maxParallel is more than any donor needs. A receiver takes twice as many compressed files at a
// time.
const maxParallel = 32

// defineDonor adds what concerns clones that are given.
func (e *engineFlags) defineDonor(f *flagSet) {
	f.IntVar(&e.parallel, "parallel", 0, "`number` of files that a backup copies at a time, or of connections over which --engine=clone takes the\nserver's data; 0: one for each core that the container may use, at most 4")
}

func (e *engineFlags) validate() error {
	if e.parallel < 0 || e.parallel > maxParallel {
		return fmt.Errorf("--parallel=%d: it must be from 0 to %d", e.parallel, maxParallel)
	}
	switch e.name {
	case engineAuto, engine.MariaDBBackupName, engine.XtraBackupName:
		return nil
	case engine.MySQLCloneName:
		if e.tool != "" {
			return fmt.Errorf("--backup-tool=%s: the engine %s has no tool", e.tool, e.name)
		}
		return nil
	}
	return fmt.Errorf("--engine=%s: it must be auto, %s, %s or %s", e.name, engine.MariaDBBackupName, engine.XtraBackupName, engine.MySQLCloneName)
}

// validateFor is validate for a known flavour.
func (e *engineFlags) validateFor(f flavor.Flavor) error {
	if err := e.validate(); err != nil {
		return err
	}
	if e.name != engineAuto && (e.name == engine.MariaDBBackupName) != (f == flavor.MariaDB) {
		return fmt.Errorf("--engine=%s: it does not copy a server of --flavor=%s", e.name, f)
	}
	return nil
}

// mayClone says whether the engine clone may be used beside a server.
func (e *engineFlags) mayClone(f flavor.Flavor) bool {
	return f == flavor.MySQL && (e.name == engineAuto || e.name == engine.MySQLCloneName)
}

// mayUseTool says whether XtraBackup may be used beside a server.
func (e *engineFlags) mayUseTool(f flavor.Flavor) bool {
	_, err := exec.LookPath(e.program(engine.XtraBackupName))
	return f == flavor.MySQL && (e.name == engine.XtraBackupName || e.name == engineAuto && err == nil)
}

// program is the tool of an engine.
func (e *engineFlags) program(name string) string {
	if e.tool != "" {
		return e.tool
	}
	return name
}

func (e *engineFlags) mariaDBBackup(log *slog.Logger) engine.MariaDBBackup {
	return engine.MariaDBBackup{Program: e.program(engine.MariaDBBackupName), Parallel: e.parallel, Log: log}
}

func (e *engineFlags) xtraBackup(log *slog.Logger) engine.XtraBackup {
	return engine.XtraBackup{Program: e.program(engine.XtraBackupName), Parallel: e.parallel, Log: log}
}

// donors are the engines that may be used beside a server, the preferred one first. The donor logs
// which of them it uses.
func (e *engineFlags) donors(f flavor.Flavor, mysqlClone *engine.MySQLClone, log *slog.Logger) []clone.DonorEngine {
	switch {
	case f == flavor.MariaDB:
		return []clone.DonorEngine{e.mariaDBBackup(log)}
	case e.name == engine.XtraBackupName:
		return []clone.DonorEngine{e.xtraBackup(log)}
	case e.name == engine.MySQLCloneName:
		return []clone.DonorEngine{mysqlClone}
	}
	return []clone.DonorEngine{e.xtraBackup(log), mysqlClone}
}

// joiners are the engines whose clones can be taken here. f is empty where clones of any flavour
// are accepted. auto omits engines whose tools are not installed, except mariadb-backup for
// MariaDB, which has no other. Tools are needed only to prepare.
func (e *engineFlags) joiners(f flavor.Flavor, prepare bool, log *slog.Logger) clone.Engines {
	var engines clone.Engines
	var names, absent []string
	take := func(candidate clone.Engine, needed bool) {
		name := candidate.Name()
		if e.name != engineAuto && e.name != name {
			return
		}
		if _, err := exec.LookPath(e.program(name)); err != nil && needed && e.name == engineAuto {
			absent = append(absent, e.program(name))
			return
		}
		engines, names = append(engines, candidate), append(names, name)
	}
	if f != flavor.MySQL {
		take(e.mariaDBBackup(log), prepare && f != flavor.MariaDB)
	}
	if f != flavor.MariaDB {
		take(e.xtraBackup(log), prepare)
		take(&engine.MySQLClone{Log: log}, false)
	}
	log.Info("engines whose clones can be taken", "engines", names, "not_installed", absent, "asked_for", e.name)
	return engines
}
