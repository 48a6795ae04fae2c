package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"
	"understudy/replicate"
	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
	"understudy/replicate/origin"
)

// check is what --verify finds out about a member.
type check struct {
	// Behind is how many transactions a replica has yet to execute; nil where it was not compared.
	Behind *uint64 `json:"behind,omitempty"`
	// Findings are what is not right, in sentences.
	Findings []string `json:"findings"`
}

const (
	// verifyPatience is the time for which the primary is asked again about transactions of a
	// replica: more than two looks of a sidecar at its server.
	verifyPatience = 5 * time.Second
	verifyEvery    = 500 * time.Millisecond
)

// verifyAll compares all members with the primary and sets their checks. again asks one of
// them again.
func verifyAll(ctx context.Context, all []answer, again func(ctx context.Context, at int) answer) {
	for i := range all {
		all[i].check = &check{Findings: []string{}}
		if err := all[i].comparable(); err != nil {
			all[i].finds("%s cannot be compared: %v", all[i].Name, err)
		}
	}
	at, ok := onlyPrimary(all)
	if !ok || all[at].comparable() != nil {
		return // there is nothing to compare with, and an error says so
	}
	primary := all[at]
	for i := range all {
		all[i].check.Behind = all[i].behind(primary)
	}
	begun := time.Now()
	lacks := lacksOf(primary, all)
	for len(lacks) > 0 && time.Since(begun) < verifyPatience && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(verifyEvery):
		}
		if now := again(ctx, at); now.comparable() == nil && now.primary() {
			lacks = lacksOf(now, all)
		}
	}
	for i, sentences := range lacks {
		for _, text := range sentences {
			all[i].finds("%s", text)
		}
	}
}

func (a answer) finds(format string, args ...any) {
	a.check.Findings = append(a.check.Findings, fmt.Sprintf(format, args...))
}

// onlyPrimary is the index of the primary, if exactly one member says that it is the primary.
func onlyPrimary(all []answer) (at int, ok bool) {
	for i, a := range all {
		if a.primary() {
			if ok {
				return 0, false
			}
			at, ok = i, true
		}
	}
	return at, ok
}

var (
	errSilent = errors.New("it does not answer")
	errNotYet = errors.New("it has no data yet")
	errNoGTID = errors.New("it reports no GTIDs; replication by file and position has none to compare")
)

// comparable says why the member's GTIDs cannot be compared.
func (a answer) comparable() error {
	m := a.Said
	switch {
	case a.Err != nil:
		return errSilent
	case m.Phase == member.PhaseEmpty || m.Phase == member.PhaseCloning:
		return errNotYet
	case m.ServerID == 0: // its server was not observed
		return errors.New(m.Reason)
	case m.GTID == "" && m.Received == "":
		return errNoGTID
	}
	_, err := a.history()
	return err
}

// has is all that the member has executed or received. Members of older versions report it in GTID.
func (a answer) has() string {
	if a.Said.Received == "" {
		return a.Said.GTID
	}
	return a.Said.Received
}

func (a answer) history() (gtid.History, error) {
	return gtid.Parse(flavor.Flavor(a.Said.Flavor), a.has())
}

// comparesTo says whether the member can be compared with that primary.
func (a answer) comparesTo(primary answer) bool {
	return a.Name != primary.Name && a.comparable() == nil && a.Said.Flavor == primary.Said.Flavor
}

func (a answer) behind(primary answer) *uint64 {
	if !a.comparesTo(primary) {
		return nil
	}
	f := flavor.Flavor(a.Said.Flavor)
	ours, err := gtid.Parse(f, a.Said.GTID) // without what it has only received
	if err != nil {
		return nil
	}
	theirs, err := gtid.Parse(f, primary.Said.GTID)
	if err != nil {
		return nil
	}
	n := ours.Behind(theirs)
	return &n
}

// lacksOf says what the primary lacks, by the index of the member that has it.
func lacksOf(primary answer, all []answer) map[int][]string {
	lacks := map[int][]string{}
	for i, a := range all {
		if text := a.errant(primary); text != "" {
			lacks[i] = append(lacks[i], text)
		}
		if text := a.strayOrigin(primary); text != "" {
			lacks[i] = append(lacks[i], text)
		}
	}
	return lacks
}

// errant says what the member has and the primary lacks.
func (a answer) errant(primary answer) string {
	if a.comparable() != nil || a.Name == primary.Name {
		return ""
	}
	if !a.comparesTo(primary) {
		return fmt.Sprintf("%s cannot be compared: it is %s, and %s is %s", a.Name, a.Said.Flavor, primary.Name, primary.Said.Flavor)
	}
	e, err := replicate.Errant(flavor.Flavor(a.Said.Flavor), a.Said.ServerID, a.has(), primary.has())
	if err != nil {
		return fmt.Sprintf("%s cannot be compared: %v", a.Name, err)
	}
	if e.Empty() {
		return ""
	}
	text := e.String()
	// The member has looked into its binary logs.
	if a.Said.Flavor == string(flavor.MariaDB) && a.Said.Errant != "" {
		text = a.Said.Errant
	}
	return fmt.Sprintf("%s has transactions that %s lacks: %s", a.Name, primary.Name, text)
}

// strayOrigin says that the primary, or the member itself, lacks what the member's clone
// began with. A coordinate by file and position cannot be compared.
func (a answer) strayOrigin(primary answer) string {
	clone := a.Said.Clone
	if a.Err != nil || clone == nil || clone.Origin == nil || clone.Origin.Mode != origin.GTID {
		return ""
	}
	began, err := gtid.Parse(flavor.Flavor(a.Said.Flavor), clone.Origin.GTID)
	if err != nil {
		return fmt.Sprintf("the clone of %s from %s cannot be compared: %v", a.Name, clone.Donor, err)
	}
	holders := []answer{primary}
	if a.Said.Phase == string(volume.Attached) { // until then its server may not have been told
		holders = append(holders, a)
	}
	for _, who := range holders {
		has, err := who.history()
		if who.comparable() != nil || err != nil || who.Said.Flavor != a.Said.Flavor {
			continue
		}
		if !has.Contains(began) {
			return fmt.Sprintf("%s lacks what the clone of %s from %s began with: %s", who.Name, a.Name, clone.Donor, clone.Origin.GTID)
		}
	}
	return ""
}

// printChecks prints a table of the comparisons, and the findings below it.
func printChecks(w io.Writer, all []answer) error {
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, cellPadding, ' ', 0)
	printRow(table, strings.Fields("MEMBER BEHIND DONOR ENGINE BYTES DIGEST ORIGIN"))
	var findings []string
	for _, a := range all {
		behind := ""
		if a.check.Behind != nil {
			behind = strconv.FormatUint(*a.check.Behind, 10)
		}
		printRow(table, append([]string{a.Name, behind}, cloneCells(a.Said.Clone)...))
		findings = append(findings, a.check.Findings...)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return printBelow(w, findings)
}

func cloneCells(c *wire.Cloned) []string {
	if c == nil {
		return []string{"", "", "", "", ""}
	}
	bytes, from := "", ""
	if c.Bytes > 0 {
		bytes = strconv.FormatInt(c.Bytes, 10)
	}
	if c.Origin != nil {
		from = c.Origin.String()
		if c.Origin.Mode == origin.GTID {
			from = c.Origin.GTID
		}
	}
	return []string{c.Donor, c.Engine, bytes, c.Digest, from}
}
