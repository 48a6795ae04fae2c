package main

import (
	"log/slog"
	"net"
	"os"
	"strings"
)

// resolvConf is where a pod's name service is configured.
// https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
const resolvConf = "/etc/resolv.conf"

// resolve finds the cluster's domain, so that members are looked up by absolute names. A name
// that is not absolute is tried with each domain of the search list, and the last "no such
// host" hides that the first answer was a failure. Channels, certificates and comparisons keep
// the names without it.
func (s *setFlags) resolve(log *slog.Logger) {
	text, err := os.ReadFile(resolvConf)
	if err != nil {
		log.Debug("the cluster's domain is not known", "error", err)
		return
	}
	if s.domain = clusterDomain(string(text), s.namespace); s.domain != "" {
		log.Info("members are looked up by absolute names", "example", s.absolute(s.host(s.firstOrdinal)), "domain", s.domain, "from", resolvConf)
	}
}

// clusterDomain is what stands behind "NAMESPACE.svc." in the search list, which the kubelet
// writes; empty without one. Of several lists the last one counts, see resolv.conf(5).
func clusterDomain(resolv, namespace string) string {
	domain := ""
	for line := range strings.Lines(resolv) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "search" {
			continue
		}
		domain = ""
		for _, name := range words[1:] {
			if rest, ok := strings.CutPrefix(strings.TrimSuffix(name, "."), namespace+".svc."); ok && domain == "" {
				domain = rest
			}
		}
	}
	return domain
}

// absolute completes the host name of a member that is a name of the set's service, in any of
// the forms that the search list completes, and ends it with a dot. Other names stay.
func (s *setFlags) absolute(host string) string {
	if s.domain == "" {
		return host
	}
	form := "." + s.service
	for _, rest := range []string{"." + s.namespace, ".svc", "." + s.domain, "."} {
		if name, ok := strings.CutSuffix(host, form); ok {
			return name + "." + s.service + "." + s.namespace + ".svc." + s.domain + "."
		}
		form += rest
	}
	return host
}

// dial is absolute for what is dialled; nil where it would change nothing.
func (s *setFlags) dial() func(addr string) string {
	if s.domain == "" {
		return nil
	}
	return func(addr string) string {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return addr
		}
		return net.JoinHostPort(s.absolute(host), port)
	}
}
