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

// setFlags say which set it is, and where its members are.
type setFlags struct {
	podName, namespace, set, service, peerHost string

	domain string // the cluster's, see resolve

	firstOrdinal, members int
}

func (s *setFlags) define(f *flagSet) {
	f.StringVar(&s.podName, "pod-name", "", "`name` of this member, SET-ORDINAL; empty: the host name")
	f.alsoFrom("pod-name", "POD_NAME")
	f.StringVar(&s.namespace, "namespace", "default", "`namespace` of the set; part of what the secret opens")
	f.alsoFrom("namespace", "POD_NAMESPACE")
	f.StringVar(&s.set, "set", "", "`name` of the set; empty: the member's name without its ordinal")
	f.StringVar(&s.service, "service", "", "`name` of the set's headless service; empty: the set's name")
	f.StringVar(&s.peerHost, "peer-host", "{set}-{ordinal}.{service}", "`template` of a member's host name; {set}, {ordinal}, {service} and {namespace} are filled in")
	f.IntVar(&s.firstOrdinal, "first-ordinal", 0, "`ordinal` that is the primary and never clones")
	f.IntVar(&s.members, "members", 10, "`number` of members that are asked in any case, from the first ordinal on; those that do not\n"+
		"exist do no harm. Further ones are known from the set's Lease and its StatefulSet, and, as\n"+
		"without Kubernetes, by their names: the next ten are asked, too, while one of these answers")
}

// podName is a StatefulSet's: the set, a dash, the ordinal.
var podName = regexp.MustCompile(`^(.+)-(\d+)$`)

// identify finds this member's ordinal in the pod's name, and the set, unless that was given.
func (s *setFlags) identify() (ordinal int, err error) {
	if s.podName == "" {
		if s.podName, err = os.Hostname(); err != nil {
			return 0, fmt.Errorf("read the host name: %w", err)
		}
	}
	parts := podName.FindStringSubmatch(s.podName)
	if parts == nil {
		return 0, fmt.Errorf("--pod-name=%s: it must be SET-ORDINAL, as in db-0", s.podName)
	}
	if ordinal, err = strconv.Atoi(parts[2]); err != nil {
		return 0, fmt.Errorf("--pod-name=%s: the ordinal is too large", s.podName)
	}
	if s.set == "" {
		s.set = parts[1]
	}
	return ordinal, nil
}

// validate needs the set's name.
func (s *setFlags) validate() error {
	if s.service == "" {
		s.service = s.set
	}
	if s.firstOrdinal < 0 {
		return fmt.Errorf("--first-ordinal=%d: it must not be less than 0", s.firstOrdinal)
	}
	if s.members < 0 {
		return fmt.Errorf("--members=%d: it must not be less than 0", s.members)
	}
	if !strings.Contains(s.peerHost, "{ordinal}") {
		return fmt.Errorf("--peer-host=%s: it must contain {ordinal}", s.peerHost)
	}
	return nil
}

func (s *setFlags) name(ordinal int) string { return fmt.Sprintf("%s-%d", s.set, ordinal) }

// host is the host name of a member.
func (s *setFlags) host(ordinal int) string {
	return strings.NewReplacer(
		"{set}", s.set, "{ordinal}", strconv.Itoa(ordinal), "{service}", s.service, "{namespace}", s.namespace,
	).Replace(s.peerHost)
}

// memberFlags say which member of which set this is.
type memberFlags struct {
	setFlags

	flavorName   string
	serverIDBase int

	ordinal int
	flavor  flavor.Flavor
}

func (m *memberFlags) define(f *flagSet) {
	m.setFlags.define(f)
	f.IntVar(&m.serverIDBase, "server-id-base", 100, "`number` to which the ordinal is added to make the server_id")
	f.StringVar(&m.flavorName, "flavor", "", "`flavor` of the server: mysql or mariadb (required: an empty volume does not tell)")
}

func (m *memberFlags) validate() error {
	var err error
	if m.ordinal, err = m.identify(); err != nil {
		return err
	}
	if m.flavorName == "" {
		return errors.New("--flavor is required: mysql or mariadb")
	}
	if m.flavor, err = flavor.Parse(m.flavorName); err != nil {
		return fmt.Errorf("--flavor: %w", err)
	}
	if err := m.setFlags.validate(); err != nil {
		return err
	}
	if m.ordinal < m.firstOrdinal {
		return fmt.Errorf("--first-ordinal=%d: this is ordinal %d, which may not come before the first", m.firstOrdinal, m.ordinal)
	}
	if id := int64(m.serverIDBase) + int64(m.ordinal); id < 1 || id > math.MaxUint32 {
		return fmt.Errorf("--server-id-base=%d: the server_id would be %d, and must be from 1 to %d", m.serverIDBase, id, uint32(math.MaxUint32))
	}
	return nil
}

// serverTLS is of the server beside us, which replicas dial by the member's host name.
func (m *memberFlags) serverTLS(dir string, pair tlsPair) serverTLS {
	return serverTLS{dir: dir, host: m.host(m.ordinal), id: pair.id}
}

func (m *memberFlags) first() bool { return m.ordinal == m.firstOrdinal }

func (m *memberFlags) serverID() uint32 {
	return uint32(m.serverIDBase + m.ordinal) //nolint:gosec // validate has seen it
}
