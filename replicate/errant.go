package replicate

import (
	"context"
	"sync"
	"time"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

// errantEvery is how long an answer of Agent.Errant counts.
const errantEvery = 10 * time.Second

// errantNow is what was found out last, for all who ask.
type errantNow struct {
	mu   sync.Mutex
	text string
	// ours says that some of it was made by the member's own server.
	ours bool
	at   time.Time
}

// Errant says what a replica that runs has and a copy of it must not bring along, since its source
// lacks it; empty: nothing that is known. It asks the source every few seconds at most, and takes a
// few seconds at most. It is safe to call from any goroutine.
//
// A source that is not open lacks what it is about to take over from the members, and one that does
// not answer may have lost its volume: then a copy of this member is what brings it back. So there
// only what the member's own server made counts, which never came from a primary.
func (a *Agent) Errant() string {
	s := a.Status()
	if c := s.Facts.Channel; s.Primary || c == nil || !c.UsingGTID {
		return ""
	}
	now := &a.memory.errant
	now.mu.Lock()
	defer now.mu.Unlock()
	if time.Since(now.at) < errantEvery {
		return now.text
	}
	ctx, cancel := context.WithTimeout(context.Background(), sourceTimeout)
	defer cancel()
	c, who, err := a.compareNow(ctx, s.Facts)
	switch {
	case err == nil:
		now.text, now.ours = inCopies(c.errant, who, s.Facts), c.errant.AnyOf(s.Facts.ServerUUID, s.Facts.ServerID)
	case !now.ours:
		now.text = ""
	}
	if err != nil {
		a.log.Debug("the source was not asked what it lacks", "error", err)
	}
	now.at = time.Now()
	return now.text
}

// inCopies is what copies must not bring along of what the source lacks.
func inCopies(errant gtid.Errant, source identity, f Facts) string {
	if source.readOnly && !errant.AnyOf(f.ServerUUID, f.ServerID) {
		return ""
	}
	return errant.String()
}

// compareNow looks at our own server first: what it executes meanwhile, the source has, too.
func (a *Agent) compareNow(ctx context.Context, f Facts) (c comparison, who identity, err error) {
	s, err := a.standing() // under a Lease the source changes
	if err != nil {
		return c, who, err
	}
	d := dialectOf(f.Version)
	ours, err := readPossessions(ctx, a.logins.db, d)
	if err != nil {
		return c, who, err
	}
	theirs, who, err := queryServer(ctx, s.Source, d)
	if err != nil {
		return c, who, err
	}
	c, err = theirs.compare(ours, "", f.Version.Flavor, f.ServerID)
	if err == nil {
		who = a.confirmed(ctx, s.Source.Host, who, d, c)
	}
	return c, who, err
}

// Errant is what a replica has and its source certainly lacks, from the texts in which both say
// what they have (see Facts.Received). id is the replica's server_id. On MariaDB it is bounds: the
// exact list is in the replica's binary logs.
func Errant(f flavor.Flavor, id uint32, replica, source string) (gtid.Errant, error) {
	c, err := possessions{has: [2]string{source}}.compare(possessions{has: [2]string{replica}}, "", f, id)
	return c.errant, err
}
