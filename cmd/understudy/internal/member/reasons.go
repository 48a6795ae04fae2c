package member

import (
	"understudy/k8s"
	"understudy/replicate/lead"
)

// The reasons of the Events that the member makes itself. Those that begin with Clone are of
// package clone.
const (
	ReasonEmptyVolume      = "EmptyVolume"
	ReasonEvicted          = "Evicted"
	ReasonForbidden        = "Forbidden"
	ReasonImageInterrupted = "ImageInterrupted"
	ReasonMovedAside       = "MovedAside"
	ReasonNeedsHelp        = "NeedsHelp"
	ReasonNotReseeded      = "NotReseeded"
	ReasonPodMissing       = "PodMissing"
	ReasonRecovered        = k8s.Recovered
	ReasonRefused          = "Refused"
	ReasonReplication      = "Replication"
	ReasonReseedFailed     = "ReseedFailed"
	ReasonReseedGivenUp    = "ReseedGivenUp"
	ReasonReseedRefused    = "ReseedRefused"
	ReasonReseedRequested  = "ReseedRequested"
	ReasonReseedWaits      = "ReseedWaits"
	ReasonRoleSet          = "RoleSet"
	ReasonVolumeCopied     = "VolumeCopied"
	ReasonWaitsForPrimary  = "WaitsForPrimary"
)

// Reason describes the Events of one reason.
type Reason struct {
	Name string
	// By is the container that sends them.
	By string
	// When says when they are sent.
	When string
}

// Reasons are all reasons of Events, by name. The reference is made of them.
var Reasons = []Reason{
	{lead.ReasonAcknowledgerNamed, "sidecar", "`--primary=lease`: the Lease names another replica that acknowledges commits"},
	{lead.ReasonAcknowledgerRemoved, "sidecar", "`--primary=lease`: the Lease names a replica no more that acknowledged commits"},
	{"CloneFailed", "init", "a clone from one donor failed; init tries again, with another donor if there is one"},
	{"CloneFinished", "init", "a clone is prepared and published"},
	{"CloneIncomplete", "init", "a clone lacks what every server loses when it starts, such as the rows of MEMORY tables"},
	{"CloneProgress", "init", "a running clone has passed another quarter of its size"},
	{"CloneSlow", "init", "a clone may end after the primary has removed the binary logs that it needs"},
	{"CloneStarted", "init", "a clone begins"},
	{lead.ReasonDegraded, "sidecar", "`--primary=lease`: the leader goes on without acknowledgers, and nobody else can be elected"},
	{lead.ReasonElected, "sidecar", "`--primary=lease`: an election has found the next leader"},
	{lead.ReasonElectionFailed, "sidecar", "`--primary=lease`: an election or a promotion has failed: the text says why"},
	{ReasonEmptyVolume, "init", "the first ordinal's volume is empty, and init waits for a member with data or for permission to start empty"},
	{ReasonEvicted, "sidecar", "the pod was evicted for a reseed"},
	{lead.ReasonFailoverAllowed, "sidecar", "`--primary=lease`: `understudy failover --allow`"},
	{lead.ReasonFailoverForbidden, "sidecar", "`--primary=lease`: `understudy failover --forbid`"},
	{ReasonForbidden, "sidecar", "the Role does not allow the sidecar to label its pod"},
	{lead.ReasonForced, "sidecar", "`--primary=lease`: `understudy promote` has made the member the next leader"},
	{lead.ReasonForeign, "sidecar", "`--primary=lease`, MariaDB: the leader has executed transactions that are not of its term: the text says what to do"},
	{ReasonImageInterrupted, "sidecar", "the server's image was interrupted while it made the data directory: the pod was evicted, or waits for that"},
	{lead.ReasonLeads, "sidecar", "`--primary=lease`: the member has opened a term: it is the primary"},
	{lead.ReasonLeaseWritten, "sidecar", "`--primary=lease`: a Lease that was missing or went back was written again"},
	{ReasonMovedAside, "init", "incomplete data were moved aside"},
	{ReasonNeedsHelp, "sidecar", "something is wrong, or manual action is required: the text says which"},
	{lead.ReasonNotDegraded, "sidecar", "`--primary=lease`: commits wait for a replica again"},
	{ReasonNotReseeded, "sidecar", "`--reseed=auto` does not reseed a replica that replication cannot repair: the text says why"},
	{ReasonPodMissing, "sidecar", "`--primary=lease`, podManagementPolicy OrderedReady: nobody leads, and a pod is made only when this member is ready: it counts as ready"},
	{ReasonRecovered, "sidecar", "the cause of earlier Warnings is gone"},
	{ReasonRefused, "init", "init refused to touch the volume (exit code 3)"},
	{ReasonReplication, "sidecar", "the member's state has changed, such as an opened primary or a started replica"},
	{ReasonReseedFailed, "sidecar", "a step of a reseed failed; it is tried again"},
	{ReasonReseedGivenUp, "init", "a reseed failed, and the server starts on its old data"},
	{ReasonReseedRefused, "init, sidecar", "the primary's volume has a request for a reseed, or with `--primary=lease` that of the member that led last, or of one that may have"},
	{ReasonReseedRequested, "sidecar", "`--reseed=auto` has requested a reseed"},
	{ReasonReseedWaits, "sidecar", "a reseed waits for the pod's eviction"},
	{lead.ReasonResigned, "sidecar", "`--primary=lease`: the leader leads no more: the text says why"},
	{ReasonRoleSet, "sidecar", "the pod's role label was set"},
	{lead.ReasonSwitchedOver, "sidecar", "`--primary=lease`: a planned change was made"},
	{lead.ReasonSwitchoverFailed, "sidecar", "`--primary=lease`: a planned change was not made: the leader is as it was, or the text says what is not known"},
	{ReasonVolumeCopied, "init", "the volume is a copy of another member's"},
	{lead.ReasonStandoff, "sidecar", "`--primary=lease --semi-sync=required`: commits wait for a replica, and the clone that a replica needs waits for them: the leader's server is killed, and gives a clone before it leads again"},
	{lead.ReasonStrangers, "sidecar", "`--primary=lease`: a replica acknowledges commits and is no member: nobody is named until it does not"},
	{lead.ReasonVolumeStands, "sidecar", "`--primary=lease`: the leader's volume takes no writes: it gives the Lease away, or nobody else could lead"},
	{ReasonWaitsForPrimary, "init, sidecar", "the member waits for a donor, or has no source, and the first ordinal's pod is not ready: the text says why. It is that pod with `--primary=lease`, too, whoever leads"},
}
