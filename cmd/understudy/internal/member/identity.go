package member

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"understudy/replicate/flavor"
)

// NoMember is the ordinal of a process that is no member of the set.
const NoMember = -1

// Identity says which member of which set a process acts for, and how the set's members are
// named. The flags make it once.
type Identity struct {
	// Namespace and Set name the set; Name is the member's own name, SET-ORDINAL.
	Namespace, Set, Name string
	// Ordinal is the member's; First is that of the primary. Ordinal is NoMember for a process
	// that is no member.
	Ordinal, First int
	// Service is the set's headless service. HostTemplate makes a member's host name:
	// {set}, {ordinal}, {service} and {namespace} are filled in.
	Service, HostTemplate string
	// Domain is the cluster's, see FindDomain; empty where it is not known.
	Domain string
	// Asked is the number of members that are always asked, from First on.
	Asked int
	// ServerIDBase plus an ordinal is a member's server_id.
	ServerIDBase int
	Flavor       flavor.Flavor
}

// IsFirst says whether the member is the first ordinal, the primary.
func (i *Identity) IsFirst() bool { return i.Ordinal == i.First }

// ServerID is the member's server_id. The flags have checked its range.
func (i *Identity) ServerID() uint32 {
	return uint32(i.ServerIDBase + i.Ordinal) //nolint:gosec // the flags' validation has checked the range
}

// NameOf is the name of the member with that ordinal.
func (i *Identity) NameOf(ordinal int) string { return fmt.Sprintf("%s-%d", i.Set, ordinal) }

// OrdinalOf reads what NameOf prints.
func (i *Identity) OrdinalOf(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, i.Set+"-")
	ordinal, err := strconv.Atoi(digits)
	return ordinal, ok && err == nil && ordinal >= 0 && i.NameOf(ordinal) == name
}

// Host is the member's own host name.
func (i *Identity) Host() string { return i.HostOf(i.Ordinal) }

// HostOf is the host name of the member with that ordinal.
func (i *Identity) HostOf(ordinal int) string {
	return strings.NewReplacer(
		"{set}", i.Set, "{ordinal}", strconv.Itoa(ordinal), "{service}", i.Service, "{namespace}", i.Namespace,
	).Replace(i.HostTemplate)
}

// Peers are the ordinals of the other members that are asked: those that Asked covers, those
// below the member's own, and those that the roster names.
func (i *Identity) Peers(r Roster) []int {
	known := map[int]bool{}
	for ordinal := i.First; ordinal < max(i.First+i.Asked, i.Ordinal); ordinal++ {
		known[ordinal] = true
	}
	maps.Copy(known, r.members)
	delete(known, i.Ordinal)
	return slices.Sorted(maps.Keys(known))
}

// FindDomain finds the cluster's domain in the text of resolv.conf, so that members are looked
// up by absolute names. A name that is not absolute is tried with each domain of the search
// list, and the last "no such host" hides that the first answer was a failure. Channels,
// certificates and comparisons keep the names without it.
//
// The domain is what stands behind "NAMESPACE.svc." in the search list, which the kubelet
// writes. Of several lists the last one counts, see resolv.conf(5).
func (i *Identity) FindDomain(resolv string) {
	for line := range strings.Lines(resolv) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "search" {
			continue
		}
		i.Domain = ""
		for _, name := range words[1:] {
			if rest, ok := strings.CutPrefix(strings.TrimSuffix(name, "."), i.Namespace+".svc."); ok && i.Domain == "" {
				i.Domain = rest
			}
		}
	}
}

// Absolute completes the host name of a member that is a name of the set's service, in any of
// the forms that the search list completes, and ends it with a dot. Other names stay.
func (i *Identity) Absolute(host string) string {
	if i.Domain == "" {
		return host
	}
	form := "." + i.Service
	for _, rest := range []string{"." + i.Namespace, ".svc", "." + i.Domain, "."} {
		if name, ok := strings.CutSuffix(host, form); ok {
			return name + "." + i.Service + "." + i.Namespace + ".svc." + i.Domain + "."
		}
		form += rest
	}
	return host
}

// Dial is Absolute for an address that is dialled; nil where it would change nothing.
func (i *Identity) Dial() func(addr string) string {
	if i.Domain == "" {
		return nil
	}
	return func(addr string) string {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return addr
		}
		return net.JoinHostPort(i.Absolute(host), port)
	}
}
