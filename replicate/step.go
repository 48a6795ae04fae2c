package replicate

// Step names what the loop does next.
type Step string

const (
	// Wait means that nothing can be done now, and that waiting is enough.
	Wait Step = "wait"
	// Report means that manual action is required.
	Report Step = "report"
	// Reseed means that replication cannot repair the member, and that it has to be reseeded: by
	// hand, or by the caller of the agent. The agent itself never does it.
	Reseed Step = "reseed"
	// Rest means that all is as it should be.
	Rest Step = "rest"
	// Fence makes the server read-only.
	Fence Step = "make read-only"
	// StopEvents stops the event scheduler where no event may run.
	StopEvents Step = "stop the event scheduler"
	// StartEvents starts it where events are to run.
	StartEvents Step = "start the event scheduler"
	// Unpersist removes what SET PERSIST has set against the configuration.
	Unpersist Step = "remove persisted settings"
	// Leave leaves the member alone, for somebody has paused it.
	Leave Step = "leave alone"
	// StartOver has the server's image make the data directory again, in an empty one. Who runs the
	// agent does it; the agent itself never does.
	StartOver Step = "make the data directory again"
	// MarkComplete records that the image has made a data directory, or that an adopted one has all
	// its files.
	MarkComplete Step = "record that the data directory is complete"
	// MakeAccount creates the accounts of replication, sidecar and clones or makes them right.
	MakeAccount Step = "make the accounts"
	// ChangePassword gives the administrator's account its passwords.
	ChangePassword Step = "change the administrator's password"
	// MarkAttached records that the member has taken its role.
	MarkAttached Step = "record that the member is attached"
	// OpenForWrites lifts read-only on the primary.
	OpenForWrites Step = "open for writes"
	// Configure points a fresh copy at its source.
	Configure Step = "configure replication"
	// Repoint points a replica at the right source, from where it is.
	Repoint Step = "repoint replication"
	// Forget makes the member forget transactions of its own that changed no data.
	Forget Step = "forget what changed no data"
	// Start starts the replication threads.
	Start Step = "start replication"
	// TakeOver makes a copy of a member the first ordinal's own.
	TakeOver Step = "take over the copy"
	// Follow has the first ordinal follow a member that has more, before it opens for writes.
	Follow Step = "follow the member that has more"
	// Detach ends that.
	Detach Step = "stop following"
	// AwaitTerm means that the member would open, and waits until the Lease says that its term is
	// open.
	AwaitTerm Step = "wait for the term"
	// SetSemiSync turns the member's side of semi-synchronous replication on.
	SetSemiSync Step = "set semi-sync"
)

// changes reports whether the step does something, or only waits for it to be done.
func (s Step) changes() bool {
	return s != Wait && s != AwaitTerm && s != Report && s != Reseed && s != StartOver && s != Rest && s != Leave
}

// Action is one step, and why.
type Action struct {
	Step   Step
	Reason string
}

// starts reports whether the step has a replica follow its source, at once or with the next step.
func (s Step) starts() bool { return s == Configure || s == Repoint || s == Start }
