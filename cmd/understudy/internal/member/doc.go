// Package member is one member of the set, below the flags of the commands: its identity, its
// journal, its connection to Kubernetes, the other members, and the loops beside the agent of
// package replicate. It joins clone, replicate and k8s, which do not import one another.
package member
