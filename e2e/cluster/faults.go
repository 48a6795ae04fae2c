package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// StopAPIServer kills the API server. Pods go on, and kubelet still runs their probes and restarts
// their containers.
func (c *Cluster) StopAPIServer(ctx context.Context) error { return c.stop(ctx, "kube-apiserver") }

// StartAPIServerAlone starts it again, and returns when it answers.
func (c *Cluster) StartAPIServerAlone(ctx context.Context) error {
	if err := c.start(ctx, "kube-apiserver"); err != nil {
		return err
	}
	return c.wait(ctx, "the API server", func(ctx context.Context) error {
		_, err := c.Kubectl(ctx, "get", "--raw", "/readyz")
		return err
	})
}

// StartAPIServer starts it again, and everything else that talks to it but kubelet's containers:
// after minutes of refusals each of these rests up to a minute before it looks again, and meanwhile
// acts on what was true long ago (client-go's reflectors back off to 30 s, doubled by chance). It
// returns when the node is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	if err := c.StartAPIServerAlone(ctx); err != nil {
		return err
	}
	return c.restartClients(ctx)
}

// restartClients ends StartAPIServer.
func (c *Cluster) restartClients(ctx context.Context) error {
	for _, component := range []string{"kube-controller-manager", "kube-scheduler", "coredns", "kube-proxy"} {
		if err := errors.Join(c.stop(ctx, component), c.start(ctx, component)); err != nil {
			return err
		}
	}
	if err := c.RestartKubelet(ctx); err != nil {
		return err
	}
	return c.wait(ctx, "the node", func(ctx context.Context) error {
		_, err := c.Kubectl(ctx, "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=1s")
		return err
	})
}

// RestartKubelet kills kubelet and starts it again. Containers go on meanwhile. It returns when
// kubelet knows its pods again, so that logs and exec work; the API server must be up.
func (c *Cluster) RestartKubelet(ctx context.Context) error {
	if err := c.StopKubelet(ctx); err != nil {
		return err
	}
	return c.StartKubelet(ctx)
}

// StopKubelet kills kubelet. Containers go on, and one that ends stays so.
func (c *Cluster) StopKubelet(ctx context.Context) error { return c.stop(ctx, "kubelet") }

// StartKubelet starts kubelet again, and returns when RestartKubelet does.
func (c *Cluster) StartKubelet(ctx context.Context) error {
	if err := c.start(ctx, "kubelet"); err != nil {
		return err
	}
	return c.wait(ctx, "kubelet", func(ctx context.Context) error {
		want, err := c.Kubectl(ctx, "get", "pods", "-A", "-o", "json")
		if err != nil {
			return err
		}
		have, err := c.Kubectl(ctx, "get", "--raw", "/api/v1/nodes/"+c.places.node+"/proxy/pods")
		if err != nil {
			return err
		}
		return everyPod(want, have)
	})
}

// everyPod fails if the second of two lists lacks a pod of the first.
func everyPod(want, have string) error {
	var lists [2]struct {
		Items []struct{ Metadata struct{ UID string } }
	}
	if err := errors.Join(json.Unmarshal([]byte(want), &lists[0]), json.Unmarshal([]byte(have), &lists[1])); err != nil {
		return fmt.Errorf("read lists of pods: %w", err)
	}
	known := map[string]bool{}
	for _, pod := range lists[1].Items {
		known[pod.Metadata.UID] = true
	}
	for _, pod := range lists[0].Items {
		if !known[pod.Metadata.UID] {
			return fmt.Errorf("kubelet does not know pod %s yet", pod.Metadata.UID)
		}
	}
	return nil
}

// stop kills a component and waits until it has ended.
func (c *Cluster) stop(ctx context.Context, component string) error {
	pid, err := os.ReadFile(filepath.Join(c.places.run, "pid", component))
	if err != nil {
		return fmt.Errorf("stop %s: %w", component, err)
	}
	const script = `kill -KILL "$1" && while kill -0 "$1" 2>/dev/null; do sleep 0.05; done`
	if _, err := c.node(ctx, nil, "bash", "-c", script, "stop", strings.TrimSpace(string(pid))); err != nil {
		return fmt.Errorf("stop %s: %w", component, err)
	}
	return nil
}

func (c *Cluster) start(ctx context.Context, component string) error {
	if _, err := c.node(ctx, nil, "setsid", "--fork", "bash", filepath.Join(c.places.module, "node/component.sh"), component); err != nil {
		return fmt.Errorf("start %s: %w", component, err)
	}
	return nil
}

