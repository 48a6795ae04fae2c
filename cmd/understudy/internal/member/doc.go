// Package member is one member of the set, without the flags of the commands: who it is, its
// volume's journal, its line to Kubernetes, the other members, and what runs beside the agent of
// package replicate. It joins clone, replicate and k8s, which do not import one another.
package member
