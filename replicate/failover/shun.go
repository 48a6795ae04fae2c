package failover

import "time"

const (
	// ShunAfter is for how long a stranger has to be seen: connections that end are not listed and
	// counted at one instant.
	ShunAfter = time.Second
	// ShunGone is for how long none has to be seen: one whose connection breaks comes back.
	ShunGone = 5 * time.Second
)

// Shunned is what a leader remembers of strangers: replicas that acknowledge and are no members. Since
// is since when one is seen, Last when one was seen last, on its clock, which is past 0; 0: none is.
type Shunned struct{ Since, Last time.Duration }

// ShunStep says what a leader does about strangers.
type ShunStep string

const (
	// Trust means that members may be named.
	Trust ShunStep = "trust"
	// NameNobody means that nobody is to be named, nor an entry renewed.
	NameNobody ShunStep = "name nobody"
	// Shun means that nobody is to be named, and the set is to be emptied.
	Shun ShunStep = "shun"
)

// See says what a leader does that sees strangers or none, or does not know, and what it remembers. The
// first row that matches counts:
//
//	what is seen                                  step
//	--------------------------------------------  ----------
//	mode off: no acknowledgement counts           Trust
//	a stranger, for ShunAfter                     Shun
//	a stranger                                    NameNobody
//	none, nor before                              Trust
//	none for ShunGone, and that is known          Trust
//	else                                          NameNobody
func (s Shunned) See(mode Mode, stranger, unknown bool, now time.Duration) (Shunned, ShunStep) {
	switch {
	case mode == Off:
		return Shunned{}, Trust
	case stranger:
		if s.Since == 0 {
			s.Since = now
		}
		if s.Last = now; now-s.Since < ShunAfter {
			return s, NameNobody
		}
		return s, Shun
	case s.Since == 0, !unknown && now-s.Last >= ShunGone:
		return Shunned{}, Trust
	}
	return s, NameNobody
}
