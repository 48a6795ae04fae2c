package main

import (
	"fmt"
	"strings"

	"understudy/clone/wire"
	"understudy/replicate/failover"
)

// leadOf is what the members say of who leads: the leader's word, or that of the highest term. It is
// nil where no member knows of terms.
func leadOf(all []answer) *wire.Lead {
	var best *wire.Lead
	for _, a := range all {
		l := a.Said.Lead
		if a.Err != nil || l == nil {
			continue
		}
		if best == nil || l.Term > best.Term || l.Term == best.Term && l.Failover != nil && best.Failover == nil {
			best = l
		}
	}
	return best
}

// leadLines say who leads, and what an election would do now.
func leadLines(l *wire.Lead) []string {
	if l == nil {
		return nil
	}
	if l.Term == 0 {
		return []string{"leader: none: the Lease has no term yet"}
	}
	line := fmt.Sprintf("leader: none: term %d is %s, held by %s", l.Term, l.Phase, orNobody(l.Holder))
	if l.Phase == string(failover.Ended) {
		line = fmt.Sprintf("leader: none yet: the set went by its first ordinal after term %d", l.Term)
	}
	if l.Leader != "" {
		line = fmt.Sprintf("leader: %s, term %d", l.Leader, l.Term)
	}
	line += fmt.Sprintf("; the Lease was renewed %.1f s ago", l.LeaseAgeSeconds)
	if l.Away != "" {
		line += "; the API server is away: " + l.Away
	}
	lines := []string{line}
	if l.Leader != "" {
		lines = append(lines, acknowledgersLine(l), failoverLine(l.Failover))
	}
	if l.Forbidden != "" && (l.Failover == nil || !strings.Contains(l.Failover.Reason, l.Forbidden)) {
		lines = append(lines, "failover is forbidden: "+l.Forbidden)
	}
	return lines
}

func failoverLine(f *wire.Failover) string {
	if f == nil {
		return "failover: not known: the leader does not answer"
	}
	return f.Text
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

// acknowledgersLine says for whom commits wait.
func acknowledgersLine(l *wire.Lead) string {
	var names []string
	for _, a := range l.Acknowledgers {
		if a.Trouble != "" {
			names = append(names, fmt.Sprintf("%s (away: %s)", a.Member, a.Trouble))
		} else {
			names = append(names, a.Member)
		}
	}
	line := fmt.Sprintf("semi-sync: %s; acknowledgers: %s", l.Mode, orNobody(strings.Join(names, ", ")))
	if l.Degraded {
		line += "; DEGRADED: commits are on the leader's volume only"
	}
	if l.WaitingCommits > 0 {
		line += fmt.Sprintf("; commits that wait: %d", l.WaitingCommits)
	}
	return line
}

// leadTrouble is what is wrong with who leads; empty: nothing. A set of one cannot fail over, and
// where people forbid it, they know.
func leadTrouble(l *wire.Lead, members int) string {
	switch {
	case l == nil || members < 2 || l.Failover == nil:
		return ""
	case l.Degraded:
		return "degraded"
	case !l.Failover.Possible && l.Forbidden == "":
		return "failover is not possible"
	}
	return ""
}
