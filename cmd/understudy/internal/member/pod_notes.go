package member

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"understudy/k8s"
	"understudy/replicate"
)

// podNotes are observations of pods for the texts of /readyz and status: why the server does not
// answer, why the pod has no role label, what the first ordinal's pod lacks. No decision depends on
// them.
type podNotes struct {
	mu sync.Mutex
	// server is the server's container as it was when asked; zero while the server answers.
	server replicate.Container
	asked  time.Time
	// label is why the pod has no role label; empty where it has one or that is not known.
	label string
	// primary is the problem of the first ordinal's pod while this member waits for it.
	primary string
}

const (
	// backOff is the reason for which an ended container waits for its restart.
	backOff = "CrashLoopBackOff"
	// containerEvery is the time between two looks at a container whose server does not answer.
	containerEvery = 5 * time.Second
	// PrimaryEvery is the time between two looks at the first ordinal's pod.
	PrimaryEvery = 15 * time.Second
)

// lookAtContainer looks at the server's container while the server does not answer.
func (k *Kube) lookAtContainer(ctx context.Context, answers bool) {
	s := &k.pods
	if answers {
		s.know(time.Time{}, replicate.Container{})
		return
	}
	s.mu.Lock()
	asked := s.asked
	s.mu.Unlock()
	if time.Since(asked) < containerEvery {
		return
	}
	// The request may take seconds; readers of the notes do not wait for it.
	c, err := k.client.Container(ctx, k.container)
	if err != nil {
		k.log.DebugContext(ctx, "the server's container was not looked at", "error", err)
		return
	}
	s.know(time.Now(), replicate.Container{Restarts: c.Restarts, State: inWords(c), Failed: c.Failed})
}

func (s *podNotes) know(asked time.Time, server replicate.Container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.server = asked, server
}

// inWords describes a container; empty where it runs and never ended.
func inWords(c k8s.Container) string {
	var all []string
	if c.End != "" {
		all = append(all, fmt.Sprintf("last ended with %s (%d restarts)", c.End, c.Restarts))
	}
	if c.Waits != "" && c.Waits != backOff { // the end says more
		all = append(all, "is waiting: "+c.Waits)
	}
	if all == nil {
		return ""
	}
	return "the server's container " + strings.Join(all, ", and ")
}

// Container returns, for the agent, what is known of the server's container and, in a pod, which
// ports are in use beside those of this process, whose addresses are ours.
func (k *Kube) Container(server string, ours ...string) func() replicate.Container {
	s := &k.pods
	return func() replicate.Container {
		s.mu.Lock()
		defer s.mu.Unlock()
		c := s.server
		if s.asked.IsZero() { // not a pod, or the server answers
			return c
		}
		if ports := otherPorts("/proc/net", append(ours, server)); c.State == "" && ports != "" {
			c.State = fmt.Sprintf("the sidecar looks for it at %s (--server; replicas use --source-port), and the ports in use in this pod are %s", server, ports)
		}
		return c
	}
}

// otherPorts are the ports that are in use in this network namespace, without those of the
// addresses; empty where there are none. dir is /proc/net.
func otherPorts(dir string, without []string) string {
	var ports []int
	for _, name := range []string{"tcp", "tcp6"} {
		f, err := os.Open(dir + "/" + name)
		if err != nil {
			continue // IPv6 may be off
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			// " 0: 0100007F:0CEB 00000000:0000 0A …": local and remote address, and the state; 0A
			// is listening.
			fields := strings.Fields(lines.Text())
			if len(fields) < 4 || fields[3] != "0A" {
				continue
			}
			_, digits, _ := strings.Cut(fields[1], ":")
			number, err := strconv.ParseUint(digits, 16, 16)
			port := int(number)
			if err == nil && !slices.ContainsFunc(without, func(addr string) bool { return isPort(addr, port) }) {
				ports = append(ports, port)
			}
		}
		_ = f.Close()
	}
	slices.Sort(ports)
	var all []string
	for _, p := range slices.Compact(ports) {
		all = append(all, strconv.Itoa(p))
	}
	return strings.Join(all, ", ")
}

func isPort(addr string, port int) bool {
	_, text, err := net.SplitHostPort(addr)
	return err == nil && text == strconv.Itoa(port)
}

// labelled takes the result of labelling the pod.
func (k *Kube) labelled(err error) {
	s := &k.pods
	text := ""
	if errors.Is(err, k8s.ErrForbidden) {
		text = "the pod has no role label, so Services that select by role leave it out: " + err.Error() +
			"; the Role names each pod: add this one to manifests/names/members.yaml and apply it"
	} else if err != nil {
		return // not known
	}
	s.mu.Lock()
	before := s.label
	s.label = text
	s.mu.Unlock()
	switch {
	case text == before:
	case text != "":
		k.log.Warn("the pod has no role label", "error", err)
		k.Event(true, ReasonForbidden, text)
	default:
		k.Event(false, ReasonRecovered, "the pod has its role label")
	}
}

// Note is the problem of the pod or of the first ordinal's pod; empty where none is known.
func (k *Kube) Note() string {
	s := &k.pods
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.label != "" && s.primary != "" {
		return s.label + "; " + s.primary
	}
	return s.label + s.primary
}

// LookAtPrimary looks at the first ordinal's pod while waits is true, and forgets its problem
// otherwise.
func (k *Kube) LookAtPrimary(ctx context.Context, waits bool) {
	s := &k.pods
	if k.client == nil || k.id.IsFirst() {
		return
	}
	text := ""
	if waits {
		name := k.id.NameOf(k.id.First)
		p, err := k.client.Peer(ctx, name)
		if err != nil {
			k.log.DebugContext(ctx, "the first ordinal's pod was not looked at", "error", err)
			return
		}
		text = ofPrimary(p, name, k.id.Namespace)
	}
	s.mu.Lock()
	before := s.primary
	s.primary = text
	s.mu.Unlock()
	if text != "" && text != before {
		k.log.WarnContext(ctx, "waiting for the first ordinal", "reason", text)
		k.Event(true, ReasonWaitsForPrimary, text)
	}
}

// ofPrimary says what is wrong with the first ordinal's pod, why, and what to do; empty where
// nothing is known to be wrong.
func ofPrimary(p k8s.Peer, name, namespace string) string {
	text := "the pod " + name
	switch {
	case p.Absent:
		return text + " does not exist: check that the StatefulSet is not scaled to 0 and that its controller runs"
	case p.Unscheduled != "":
		return text + " has no node: " + p.Unscheduled
	case p.Ready || p.Trouble == "" && !p.Before:
		return ""
	}
	text += " is not ready"
	if p.Trouble != "" {
		text += ": " + p.Trouble
	}
	if p.Before {
		text += fmt.Sprintf("; it has the StatefulSet's previous template, and the rolling update reaches it only when this pod is ready, which waits for %s: "+
			"replace it with kubectl -n %s delete pod %s", name, namespace, name)
	}
	return text
}
