package replicate

import (
	"fmt"

	"understudy/replicate/origin"
)

func decideFresh(s Standing, f Facts) Action {
	switch from := s.beginning(f); {
	case len(f.Mismatches) > 0:
		return reportMismatches(f)
	case from == nil && s.Origin.Mode == origin.Executed:
		return Action{Report, "the volume is a copy of another member's, and without GTIDs nothing says where in the primary's binary log it ends: reseed this member, " + howToReseed}
	case from == nil:
		return Action{Report, "the server does not say where the copy ends in the donor's binary log (is the clone plugin loaded?)"}
	default:
		return Action{Configure, "a fresh copy, from " + from.String()}
	}
}

func decideWithoutChannel(s Standing) Action {
	switch {
	case s.Origin == nil && !s.Attached:
		return Action{Report, "this data directory is not configured as a replica, and nothing says from where to replicate; configure it by hand or reseed this member"}
	case s.Origin == nil || s.Origin.Mode != origin.GTID && s.Origin.Mode != origin.Executed:
		return Action{Report, "the replication channel was removed, and its file and position went with it; configure it by hand or reseed this member"}
	}
	return Action{Repoint, "the replication channel was removed"}
}

func decideReplica(s Standing, f Facts) Action {
	c := f.Channel
	source := s.source(f)
	right := c.follows(source)
	sameHost := c.Host == source.Host && c.Port == source.Port
	refused := f.loginRefused() && !f.PasswordTried
	switch {
	case (!right || refused) && c.Pending:
		return Action{Wait, "replication has to be reconfigured, once the applier has applied all that was received"}
	case !right && (c.UsingGTID || sameHost) && c.IO == "Yes" && f.Unproven != "" && source.CA != "":
		return Action{Wait, fmt.Sprintf("%s, and stays so: %s:%d cannot prove its identity: %s", c.instead(source), source.Host, source.Port, f.Unproven)}
	case !right && (c.UsingGTID || sameHost):
		return Action{Repoint, c.instead(source)}
	case !right:
		return Action{Report, fmt.Sprintf("it follows %s:%d by file and position, which mean nothing at %s:%d", c.Host, c.Port, source.Host, source.Port)}
	case refused:
		return Action{Repoint, "the source refuses the password that the server has"}
	case outOfRoom(c.SQLErrno) && !c.SQLRunning && f.RoomAgain:
		return Action{Start, "the volume was full, and has room again"}
	case f.MemoryTable != "":
		return Action{Report, fmt.Sprintf("the applier stopped with error %d: %s; %s is a MEMORY table: it is empty after each start of a server, and in each copy, so a reseed does not help: "+
			"make it InnoDB on the primary, then reseed this member, %s; or exclude it from replication here (replicate_ignore_table)", c.SQLErrno, c.SQLError, f.MemoryTable, howToReseed)}
	case c.SQLErrno != 0 && !c.SQLRunning:
		return Action{reseedOr(Report, dataDiffer(c.SQLErrno)), fmt.Sprintf("the applier stopped with error %d: %s%s", c.SQLErrno, c.SQLError, advice(c.SQLErrno, c.SQLError)+f.fullBeside())}
	case c.IO == "No" && c.UsingGTID && sourceLacked(c.IOErrno, c.IOError):
		return Action{Start, "the source lacked what this member has when it was asked last"}
	case c.IOErrno != 0 && c.IO == "No" && !sourceAway(c.IOErrno):
		return Action{reseedOr(Report, sourceCannotGoOn(c.IOErrno, c.IOError)), fmt.Sprintf("the receiver stopped with error %d: %s%s", c.IOErrno, c.IOError, advice(c.IOErrno, c.IOError))}
	case len(f.Persisted) > 0:
		return f.unpersist()
	case s.SemiSync.wanted() && f.SemiSync.Known && !f.SemiSync.Replica:
		return Action{SetSemiSync, "--semi-sync=" + string(s.SemiSync)}
	case c.IO == "No" && c.SQLRunning && f.Barred != "":
		return Action{Wait, "the source does not let the replication account in: " + f.Barred + "; the primary's sidecar repairs the account"}
	case c.IO == "No" || !c.SQLRunning:
		return Action{Start, "replication does not run"}
	case c.IO == "Yes" && !s.Attached:
		return Action{MarkAttached, "replication runs"}
	case c.IO != "Yes" && f.distrusts() && f.Unproven != "":
		return Action{Wait, fmt.Sprintf("the receiver is connecting: error %d: %s; the source cannot prove its identity: %s", c.IOErrno, c.IOError, f.Unproven)}
	case c.IO != "Yes" && c.IOErrno != 0:
		return Action{Wait, fmt.Sprintf("the receiver is connecting: error %d: %s", c.IOErrno, c.IOError)}
	case c.IO != "Yes":
		return Action{Wait, "the receiver is connecting"}
	case c.Silent:
		return Action{Wait, f.withoutSource()}
	case len(f.Mismatches) > 0:
		return reportMismatches(f)
	case f.Unproven != "":
		return Action{Wait, "replication runs, but its source is not verified until it can prove its identity: " + f.Unproven}
	}
	return Action{Rest, "replication runs"}
}

// instead says what the channel does that does not follow the source.
func (c *Channel) instead(s Source) string {
	switch {
	case !c.verifies(s):
	case c.beats():
		return fmt.Sprintf("it follows %s@%s:%d", c.User, c.Host, c.Port)
	default:
		return fmt.Sprintf("its source sends a heartbeat only every %v, not every %d s", c.HeartbeatPeriod, heartbeat)
	}
	return fmt.Sprintf("it follows %s@%s:%d, whose certificate it does not verify as it should", c.User, c.Host, c.Port)
}

// reseedOr is Reseed if a reseed repairs it, else the step.
func reseedOr(step Step, mends bool) Step {
	if mends {
		return Reseed
	}
	return step
}
