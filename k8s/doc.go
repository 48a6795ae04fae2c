// Package k8s is what a member asks of the Kubernetes API: Events, the role label of its own pod,
// the state of pods, and the set's Lease, which records that the set has data and which members
// were ever attached.
//
// Only two answers are indispensable: whether the set was ever initialised, and who its members
// are. These questions wait while the API server is away; everything else goes on without it. In a
// set with --primary=lease who leads needs it, too, see Terms.
package k8s
