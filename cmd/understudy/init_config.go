package main

import (
	"fmt"
	"os"
	"path/filepath"

	"understudy/clone/volume"
	"understudy/cmd/understudy/internal/member"
	"understudy/replicate"
	"understudy/replicate/flavor"
)

// The files in --config-dir that init writes. A server reads them in alphabetical order: the
// defaults come first, our own settings last.
const (
	defaultsFile = "00-understudy-defaults.cnf"
	configFile   = "understudy.cnf"
)

// mayLoadClone says whether the server should load the clone plugin: the engine clone may be used,
// and the server is not known to be too old for it.
func (v *initVerb) mayLoadClone(journal *volume.Journal) bool {
	first := flavor.Version{Flavor: flavor.MySQL, Major: 8, Patch: 17}
	server := v.server
	if server == nil && journal.ServerVersion != "" {
		if of, err := flavor.ParseServer(journal.ServerVersion); err == nil {
			server = &of // the donor's: that of the set
		}
	}
	// "8.0" alone does not say that it is old.
	tooOld := server != nil && server.Less(first) && (server.Series() != first.Series() || server.Patch > 0)
	return v.engine.mayClone(v.member.id.Flavor) && !tooOld
}

func (v *initVerb) writeConfig(m *member.Member) error {
	certificate := m.ServerTLS(v.configDir)
	if _, err := certificate.Write(); err != nil {
		return err
	}
	journal, err := m.Volume.ReadJournal()
	if err != nil {
		return err
	}
	own, err := v.operatorFiles()
	if err != nil {
		return err
	}
	binlog, err := v.binlog(m, journal, own)
	if err != nil {
		return err
	}
	settings := replicate.Settings{
		Flavor: m.Flavor, ServerID: m.ServerID(), ReportHost: m.Host(), Replica: !m.IsFirst() && !v.lead.byLease(), ByLease: v.lead.byLease(),
		BinlogBasename: binlog, KeepGTIDMode: member.KeepsGTIDMode(journal), Initialising: journal.Phase == volume.Initialising,
		SemiSync: v.sync.mode, TLS: certificate.Files(), NoClonePlugin: !v.mayLoadClone(journal),
	}
	files := map[string][]byte{
		defaultsFile: replicate.Render(replicate.Defaults(m.Flavor), "Written by understudy init. Your own common.cnf, primary.cnf and replica.cnf override this."),
		configFile:   replicate.Render(replicate.Options(settings), "Written by understudy init at every start; the sidecar verifies it. Edit nothing here."),
	}
	for name, text := range own {
		if name == commonFile || name == v.roleFile() { // others are in the directory already
			files[name] = text
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(v.configDir, name), text, 0o644); err != nil { //nolint:gosec // the server may run as another user
			return fmt.Errorf("write the server's configuration: %w", err)
		}
	}
	m.Log.Info("configuration written", "dir", v.configDir, "server_id", settings.ServerID, "phase", journal.Phase)
	return nil
}
