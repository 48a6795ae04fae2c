package failover

// Sender is the report of the member from which an heir receives what it lacks of the others'
// reports; false: it lacks nothing, or no member can send it. A member sends what it has executed:
// what it has received only, it sends once it has applied it.
func Sender(r Record, reports []Report, heir string) (Report, bool) {
	ballots, refused := r.Heeding(reports).count(reports)
	if refused != "" {
		return Report{}, false
	}
	var all Extent
	var own *ballot
	for i, b := range ballots {
		all = all.Union(b.Extent)
		if b.Member == heir {
			own = &ballots[i]
		}
	}
	if own == nil || own.Lacks(all) == "" {
		return Report{}, false
	}
	if from := sender(ballots, *own, all); from != nil {
		return from.Report, true
	}
	return Report{}, false
}

// sender is who has all that the heir lacks. One with errant transactions does not serve: they would
// come along.
func sender(ballots []ballot, heir ballot, all Extent) *ballot {
	for i, b := range ballots {
		if b.Serves && b.Errant == "" && !b.Old && heir.Union(b.Extent).Contains(all) {
			return &ballots[i]
		}
	}
	return nil
}
