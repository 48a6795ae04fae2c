// Package guard lets a test of the end-to-end checker switch off one guard of failover, so that the
// checker has a fault to find. Programs have none of it: only the build tag mutant makes it more
// than a constant.
package guard

// Guard is what prevents a fault.
type Guard string

const (
	// Quorum says that an election needs the reports of enough acknowledgers.
	Quorum Guard = "quorum"
	// Position says that a member is named when it has executed all up to a position taken before.
	Position Guard = "position"
	// Bar says that a member is barred before it is removed.
	Bar Guard = "bar"
	// Binding says that a member that reports has stopped receiving, and acknowledges nothing any more.
	Binding Guard = "binding"
	// Timer says that a leader is killed when its permission has ended.
	Timer Guard = "timer"
	// Drained says that an heir opens when it has executed all that the reports have.
	Drained Guard = "drained"
	// Waiting says that the commits of a leader wait for the acknowledgers that the Lease names.
	Waiting Guard = "waiting"
	// Side says that a replica acknowledges when the Lease names it.
	Side Guard = "side"
)

// Variable is the environment variable that names the guard to be switched off.
const Variable = "UNDERSTUDY_MUTANT"
