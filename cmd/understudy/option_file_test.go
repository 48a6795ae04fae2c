package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A server reads the files in the order of their names, and the last word counts.
func TestOptionsIn(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"common.cnf": "[client]\nport = 1\n[mysqld]\n# log_bin = no\nlog-bin = /binlogs/mysql-bin # here\nevent_scheduler\n",
		"primary.cnf": "[mariadb-11.8]\nEvent-Scheduler=0\nloose-sync_binlog=1\n[mysqld_safe]\nnice=1\n[server]\n!include x\n" +
			"relay_log=\"/relay logs/r\"\n",
		"understudy.cnf": "[mysqld]\nlog_bin=binlog\n",
		"notes.txt":      "[mysqld]\nserver_id=1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := optionsIn(dir, configFile)
	want := map[string]given{
		"log_bin": {"/binlogs/mysql-bin", "common.cnf"}, "event_scheduler": {"0", "primary.cnf"}, "sync_binlog": {"1", "primary.cnf"},
		"relay_log": {"/relay logs/r", "primary.cnf"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(given{})); d != "" || err != nil {
		t.Error(d, err)
	}
	if got, err := optionsIn(filepath.Join(dir, "missing")); len(got) > 0 || err != nil {
		t.Error(got, err)
	}
	for text, want := range map[string]bool{"": true, "ON": true, "1": true, "true": true, "OFF": false, "0": false, "DISABLED": false} {
		if got := (given{value: text}).isOn(); got != want {
			t.Errorf("%q is on: %t", text, got)
		}
	}
}
