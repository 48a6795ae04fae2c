package member

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"understudy/k8s"
)

// Roster is the list of the set's members according to Kubernetes.
type Roster struct {
	// members are the ordinals that the Lease or the StatefulSet names. Members whose value is true
	// are waited for even if they do not answer:
	//
	//	the Lease              the StatefulSet       waited for
	//	---------------------  --------------------  -----------------------------------
	//	lists members          has pods for them     those that it lists
	//	lists members          wants fewer           not those: they were scaled away
	//	lists members          cannot be read        those that it lists
	//	lists none, or is new  makes pods at once    all that the StatefulSet wants
	//	lists none, or is new  makes one by one, or  none: who has come is not known
	//	                       cannot be read
	members map[int]bool
	// wanted says whether the StatefulSet is to have a member; nil: it cannot be read.
	wanted func(ordinal int) bool
}

func (r Roster) remembers(ordinal int) bool { return r.members[ordinal] }

// newRoster joins Lease and StatefulSet. scale is nil where the StatefulSet cannot be read.
func newRoster(i *Identity, registry k8s.Registry, scale *k8s.Scale) Roster {
	r := Roster{members: map[int]bool{}}
	wanted := func(int) bool { return true }
	if scale != nil {
		wanted = func(ordinal int) bool { return ordinal >= scale.First && ordinal < scale.First+scale.Members }
		r.wanted = wanted
		for ordinal := scale.First; ordinal < scale.First+scale.Members; ordinal++ {
			r.members[ordinal] = !registry.Listed && scale.Parallel
		}
	}
	for _, name := range registry.Members {
		if ordinal, ok := i.OrdinalOf(name); ok {
			r.members[ordinal] = wanted(ordinal)
		}
	}
	maps.DeleteFunc(r.members, func(ordinal int, _ bool) bool { return ordinal < i.First })
	return r
}

// rosterTimeout is the time for the API server to answer.
const rosterTimeout = 2 * time.Second

// Roster asks Kubernetes who the members are. While it does not answer, its last answer counts; an
// error says that there is none yet.
func (k *Kube) Roster(ctx context.Context) (Roster, error) {
	if k.client == nil {
		return Roster{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, rosterTimeout)
	defer cancel()
	registry, err := k.client.Registry(ctx)
	if errors.Is(err, k8s.ErrNoLease) || errors.Is(err, k8s.ErrForbidden) {
		// The Lease does not exist or may not be read: waiting does not change that.
		k.sayOnce("members are known by their names only", err)
		registry, err = k8s.Registry{}, nil
	}
	k.asking.Lock()
	defer k.asking.Unlock()
	if err != nil {
		if k.known != nil {
			return *k.known, nil
		}
		return Roster{}, fmt.Errorf("the list of members is not known: %w", err)
	}
	var scale *k8s.Scale
	if said, err := k.client.Scale(ctx); err == nil {
		scale = &said
	} else {
		k.sayOnce("the StatefulSet's scale is not known: members that were scaled away are waited for, too", err)
	}
	r := newRoster(&k.id, registry, scale)
	k.known = &r
	return r, nil
}

// sayOnce warns once of information that a narrow Role or a missing object hides.
func (k *Kube) sayOnce(text string, err error) {
	if _, said := k.said.LoadOrStore(text, true); !said {
		k.log.Warn("information about the set is missing", "effect", text, "error", err)
	}
}
