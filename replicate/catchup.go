package replicate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

// Catch-up: before the primary opens for writes, which is after each start of its server, it has
// everything that any reachable member has received. Otherwise a transaction that was acknowledged
// and then lost by the primary, in a power cut or with an old copy of its volume, would be lost by
// the set, and the replicas that have it would have to be reseeded. So the primary asks all
// members, follows the most advanced one until it has caught up, and stops following.
//
// Only transactions of the set's primary count. Transactions that a member's own server made (by
// its server_uuid, on MariaDB its server_id) never came from the primary: they are errant. The
// primary does not wait for them, and does not follow a member that has any, because it would take
// them over.

// Peer is another member of the set, as far as its data matter to the first ordinal that catches
// up. The agent cannot ask one: cmd does, and makes a Peer of the answer at /v1/member
// (wire.Member), or of the silence. What Kubernetes knows of a member's pod is a k8s.Peer, for
// people to read.
type Peer struct {
	Name string
	// Host is where its server is. It answers on the port of Config.Source.
	Host string
	// Absent says that no name server knows the member; Empty that it answers and has no data.
	Absent, Empty bool
	// Remembered says that the set knows of it, as one that was attached, so that it may have data
	// whatever name servers say.
	Remembered bool
	// Silence is why it is not known what the member has; empty when it is. Answers says that at
	// least the member itself answers, and may know soon.
	Silence string
	Answers bool
	// ServerID and UUID are its server's.
	ServerID uint32
	UUID     string
	// Received is what its server has executed or received, see Facts.Received, Executed what it
	// has executed: the rest cannot be had from it yet.
	Received, Executed string
	// Parted is what it has under numbers that a primary may have given again, see Recorded.Parted;
	// empty: nothing. What it has says nothing then.
	Parted string
	// Read is how far it has read the primary's binary log, see Coordinate; empty where it is not a
	// replica.
	Read string
	// Age is how long ago it looked at its server.
	Age time.Duration
	// Trouble is why it is not ready; empty when it is.
	Trouble string
}

// HasData reports whether a member says that it has data.
func (p Peer) HasData() bool { return !p.Absent && !p.Empty && p.Silence == "" }

// counts reports whether a member's data can be compared with others'.
func (p Peer) counts() bool { return p.HasData() && p.Parted == "" }

// Patience is for how long members are waited for, from the first look on. Time in which the own
// server cannot be looked at does not count.
type Patience struct {
	// Silent is for those that do not answer, Starting for those that answer and do not know yet
	// what they have, and for those that are remembered.
	Silent, Starting time.Duration
}

// Level is how a member compares with the others, before it opens for writes.
type Level struct {
	// Awaited says for whom it is worth to wait, and why; empty: for nobody.
	Awaited string
	// Ahead is the member to follow, and Lacks what it has and this member lacks; Ahead is nil when
	// nobody that answers has more.
	Ahead *Peer
	Lacks string
	// Conflict says why nobody can be followed, although we lack something.
	Conflict string
	// Errant are members with errant transactions, as text.
	Errant []string
	// Begun says that this server started empty although members have data: Conflict names them.
	Begun bool
	// Channel says that our channel is to a member of the set, Following that it is to Ahead.
	Channel, Following bool
	// Alias says that our server has the server_id for following: see followStatements.
	Alias bool
}

// having is what one member has, in its parts.
type having struct {
	*Peer
	// ours came from a primary, own from the member's own server.
	ours, own gtid.History
	// executed is what it can send.
	executed gtid.History
}

// Compare compares what has is, the own server's, with what the members say. prefer is the host of
// the member that is followed already. It awaits nobody.
func Compare(f flavor.Flavor, has gtid.History, peers []Peer, prefer string) (Level, error) {
	var l Level
	all, err := havings(f, peers)
	if err != nil {
		return l, err
	}
	var ahead []having
	for _, p := range peers {
		if p.HasData() && p.Parted != "" {
			l.Errant = append(l.Errant, fmt.Sprintf("%s has transactions that the primary had lost (%s)", p.Name, p.Parted))
		}
	}
	for _, h := range all {
		if !has.Contains(h.own) {
			l.Errant = append(l.Errant, fmt.Sprintf("%s has %s", h.Name, h.own.Errant(has)))
		}
		if !has.Contains(h.ours) {
			ahead = append(ahead, h)
		}
	}
	if len(ahead) == 0 {
		return l, nil
	}
	best := mostAdvanced(ahead, has, prefer)
	switch {
	case best == nil:
		l.Conflict = "the histories of members have diverged, and no member has all that the others have: " + describe(ahead, has)
	case !has.Contains(best.own):
		l.Conflict = fmt.Sprintf("%s has more than any other member (%s), but also errant transactions of its own server (%s), which would be taken over",
			best.Name, best.ours.Errant(has), best.own.Errant(has))
	case !best.all().Contains(has):
		l.Conflict = fmt.Sprintf("%s has what this member lacks (%s), and lacks what this member has (%s): their histories have diverged",
			best.Name, best.ours.Errant(has), has.Errant(best.all()))
	default:
		l.Ahead, l.Lacks = best.Peer, best.ours.Errant(has).String()
	}
	return l, nil
}

