// Package k8s is what a member asks of Kubernetes beyond its pod: Events, the role
// label of its own pod, and the set's Lease, which remembers that the set has data, and
// which members were ever attached.
//
// All of it is comfort but two answers: whether the set was ever initialised, and who its
// members are. While the API server is away everything else goes on without it, and these
// questions wait.
package k8s