// Partition drops every packet between the two pods, either way, until [Cluster.Heal]: connections
// hang, as they do when a network fails. It goes by the pods' present addresses, so a pod that
// replaces one of them is not cut off. Several partitions add up.
func (c *Cluster) Partition(ctx context.Context, podA, podB string) error {
	a, err := c.PodIP(ctx, podA)
	if err != nil {
		return err
	}
	b, err := c.PodIP(ctx, podB)
	if err != nil {
		return err
	}
	// What pods on one bridge say to one another passes the machine's forward hook
	// (bridge-nf-call-iptables).
	rules := fmt.Sprintf(`table ip partition {
	set pairs { type ipv4_addr . ipv4_addr; elements = { %[1]s . %[2]s, %[2]s . %[1]s } }
	chain forward { type filter hook forward priority -10; }
}
flush chain ip partition forward
add rule ip partition forward ip saddr . ip daddr @pairs drop
`, a, b)
	if _, err := c.node(ctx, strings.NewReader(rules), "nft", "-f", "-"); err != nil {
		return fmt.Errorf("partition %s from %s: %w", podA, podB, err)
	}
	return nil
}

// Isolate drops every packet from and to the pod, also those of the API server, of kubelet's probes
// and of the node's name server, until [Cluster.Heal]. kubelet itself still looks after the pod. It
// goes by the pod's present address, and adds up with partitions.
func (c *Cluster) Isolate(ctx context.Context, pod string) error {
	ip, err := c.PodIP(ctx, pod)
	if err != nil {
		return err
	}
	var rules strings.Builder
	rules.WriteString("table ip partition {\n")
	for _, hook := range []string{"forward", "input", "output"} {
		fmt.Fprintf(&rules, "\tchain cut_%[1]s { type filter hook %[1]s priority -10; ip saddr %[2]s drop; ip daddr %[2]s drop; }\n", hook, ip)
	}
	if _, err := c.node(ctx, strings.NewReader(rules.String()+"}\n"), "nft", "-f", "-"); err != nil {
		return fmt.Errorf("cut %s off: %w", pod, err)
	}
	return nil
}

// Heal ends all partitions. Without one it does nothing.
func (c *Cluster) Heal(ctx context.Context) error {
	// Added first, so that there is one to delete.
	if _, err := c.node(ctx, strings.NewReader("add table ip partition\ndelete table ip partition\n"), "nft", "-f", "-"); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	return nil
}

// PodIP returns a pod's address.
func (c *Cluster) PodIP(ctx context.Context, pod string) (string, error) {
	ip, err := c.Kubectl(ctx, "get", "pod", pod, "-o", "jsonpath={.status.podIP}")
	if err != nil {
		return "", fmt.Errorf("find address of %s: %w", pod, err)
	}
	if ip == "" {
		return "", fmt.Errorf("find address of %s: it has none yet", pod)
	}
	return ip, nil
}

// KillInContainer sends a signal ("SIGKILL") to the first process of a container from outside, as
// the kernel's OOM killer or a person on the node would: from inside, pid 1 cannot be killed. It
// works while the API server is down.
func (c *Cluster) KillInContainer(ctx context.Context, pod, container, signal string) error {
	id, err := c.containerID(ctx, pod, container)
	if err != nil {
		return err
	}
	if _, err := c.ctr(ctx, "tasks", "kill", "--signal", signal, id); err != nil {
		return fmt.Errorf("send %s to %s of %s: %w", signal, container, pod, err)
	}
	return nil
}

// containerID asks containerd, which knows what runs also while the API server is down.
func (c *Cluster) containerID(ctx context.Context, pod, container string) (string, error) {
	filter := fmt.Sprintf(`labels."io.kubernetes.pod.namespace"==%q,labels."io.kubernetes.pod.name"==%q,labels."io.kubernetes.container.name"==%q`,
		c.Namespace, pod, container)
	known, err := c.ctr(ctx, "containers", "list", "-q", filter)
	if err != nil {
		return "", fmt.Errorf("find container %s of %s: %w", container, pod, err)
	}
	tasks, err := c.ctr(ctx, "tasks", "list")
	if err != nil {
		return "", fmt.Errorf("find container %s of %s: %w", container, pod, err)
	}
	running := map[string]bool{}
	for line := range strings.Lines(tasks) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[2] == "RUNNING" {
			running[fields[0]] = true
		}
	}
	for id := range strings.FieldsSeq(known) {
		if running[id] {
			return id, nil
		}
	}
	return "", fmt.Errorf("find container %s of %s: none is running", container, pod)
}
