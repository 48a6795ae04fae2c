package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"

	"understudy/replicate/flavor"
)

// memberFlags say which member of which set this is.
type memberFlags struct {
	podName, namespace, set, service, peerHost, flavorName string

	firstOrdinal, serverIDBase, members int

	ordinal int
	flavor  flavor.Flavor
}

func (m *memberFlags) define(f *flagSet) {
	f.StringVar(&m.podName, "pod-name", "", "`name` of this member, SET-ORDINAL; empty: the host name")
	f.alsoFrom("pod-name", "POD_NAME")
	f.StringVar(&m.namespace, "namespace", "default", "`namespace` of the set; part of what the secret opens")
	f.alsoFrom("namespace", "POD_NAMESPACE")
	f.StringVar(&m.set, "set", "", "`name` of the set; empty: the member's name without its ordinal")
	f.StringVar(&m.service, "service", "", "`name` of the set's headless service; empty: the set's name")
	f.StringVar(&m.peerHost, "peer-host", "{set}-{ordinal}.{service}", "`template` of a member's host name; {set}, {ordinal}, {service} and {namespace} are filled in")
	f.IntVar(&m.firstOrdinal, "first-ordinal", 0, "`ordinal` that is the primary and never clones")
	f.IntVar(&m.members, "members", 10, "`number` of members that there may be, from the first ordinal on; those that do not exist do no harm")
	f.IntVar(&m.serverIDBase, "server-id-base", 100, "`number` to which the ordinal is added to make the server_id")
	f.StringVar(&m.flavorName, "flavor", "", "`flavor` of the server: mysql or mariadb (required: an empty volume does not tell)")
}

// podName is a StatefulSet's: the set, a dash, the ordinal.
var podName = regexp.MustCompile(`^(.+)-(\d+)$`)

func (m *memberFlags) validate() error {
	if m.podName == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("read the host name: %w", err)
		}
		m.podName = host
	}
	parts := podName.FindStringSubmatch(m.podName)
	if parts == nil {
		return fmt.Errorf("--pod-name=%s: it must be SET-ORDINAL, as in db-0", m.podName)
	}
	var err error
	if m.ordinal, err = strconv.Atoi(parts[2]); err != nil {
		return fmt.Errorf("--pod-name=%s: the ordinal is too large", m.podName)
	}
	if m.set == "" {
		m.set = parts[1]
	}
	if m.service == "" {
		m.service = m.set
	}
	if m.flavorName == "" {
		return errors.New("--flavor is required: mysql or mariadb")
	}
	if m.flavor, err = flavor.Parse(m.flavorName); err != nil {
		return fmt.Errorf("--flavor: %w", err)
	}
	if m.firstOrdinal < 0 || m.ordinal < m.firstOrdinal {
		return fmt.Errorf("--first-ordinal=%d: this is ordinal %d, which may not come before the first", m.firstOrdinal, m.ordinal)
	}
	if id := int64(m.serverIDBase) + int64(m.ordinal); id < 1 || id > math.MaxUint32 {
		return fmt.Errorf("--server-id-base=%d: the server_id would be %d, and must be from 1 to %d", m.serverIDBase, id, uint32(math.MaxUint32))
	}
	if m.members < 0 {
		return fmt.Errorf("--members=%d: it must not be less than 0", m.members)
	}
	if !strings.Contains(m.peerHost, "{ordinal}") {
		return fmt.Errorf("--peer-host=%s: it must contain {ordinal}", m.peerHost)
	}
	return nil
}

func (m *memberFlags) first() bool { return m.ordinal == m.firstOrdinal }

func (m *memberFlags) serverID() uint32 {
	return uint32(m.serverIDBase + m.ordinal) //nolint:gosec // validate has seen it
}

// peers are the ordinals of all members that there may be, but this one.
func (m *memberFlags) peers() []int {
	var all []int
	for ordinal := m.firstOrdinal; ordinal < max(m.firstOrdinal+m.members, m.ordinal); ordinal++ {
		if ordinal != m.ordinal {
			all = append(all, ordinal)
		}
	}
	return all
}

func (m *memberFlags) name(ordinal int) string { return fmt.Sprintf("%s-%d", m.set, ordinal) }

// host is the host name of a member.
func (m *memberFlags) host(ordinal int) string {
	return strings.NewReplacer(
		"{set}", m.set, "{ordinal}", strconv.Itoa(ordinal), "{service}", m.service, "{namespace}", m.namespace,
	).Replace(m.peerHost)
}
