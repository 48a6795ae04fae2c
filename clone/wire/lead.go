package wire

// Lead is what a member knows of who leads, in a set whose primary the Lease names.
type Lead struct {
	// Term and Phase are those of the Lease; Term 0: it has no term that can be read.
	Term  uint64 `json:"term"`
	Phase string `json:"phase,omitempty"`
	// Leader is who leads, empty for nobody; Holder who holds the Lease.
	Leader string `json:"leader,omitempty"`
	Holder string `json:"holder,omitempty"`
	// Part is what the member does in the term: leader, heir, candidate or follower.
	Part string `json:"part"`
	Mode string `json:"mode,omitempty"`
	// LeaseAgeSeconds is the time since the last renewal was seen. Away is why the API server did not
	// answer last; empty: it did.
	LeaseAgeSeconds float64 `json:"lease_age_seconds"`
	Away            string  `json:"away,omitempty"`
	// Acknowledgers are the replicas that the Lease names.
	Acknowledgers []Acknowledger `json:"acknowledgers,omitempty"`
	// Degraded says that commits wait for no replica though the mode would have them wait.
	Degraded bool `json:"degraded,omitempty"`
	// WaitingCommits is how many commits wait for a replica now.
	WaitingCommits int `json:"waiting_commits,omitempty"`
	// PermissionSeconds is how much longer the leader may take writes.
	PermissionSeconds float64 `json:"permission_seconds,omitempty"`
	// Forbidden says who forbids failover, and why; empty: it is allowed.
	Forbidden string `json:"forbidden,omitempty"`
	// Failover says what an election would do now. Only the leader knows: nil elsewhere.
	Failover *Failover `json:"failover,omitempty"`
	// Note is what else people have to know.
	Note string `json:"note,omitempty"`
}

// Acknowledger is a replica that the Lease names.
type Acknowledger struct {
	Member string `json:"member"`
	// Trouble says, on the leader, why it does not acknowledge now; empty: it does.
	Trouble string `json:"trouble,omitempty"`
}

// Failover is what an election would do now, without the leader.
type Failover struct {
	Possible bool   `json:"possible"`
	To       string `json:"to,omitempty"`
	Reason   string `json:"reason"`
	// Text is all of it in one line.
	Text string `json:"text"`
}