func (h having) all() gtid.History { return h.ours.Union(h.own) }

// Awaited names the members that may still say something, when they have been waited for so long;
// it is empty when there are none. unsure, when set, is why it is not known who the members are.
func Awaited(peers []Peer, unsure error, waited time.Duration, p Patience) string {
	var all []string
	if unsure != nil && waited < p.Starting {
		all = append(all, unsure.Error())
	}
	for _, peer := range peers {
		switch {
		case peer.Absent && !peer.Remembered || peer.Empty:
		case peer.Silence != "" && (waited < p.Silent || (peer.Answers || peer.Remembered) && waited < p.Starting):
			all = append(all, peer.Name+": "+peer.Silence)
		case peer.Silence == "" && peer.Age > waited && waited < p.Starting:
			// It may have received more since, before our server went down.
			all = append(all, peer.Name+": it has not looked at its server since")
		}
	}
	return strings.Join(all, "; ")
}

// havings reads what the members have that say it.
func havings(f flavor.Flavor, peers []Peer) ([]having, error) {
	own := map[string]bool{}
	for i := range peers {
		if f == flavor.MySQL {
			own[strings.ToLower(peers[i].UUID)] = true
		} else {
			own[strconv.FormatUint(uint64(peers[i].ServerID), 10)] = true
		}
	}
	var all []having
	for i := range peers {
		if !peers[i].counts() {
			continue
		}
		h, err := gtid.Parse(f, peers[i].Received)
		if err != nil {
			return nil, fmt.Errorf("read what %s has: %w", peers[i].Name, err)
		}
		executed, err := gtid.Parse(f, peers[i].Executed)
		if err != nil {
			return nil, fmt.Errorf("read what %s has executed: %w", peers[i].Name, err)
		}
		theirs, ours := h.Split(func(server string) bool { return own[server] })
		all = append(all, having{&peers[i], ours, theirs, executed})
	}
	return all, nil
}

// mostAdvanced is the member that has all that the others have; nil when there is none. Of several,
// those come first that would bring nothing along, then those that have executed it all: what a
// member has only received it may send hours later. Then comes the one that is followed already,
// then those that are ready.
func mostAdvanced(ahead []having, has gtid.History, prefer string) *having {
	rank := func(h having) int {
		n := 0
		for i, worse := range []bool{h.Trouble != "", h.Host != prefer, !h.executed.Contains(h.ours), !has.Contains(h.own)} {
			if worse {
				n += 1 << i
			}
		}
		return n
	}
	var best *having
	for i, h := range ahead {
		containsAll := !slices.ContainsFunc(ahead, func(other having) bool { return !h.ours.Contains(other.ours) })
		if !containsAll {
			continue
		}
		if best == nil || rank(h) < rank(*best) || rank(h) == rank(*best) && h.executes(*best) {
			best = &ahead[i]
		}
	}
	return best
}

// executes reports whether a member has executed more than another one.
func (h having) executes(other having) bool {
	return h.executed.Contains(other.executed) && !other.executed.Contains(h.executed)
}

func describe(all []having, has gtid.History) string {
	texts := make([]string, len(all))
	for i, h := range all {
		texts[i] = fmt.Sprintf("%s has %s", h.Name, h.ours.Errant(has))
	}
	return strings.Join(texts, ", ")
}

// leveling is what the agent remembers from one look at the others to the next, while its server is
// read-only.
type leveling struct {
	// last is when the server was looked at last, waited for how long the others have been waited for:
	// the time before each look that succeeded, but the first. A look that failed ends nothing, or
	// the wait might have no end.
	last   time.Time
	waited time.Duration
	// heard is what each member said last that does not answer any more.
	heard map[string]heard
	// newborn says that the image has just made the data directory: no member may have data.
	newborn bool
	// told is what was logged last of members that have errant transactions.
	told string
}

