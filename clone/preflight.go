package clone

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

const (
	// expiryFactor is how much longer than the clone the donor must keep binary logs: the copy is
	// prepared, and its server starts, before it asks for them.
	expiryFactor = 2
	// rateAfter is how long a clone runs before its rate is used for an estimate.
	rateAfter = time.Minute
)

// Need is what a clone requires of its joiner. Sizes are 0 when unknown.
type Need struct {
	Engine        string
	ServerVersion string
	Origin        origin.Mode
	StreamBytes   int64
	NeededBytes   int64
	Files         int64
	// BinlogExpiry is how long the donor's server keeps binary logs; 0: for ever.
	BinlogExpiry time.Duration
	CannotCarry  []string
	Encrypted    string
}

// HeaderNeed is the need by the header of a stream. Only an offer has the number of files, the
// expiry of binary logs and what cannot be carried.
func HeaderNeed(h wire.Header) Need {
	return Need{Engine: engine.Kind(h.Engine), ServerVersion: h.ServerVersion, Origin: h.Origin, StreamBytes: h.EstimatedBytes, NeededBytes: h.NeededBytes}
}

// OfferNeed is the need by a member's offer.
func OfferNeed(m wire.Member) Need {
	o := m.Offer
	return Need{
		Engine: o.Engine, ServerVersion: m.ServerVersion, Origin: o.Origin,
		StreamBytes: o.StreamBytes, NeededBytes: o.NeededBytes, Files: o.Files,
		BinlogExpiry: time.Duration(o.BinlogExpirySeconds) * time.Second,
		CannotCarry:  o.CannotCarry, Encrypted: o.Encrypted,
	}
}

// Have is what a joiner has for a clone.
type Have struct {
	Engines Engines
	// Tools are the versions of the engines' tools, see Engines.Versions; nil when nothing will be
	// prepared here.
	Tools map[string]flavor.Version
	// Server is the version of the server that will run on the copy; nil when unknown.
	Server *flavor.Version
	Free   volume.Space
	// Writable is the result of volume.Writable.
	Writable error
}

// Check compares need and have before the first byte. It returns ErrRefused with every reason, and
// both sides of each.
func Check(need Need, have Have) error {
	var reasons error
	for _, check := range []func(Need, Have) error{
		checkEngine, checkVersions, checkCoordinate, checkCarried, checkKeys, checkBytes, checkFiles, checkWritable,
	} {
		reasons = both(reasons, check(need, have))
	}
	if reasons == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrRefused, reasons)
}

// both joins up to two reasons into one line.
func both(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return fmt.Errorf("%w; %w", a, b)
}

func checkEngine(need Need, have Have) error {
	_, err := have.Engines.For(wire.Header{Engine: need.Engine})
	return err
}

// checkVersions compares the donor's server with the tool that will prepare the copy, and with the
// server that will run on it.
func checkVersions(need Need, have Have) error {
	donor, err := flavor.ParseServer(need.ServerVersion)
	if err != nil {
		return fmt.Errorf("the donor's server: %w", err)
	}
	var pairing error
	if tool, known := have.Tools[need.Engine]; known {
		e, err := have.Engines.For(wire.Header{Engine: need.Engine})
		if err != nil {
			return err
		}
		pairing = e.CheckPairing(tool, donor)
	}
	if need.Engine == engine.MySQLCloneName {
		return both(pairing, checkRecovery(donor, have.Server))
	}
	return both(pairing, checkServer(donor, have.Server))
}

// checkRecovery is checkServer for a copy that nothing prepares. The server that starts on it has
// to recover it, and no server upgrades data that need recovery.
//
// https://dev.mysql.com/doc/refman/8.4/en/upgrade-prerequisites.html
//
// Before 8.0.37 a server of 8.0 recovers a copy of its own version only.
//
// https://dev.mysql.com/doc/refman/8.0/en/clone-plugin-limitations.html
func checkRecovery(donor flavor.Version, server *flavor.Version) error {
	const known, alike = 1, 37 // a version may be given without its last number
	if server != nil && server.Flavor == donor.Flavor && server.Series() == "8.0" && server.Patch >= known && server.Patch != donor.Patch && min(server.Patch, donor.Patch) < alike {
		return fmt.Errorf("the donor's server is %s, this member's is to be %s, and before 8.0.%d a server recovers a snapshot of its own version only: upgrade once it has replicated", donor, server, alike)
	}
	if server != nil && server.Flavor == donor.Flavor && server.Series() != donor.Series() {
		return fmt.Errorf("the donor's server is %s, this member's is to be %s, of another series, and a server recovers a snapshot of its own series only: upgrade once it has replicated", donor, server)
	}
	return checkServer(donor, server)
}

