package replicate

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"
)

// SemiSync is how much a commit on the primary waits for a replica to have received it.
type SemiSync string

const (
	// SemiSyncOff leaves the servers' own settings alone.
	SemiSyncOff SemiSync = "off"
	// SemiSyncPreferred has a commit wait for a replica, but not longer than preferredWait.
	SemiSyncPreferred SemiSync = "preferred"
	// SemiSyncRequired has a commit wait until a replica has it, for as long as that takes.
	SemiSyncRequired SemiSync = "required"
)

// ParseSemiSync reads a mode by its name.
func ParseSemiSync(name string) (SemiSync, error) {
	switch mode := SemiSync(name); mode {
	case SemiSyncOff, SemiSyncPreferred, SemiSyncRequired:
		return mode, nil
	}
	return "", fmt.Errorf("%q is neither %s, %s nor %s", name, SemiSyncOff, SemiSyncPreferred, SemiSyncRequired)
}

// wanted is false where semi-synchronous replication is none of our business.
func (m SemiSync) wanted() bool { return m == SemiSyncPreferred || m == SemiSyncRequired }

// In milliseconds, as the servers count it.
const (
	// preferredWait is the servers' own default.
	preferredWait = 10_000
	// requiredWait is the most that MySQL takes: seven weeks.
	requiredWait = 1<<32 - 1
)

// wait is how long a commit waits.
func (m SemiSync) wait() uint64 {
	if m == SemiSyncRequired {
		return requiredWait
	}
	return preferredWait
}

// SemiSyncFacts are what a server says of its semi-synchronous replication.
type SemiSyncFacts struct {
	// Known is false on a server that has not loaded it.
	Known bool
	// Source and Replica say that the side is on.
	Source, Replica bool
	// Active says that commits wait for replicas, and Acknowledging that the receiver tells its
	// source what it has.
	Active, Acknowledging bool
	// Wait is how long a commit waits, in milliseconds.
	Wait uint64
	// Safe says that a commit is with a replica before anybody can read it, and that it waits even
	// if no replica is there.
	Safe bool
	// Replicas is how many are attached that acknowledge. One that is silently away still counts.
	Replicas int
	// Waiting is how many sessions wait for a replica, Acknowledged how many commits did until one
	// had them.
	Waiting      int
	Acknowledged uint64
	// Stuck is since when some wait and none is acknowledged; zero: that is not so.
	Stuck time.Time
}

// semiSyncDue says that the primary's settings are to be made. Before a replica is there, they
// would hold up the commits that a new set begins with. A primary that is a copy has replicas, for
// it was made of one.
func (s Standing) semiSyncDue(f Facts) bool {
	if !s.SemiSync.wanted() || !f.SemiSync.Known {
		return false
	}
	return f.SemiSync.Replicas > 0 || s.SemiSync == SemiSyncRequired && (s.SemiSynced || s.Origin != nil && !s.Adopted)
}

// semiSyncRight says that the primary's settings are as the mode wants them.
func (s Standing) semiSyncRight(f Facts) bool {
	return f.SemiSync.Source && f.SemiSync.Safe && f.SemiSync.Wait == s.SemiSync.wait()
}

// blocked says that whatever is committed waits until a replica comes, or comes back.
func (s Standing) blocked(f Facts) bool {
	return s.SemiSync == SemiSyncRequired && f.SemiSync.Source && (f.SemiSync.Replicas == 0 || f.SemiSync.stuck(f.Seen))
}

// openFor says that the primary is open for writes, and what commits wait for.
func (s Standing) openFor(f Facts) string {
	text := "the primary is open for writes"
	if f.Volume.Full() {
		return text + ", but " + f.full(s)
	}
	m := f.SemiSync
	why := "--semi-sync=required"
	blocked := s.blocked(f)
	if s.Role != nil && m.Source && m.Wait == requiredWait { // the Lease's leader waits so in mode preferred, too
		blocked, why = m.Replicas == 0 || m.stuck(f.Seen), "--primary=lease"
	}
	switch {
	case blocked && m.Replicas == 0:
		text += ", but commits wait: no replica is attached that acknowledges them, and " + why
	case blocked:
		text += fmt.Sprintf(", but commits wait: %d replicas are attached, and none of them has acknowledged one since %s, and %s: "+
			"the network to them is cut, or they hang, or their volumes are full", m.Replicas, stamp(m.Stuck), why)
	case s.SemiSync.wanted() && !m.Source:
		text += "; --semi-sync takes effect when a replica is attached"
	case s.SemiSync == SemiSyncPreferred && !m.Active:
		text += "; commits wait for no replica until one has caught up: none answered in time (--semi-sync=preferred)"
	}
	return text
}

// readSemiSync reads variables and status of both sides.
func readSemiSync(ctx context.Context, db *sql.DB) (SemiSyncFacts, error) {
	have := map[string]string{}
	for _, query := range []string{querySemiSyncVariables, querySemiSyncStatus} {
		rows, err := readRows(ctx, db, query)
		if err != nil {
			return SemiSyncFacts{}, fmt.Errorf("read the state of semi-synchronous replication: %w", err)
		}
		for _, r := range rows {
			have[semiSyncName(r.text("Variable_name"))] = r.text("Value")
		}
	}
	_, source := have[semiSyncSource+"enabled"]
	_, replica := have[semiSyncReplica+"enabled"]
	on := func(name string) bool { return have[name] == "ON" }
	f := SemiSyncFacts{
		Known: source && replica, Source: on(semiSyncSource + "enabled"), Replica: on(semiSyncReplica + "enabled"),
		Active: on(semiSyncSource + "status"), Acknowledging: on(semiSyncReplica + "status"),
		Safe: have[semiSyncSource+"wait_point"] == semiSyncPoint && on(semiSyncSource+"wait_no_replica"),
	}
	f.Wait, _ = strconv.ParseUint(have[semiSyncSource+"timeout"], 10, 64)
	f.Replicas, _ = strconv.Atoi(have[semiSyncSource+"clients"])
	f.Waiting, _ = strconv.Atoi(have[semiSyncSource+"wait_sessions"])
	f.Acknowledged, _ = strconv.ParseUint(have[semiSyncSource+"yes_tx"], 10, 64)
	return f, nil
}

// semiSyncMismatch is what init should have seen to, or cannot: a server before MySQL 8.0.26 has
// the plugins by other names.
//
// https://dev.mysql.com/doc/refman/8.0/en/replication-semisync-installation.html
const semiSyncMismatch = "semi-synchronous replication is not loaded: give --semi-sync to init, too; MySQL before 8.0.26 also needs " +
	"plugin_load_add=semisync_master.so and plugin_load_add=semisync_slave.so in the common.cnf of --config-from"
