package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"

	"understudy/cmd/understudy/internal/member"
	"understudy/replicate/flavor"
)

// setFlags name the set and its members' hosts.
type setFlags struct {
	podName, namespace, set, service, peerHost string

	firstOrdinal, members int
}

func (s *setFlags) define(f *flagSet) {
	f.StringVar(&s.podName, "pod-name", "", "`name` of this member, SET-ORDINAL; empty: the host name")
	f.alsoFrom("pod-name", "POD_NAME")
	f.StringVar(&s.namespace, "namespace", "default", "`namespace` of the set; a secret is valid for one namespace and set")
	f.alsoFrom("namespace", "POD_NAMESPACE")
	f.StringVar(&s.set, "set", "", "`name` of the set; empty: the member's name without its ordinal")
	f.StringVar(&s.service, "service", "", "`name` of the set's headless service; empty: the set's name")
	f.StringVar(&s.peerHost, "peer-host", "{set}-{ordinal}.{service}", "`template` of a member's host name with {set}, {ordinal}, {service} and {namespace}")
	f.IntVar(&s.firstOrdinal, "first-ordinal", 0, "`ordinal` of the primary")
	f.IntVar(&s.members, "members", 10, "`number` of members that are always asked, from the first ordinal on; more may be given than\n"+
		"exist. Others are found by the set's Lease, by its StatefulSet, and by name: the next ten are\n"+
		"asked, too, while one of the last ten answers")
}

// podName matches the name of a StatefulSet's pod: the set, a dash, the ordinal.
var podName = regexp.MustCompile(`^(.+)-(\d+)$`)

// identify reads this member's ordinal, and the set unless --set names it, from the pod's name.
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

// validateSet is validate where a set is meant, and no member of it.
func (s *setFlags) validateSet() error {
	if s.set == "" {
		if _, err := s.identify(); err != nil {
			return fmt.Errorf("give --set, or else the name of a member: %w", err)
		}
	}
	return s.validate()
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

// identity makes the identity of the member with that ordinal, without the fields of memberFlags.
// Call it after validate.
func (s *setFlags) identity(ordinal int) member.Identity {
	return member.Identity{
		Namespace: s.namespace, Set: s.set, Name: s.podName, Ordinal: ordinal, First: s.firstOrdinal,
		Service: s.service, HostTemplate: s.peerHost, Asked: s.members,
	}
}

// resolvConf is where a pod's name service is configured.
// https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
const resolvConf = "/etc/resolv.conf"

// findDomain finds the cluster's domain for an identity.
func findDomain(id *member.Identity, log *slog.Logger) {
	text, err := os.ReadFile(resolvConf)
	if err != nil {
		log.Debug("the cluster's domain is not known", "error", err)
		return
	}
	if id.FindDomain(string(text)); id.Domain != "" {
		log.Info("members are looked up by absolute names", "example", id.Absolute(id.HostOf(id.First)), "domain", id.Domain, "from", resolvConf)
	}
}

// memberFlags say which member of which set this is.
type memberFlags struct {
	setFlags

	flavorName   string
	serverIDBase int

	id member.Identity // of all these
}

func (m *memberFlags) define(f *flagSet) {
	m.setFlags.define(f)
	f.IntVar(&m.serverIDBase, "server-id-base", 100, "`number` to which a member's ordinal is added to form its server_id")
	f.StringVar(&m.flavorName, "flavor", "", "`flavor` of the server: mysql or mariadb (required: an empty volume does not tell)")
}

func (m *memberFlags) validate() error {
	ordinal, err := m.identify()
	if err != nil {
		return err
	}
	if m.flavorName == "" {
		return errors.New("--flavor is required: mysql or mariadb")
	}
	f, err := flavor.Parse(m.flavorName)
	if err != nil {
		return fmt.Errorf("--flavor: %w", err)
	}
	if err := m.setFlags.validate(); err != nil {
		return err
	}
	if ordinal < m.firstOrdinal {
		return fmt.Errorf("--first-ordinal=%d: this member has ordinal %d, which is less", m.firstOrdinal, ordinal)
	}
	if id := int64(m.serverIDBase) + int64(ordinal); id < 1 || id > math.MaxUint32 {
		return fmt.Errorf("--server-id-base=%d: the server_id would be %d, and must be from 1 to %d", m.serverIDBase, id, uint32(math.MaxUint32))
	}
	m.id = m.identity(ordinal)
	m.id.ServerIDBase, m.id.Flavor = m.serverIDBase, f
	return nil
}
