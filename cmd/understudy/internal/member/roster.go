package member

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"understudy/k8s"
)

// Roster is what Kubernetes knows of who the set's members are.
type Roster struct {
	// members are the ordinals that the Lease or the StatefulSet names. Those that are true
	// are waited for although nothing answers:
	//
	//	the Lease              the StatefulSet       waited for
	//	---------------------  --------------------  -----------------------------------
	//	lists members          has pods for them     those that it lists
	//	lists members          wants fewer           not those: they were scaled away
	//	lists members          cannot be read        those that it lists
	//	lists none, or is new  makes pods at once    all that the StatefulSet wants
	//	lists none, or is new  makes one by one, or  nobody: who has come is not known
	//	                       cannot be read
	members map[int]bool
}

func (r Roster) remembers(ordinal int) bool { return r.members[ordinal] }

// newRoster joins the two. scale is nil where the StatefulSet cannot be read.
func newRoster(i *Identity, registry k8s.Registry, scale *k8s.Scale) Roster {
	r := Roster{members: map[int]bool{}}
	wanted := func(ordinal int) bool {
		return scale == nil || ordinal >= scale.First && ordinal < scale.First+scale.Members
	}
	if scale != nil {
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

// rosterTimeout is the time that the API server has to say who the members are.
const rosterTimeout = 2 * time.Second

// Roster asks Kubernetes who the members are. While it does not answer, its last answer
// counts; an error says that there was none yet.
func (k *Kube) Roster(ctx context.Context) (Roster, error) {
	if k.client == nil {
		return Roster{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, rosterTimeout)
	defer cancel()
	registry, err := k.client.Registry(ctx)
	if errors.Is(err, k8s.ErrNoLease) || errors.Is(err, k8s.ErrForbidden) {
		// Nobody has made it, or may read it: no waiting mends that.
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

// sayOnce warns of what a Role or a missing object keeps from being known.
func (k *Kube) sayOnce(text string, err error) {
	if _, said := k.said.LoadOrStore(text, true); !said {
		k.log.Warn("information about the set is missing", "effect", text, "error", err)
	}
}
