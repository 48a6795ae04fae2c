package load

import (
	"slices"
	"sync"
	"time"
)

// Stats are the outcomes of the transactions of some time.
type Stats struct {
	// Commits is how many commits were acknowledged.
	Commits int
	// ConnectionLosses is how many transactions ended because there was no connection, or none any
	// more; Errors is how many ended with another error.
	ConnectionLosses, Errors int
	// Elapsed is the length of the time.
	Elapsed time.Duration
	// Median, P99 and Worst are of the time from sending COMMIT to its acknowledgement.
	Median, P99, Worst time.Duration
	// WorstTransaction is the longest time from the begin of a transaction to its acknowledgement.
	WorstTransaction time.Duration
	// LongestGap is the longest time in which no commit was acknowledged, whatever the reason.
	LongestGap time.Duration
}

// Mark is a point in a Load's history.
type Mark struct {
	at                      time.Time
	commits, losses, errors int
}

// Mark is the present point in the Load's history, for Since.
func (l *Load) Mark() Mark { return l.recorder.mark() }

// Since returns what happened from the mark until now. The zero Mark is the time of the first
// commit.
func (l *Load) Since(m Mark) Stats { return l.recorder.since(m) }

// recorder keeps one sample for each acknowledged commit.
type recorder struct {
	mu             sync.Mutex
	samples        []sample
	losses, errors int
}

type sample struct {
	at            time.Time
	commit, whole time.Duration
}

func (r *recorder) committed(commit, whole time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.samples = append(r.samples, sample{at: time.Now(), commit: commit, whole: whole})
}

func (r *recorder) failed(lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if lost {
		r.losses++
	} else {
		r.errors++
	}
}

func (r *recorder) mark() Mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Mark{at: time.Now(), commits: len(r.samples), losses: r.losses, errors: r.errors}
}

func (r *recorder) since(m Mark) Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	samples := r.samples[m.commits:]
	stats := Stats{Commits: len(samples), ConnectionLosses: r.losses - m.losses, Errors: r.errors - m.errors}
	last, now := m.at, time.Now()
	if last.IsZero() && len(samples) > 0 {
		last = samples[0].at
	}
	if last.IsZero() {
		return stats
	}
	stats.Elapsed = now.Sub(last)
	commits := make([]time.Duration, 0, len(samples))
	for _, s := range samples {
		commits = append(commits, s.commit)
		stats.WorstTransaction = max(stats.WorstTransaction, s.whole)
		stats.LongestGap = max(stats.LongestGap, s.at.Sub(last))
		last = s.at
	}
	stats.LongestGap = max(stats.LongestGap, now.Sub(last))
	if len(commits) > 0 {
		slices.Sort(commits)
		stats.Median, stats.P99, stats.Worst = quantile(commits, 50), quantile(commits, 99), commits[len(commits)-1]
	}
	return stats
}

// quantile is the smallest of the sorted values that at least percent per cent of them do not
// exceed.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)*percent+99)/100-1]
}