// checkServer allows a server of a later series, which upgrades the data. One of an earlier series
// cannot read them.
func checkServer(donor flavor.Version, server *flavor.Version) error {
	switch {
	case server == nil:
		return nil
	case server.Flavor != donor.Flavor:
		return fmt.Errorf("the donor's server is %s, this member's is to be %s", donor, server)
	case server.Series() != donor.Series() && server.Less(donor):
		return fmt.Errorf("the donor's server is %s, this member's is to be %s, of an older series", donor, server)
	}
	return nil
}

func checkCoordinate(need Need, _ Have) error {
	known := need.Origin == origin.GTID || need.Origin == origin.Position ||
		need.Origin == origin.FirstBoot && need.Engine == engine.MySQLCloneName
	if !known {
		return fmt.Errorf("the donor announces no replication coordinate (%q)", need.Origin)
	}
	return nil
}

func checkCarried(need Need, _ Have) error {
	if len(need.CannotCarry) == 0 {
		return nil
	}
	return fmt.Errorf("a physical copy would not be whole: %s", strings.Join(need.CannotCarry, ", "))
}

// checkKeys refuses encrypted data even if the member has the keys: the prepare looks for the
// plugin and its files at the donor's paths, and it is unknown whether they exist here. The engine
// clone also says what is encrypted, and how to end that.
func checkKeys(need Need, _ Have) error {
	if need.Encrypted == "" {
		return nil
	}
	return fmt.Errorf("the donor's server uses the key management plugin %s, and its copy cannot be prepared here without the keys", need.Encrypted)
}

func checkBytes(need Need, have Have) error {
	what, bytes := "with its redo log and the prepare", need.NeededBytes
	if bytes < need.StreamBytes { // the donor's estimate is too low
		what, bytes = "for its files alone", need.StreamBytes
	}
	if bytes > have.Free.Bytes {
		return fmt.Errorf("the clone needs about %s %s, the volume has %s free", sizeUp(bytes), what, sizeDown(have.Free.Bytes))
	}
	return nil
}

func checkFiles(need Need, have Have) error {
	if need.Files > have.Free.Inodes {
		return fmt.Errorf("the clone needs %d files, the file system has %d inodes left", need.Files, have.Free.Inodes)
	}
	return nil
}

func checkWritable(_ Need, have Have) error { return have.Writable }

// tooSlow warns that the binary logs from the clone's coordinate on may be gone when the copy's
// server asks for them; empty: no. It uses the measured rate only. A clone under way goes on. A
// replica's own expiry stands for its source's, since the members of a set have the same options.
func tooSlow(p Progress, expiry, taken time.Duration) string {
	takes := (taken + p.ETA).Round(time.Second)
	if expiry == 0 || p.ETA == 0 || taken < rateAfter || expiry >= expiryFactor*takes {
		return ""
	}
	return fmt.Sprintf("the clone of %s takes about %v at %s/s, the donor's server keeps its binary logs for %v (binlog_expire_logs_seconds), and the copy may need them for %v: keep them longer, or replication may not be able to begin",
		sizeUp(p.Total), takes, sizeDown(int64(p.BytesPerSecond)), expiry, expiryFactor*takes)
}

// sizeUp and sizeDown print bytes with one decimal. They round in opposite directions, so that a
// need that exceeds the free space also looks larger.
func sizeUp(n int64) string   { return size(n, math.Ceil) }
func sizeDown(n int64) string { return size(n, math.Floor) }

func size(n int64, round func(float64) float64) string {
	value, unit := float64(n), "KiB"
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value /= 1 << 10; value < 1<<10 {
			break
		}
	}
	return strconv.FormatFloat(round(value*10)/10, 'f', 1, 64) + " " + unit
}