type heard struct {
	peer Peer
	at   time.Time
}

// compareWithPeers asks the other members what they have, where the answer matters: on the first
// ordinal while its server is read-only. It fails only on what the members said.
func (a *Agent) compareWithPeers(ctx context.Context, s Standing, f Facts) (*Level, error) {
	switch {
	case !s.Primary || f.Opened || s.Initialising || s.Paused != "":
		a.leveling = leveling{}
		return nil, nil //nolint:nilnil // nobody was asked
	case f.Trouble != "" || !f.Answers || f.Version.Flavor != s.Flavor:
		a.leveling.fails(f.Seen)
		return nil, nil //nolint:nilnil // as above
	}
	if s.Origin == nil && !s.Adopted && !s.Attached {
		a.leveling.newborn = true
	}
	if a.leveling.newborn && s.Attached || a.cfg.Peers == nil || s.takesOver() {
		return nil, nil //nolint:nilnil // as above
	}
	a.leveling.succeeds(f.Seen)
	peers, unsure := a.cfg.Peers(ctx)
	peers = a.leveling.remember(peers, a.cfg.Patience.Starting)
	if a.leveling.newborn {
		return a.born(peers), nil
	}
	l, err := f.compare(peers)
	if err != nil {
		return nil, err
	}
	l.Awaited = Awaited(peers, unsure, a.leveling.waited, a.cfg.Patience)
	l.Alias = f.ServerID == alias(a.cfg.ServerID)
	if c := f.Channel; c != nil && c.Port == s.Source.Port {
		// A copy of a replica's directory follows ourselves.
		l.Channel = c.Host == s.Source.Host || slices.ContainsFunc(peers, func(p Peer) bool { return p.Host == c.Host })
		l.Following = l.Ahead != nil && c.UsingGTID && c.follows(s.Source.at(l.Ahead.Host)) && l.Alias
	}
	if errant := strings.Join(l.Errant, ", "); errant != a.leveling.told {
		a.leveling.told = errant
		a.log.Warn("members have errant transactions, which are not taken over", "members", errant)
	}
	return &l, nil
}

// born looks for members with data. There must be none if this server started empty: init has
// waited for those that do not answer.
func (a *Agent) born(peers []Peer) *Level {
	var l Level
	var all []string
	for _, p := range peers {
		switch {
		case !p.HasData():
		case p.Received == "" && p.Read == "":
			all = append(all, p.Name)
		default:
			all = append(all, fmt.Sprintf("%s (%s)", p.Name, cmp.Or(p.Received, p.Read)))
		}
	}
	l.Begun, l.Conflict = all != nil, strings.Join(all, ", ")
	starting := Patience{Starting: a.cfg.Patience.Starting}
	for i := range peers {
		peers[i].Remembered = false
	}
	l.Awaited = Awaited(peers, nil, a.leveling.waited, starting)
	return &l
}

// compare compares our own server with what the members say.
func (f Facts) compare(peers []Peer) (Level, error) {
	if !f.UsesGTID {
		return ComparePositions(f.BinaryLog, peers)
	}
	has, err := gtid.Parse(f.Version.Flavor, f.Executed)
	if err != nil {
		return Level{}, fmt.Errorf("read the own server's GTIDs: %w", err)
	}
	prefer := ""
	if f.Channel != nil {
		prefer = f.Channel.Host
	}
	return Compare(f.Version.Flavor, has, peers, prefer)
}

// fails notes a look at the own server that failed.
func (l *leveling) fails(now time.Time) {
	if !l.last.IsZero() {
		l.last = now
	}
}

// succeeds notes one that did not.
func (l *leveling) succeeds(now time.Time) {
	if l.last.IsZero() {
		l.heard = map[string]heard{}
	} else {
		l.waited += now.Sub(l.last)
	}
	l.last = now
}

// remember completes the answers with the last words of members that have stopped to answer
// meanwhile: what they have does not count less for that, for some time.
func (l *leveling) remember(peers []Peer, patience time.Duration) []Peer {
	now := time.Now()
	for i, p := range peers {
		if p.Silence == "" && !p.Absent && !p.Empty {
			l.heard[p.Name] = heard{p, now}
			continue
		}
		if last, ok := l.heard[p.Name]; ok && now.Sub(last.at) < patience {
			peers[i] = last.peer
			peers[i].Trouble = "it does not answer any more"
		}
	}
	return peers
}
