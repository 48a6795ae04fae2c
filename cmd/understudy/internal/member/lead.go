package member

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/k8s"
	"understudy/replicate"
	"understudy/replicate/failover"
	"understudy/replicate/fence"
	"understudy/replicate/guard"
	"understudy/replicate/lead"
)

// termLease is the set's Lease as lead wants it.
type termLease struct{ terms *k8s.Terms }

// NewLease makes the set's Lease one of lead.
func NewLease(t *k8s.Terms) lead.Lease { return termLease{t} }

// Read implements lead.Lease.
func (l termLease) Read(ctx context.Context) (lead.Version, error) { return l.terms.Read(ctx) }

// Write implements lead.Lease.
func (l termLease) Write(ctx context.Context, from lead.Version, record, holder string) (lead.Version, error) {
	observed, ok := from.(k8s.Observed)
	if !ok {
		return nil, errors.New("write the Lease: it was not read")
	}
	return l.terms.Write(ctx, observed, record, holder)
}

// termStore keeps the memory of terms on the member's volume.
type termStore struct{ volume *volume.Volume }

// TermStore is the member's memory of terms.
func (m *Member) TermStore() lead.Store { return termStore{m.Volume} }

// Load implements lead.Store.
func (s termStore) Load() (lead.Memory, error) {
	t, err := s.volume.ReadTerm()
	return lead.Memory(t), err
}

// Save implements lead.Store.
func (s termStore) Save(m lead.Memory) error { return s.volume.WriteTerm(volume.Term(m)) }

// Try implements lead.Store.
func (s termStore) Try(room int64) error { return s.volume.TakesWrites(room) }

// Served implements lead.Store.
func (s termStore) Served() (bool, error) { return volume.Served(s.volume.Live()) }

// LeftOpen implements lead.Store.
func (s termStore) LeftOpen() (bool, error) { return volume.LeftOpen(s.volume.Live()) }

// The paths below wire.PathLead.
const (
	pathReport = "report"
	pathTell   = "tell"
	pathSwitch = "switch"
	pathForce  = "promote"
	pathFollow = "follow"
)

// leads asks the other members about who leads.
type leads struct {
	member *Member
	stall  time.Duration

	mu      sync.Mutex
	clients map[string]*wire.Client
}

// Leads makes lead's way to the other members. timeout bounds one question.
func (m *Member) Leads(timeout time.Duration) lead.Members {
	return &leads{member: m, stall: 2 * timeout, clients: map[string]*wire.Client{}}
}

func (l *leads) client(name string) (*wire.Client, error) {
	ordinal, ok := l.member.OrdinalOf(name)
	if !ok {
		return nil, fmt.Errorf("%s is no member of this set", name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.clients[name] == nil {
		l.clients[name] = wire.NewClient(wire.ClientConfig{
			Addr: l.member.address(ordinal), Member: l.member.Name, TLS: l.member.TLS.Client, Dial: l.member.Dial(), Protocol: wire.V1, Stall: l.stall, Log: l.member.Log,
		})
	}
	return l.clients[name], nil
}

func exchange[Out any](ctx context.Context, l *leads, name, path string, q any) (out Out, err error) {
	client, err := l.client(name)
	if err != nil {
		return out, err
	}
	err = client.Exchange(ctx, path, q, &out)
	return out, err
}

// Report implements lead.Members.
func (l *leads) Report(ctx context.Context, name string, q lead.Ask) (failover.Report, error) {
	return exchange[failover.Report](ctx, l, name, pathReport, q)
}

// Tell implements lead.Members.
func (l *leads) Tell(ctx context.Context, name string, q lead.Ask) (lead.Answer, error) {
	return exchange[lead.Answer](ctx, l, name, pathTell, q)
}

// Follow implements lead.Members.
func (l *leads) Follow(ctx context.Context, name string, q lead.Follow) (lead.Promise, error) {
	return exchange[lead.Promise](ctx, l, name, pathFollow, q)
}

// All implements lead.Members.
func (l *leads) All(ctx context.Context) []string {
	r, err := l.member.Kube.Roster(ctx)
	if err != nil {
		l.member.Log.Debug("members are known by their names only", "error", err)
	}
	var names []string
	for _, ordinal := range l.member.Peers(r) {
		names = append(names, l.member.NameOf(ordinal))
	}
	return names
}

// Known implements lead.Members: those that Kubernetes knows.
func (l *leads) Known(ctx context.Context) ([]string, error) {
	r, err := l.member.Kube.Roster(ctx)
	var names []string
	for ordinal, awaited := range r.members {
		if awaited && ordinal != l.member.Ordinal {
			names = append(names, l.member.NameOf(ordinal))
		}
	}
	return names, err
}

// ScaledAway implements lead.Members.
func (l *leads) ScaledAway(ctx context.Context, members []string) (away []string, err error) {
	r, err := l.member.Kube.Roster(ctx)
	if err == nil && r.wanted == nil {
		err = errors.New("the StatefulSet cannot be read")
	}
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if ordinal, ok := l.member.OrdinalOf(m); ok && !r.wanted(ordinal) {
			away = append(away, m)
		}
	}
	return away, nil
}

// AnswerLead answers what other members ask about who leads.
func AnswerLead(c *lead.Controller) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+wire.PathLead+pathReport, wire.Answering(c.Report))
	mux.HandleFunc("POST "+wire.PathLead+pathTell, wire.Answering(c.Answer))
	mux.HandleFunc("POST "+wire.PathLead+pathFollow, wire.Answering(c.Follow))
	mux.HandleFunc("POST "+wire.PathLead+pathSwitch, wire.Answering(c.SwitchOver))
	mux.HandleFunc("POST "+wire.PathLead+pathForce, wire.Answering(c.Promote))
	mux.HandleFunc("POST "+wire.PathLead+pathPermit, wire.Answering(c.Permit))
	return mux
}

// leading is a controller as the agent sees it.
type leading struct {
	*lead.Controller
	member *Member
}

// Leading makes a controller what the agent goes by.
func (m *Member) Leading(c *lead.Controller) replicate.Leading { return leading{c, m} }

// HostOf is the host of the member with that name.
func (l leading) HostOf(name string) string { return l.member.HostOfMember(name) }

// HostOfMember is the host of the member with that name.
func (m *Member) HostOfMember(name string) string {
	ordinal, _ := m.OrdinalOf(name) // the Lease names members only
	return m.HostOf(ordinal)
}

// Account is the account by which the member follows.
func (l leading) Account() string { return lead.Account(l.member.Name) }

// runFence is understudy run as lead wants it.
type runFence struct{ client *fence.Client }

// NewFence makes the fence behind a socket one of lead.
func NewFence(socket string) lead.Fence { return runFence{fence.NewClient(socket)} }

// Boot implements lead.Fence.
func (f runFence) Boot(ctx context.Context) (string, error) {
	s, err := f.client.Status(ctx)
	if err == nil && s.Boot == "" {
		err = fmt.Errorf("no server runs under understudy run: it is %s", s.State)
	}
	return s.Boot, err
}

// Arm implements lead.Fence.
func (f runFence) Arm(ctx context.Context, boot string, term uint64, until time.Duration) error {
	if guard.Lacks(guard.Timer) {
		until += 4 * time.Minute // about the most that understudy run takes
	}
	_, err := f.client.Arm(ctx, fence.Permission{Boot: boot, Term: term, Until: until})
	return err
}

// Disarm implements lead.Fence.
func (f runFence) Disarm(ctx context.Context, boot string, term uint64) error {
	_, err := f.client.Disarm(ctx, boot, term)
	return err
}

const (
	// killPause is the time between two looks whether the server is dead.
	killPause = 20 * time.Millisecond
	// diesWithin is the time in which a server that crashed is gone after its sockets are.
	diesWithin = 300 * time.Millisecond
)

// ShutDown implements lead.Fence. A process whose sockets are closed, and that lives, shuts down.
func (f runFence) ShutDown(ctx context.Context, boot string) (bool, error) {
	for begun := time.Now(); ; {
		s, err := f.client.Status(ctx)
		switch {
		case err != nil:
			return false, err
		case s.Boot != boot:
			return s.Last != nil && s.Last.Boot == boot && !s.Last.Asked && s.Last.Code == 0, nil
		case s.State != fence.Running: // run ends it
			return false, nil
		case time.Since(begun) >= diesWithin:
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(killPause):
		}
	}
}

// Kill implements lead.Fence.
func (f runFence) Kill(ctx context.Context, boot, why string) error {
	s, err := f.client.Status(ctx)
	if err != nil {
		return err
	}
	if boot == "" {
		boot = s.Boot
	}
	for s.Boot != "" && s.Boot == boot {
		if _, err := f.client.Kill(ctx, boot, why); errors.Is(err, fence.ErrBoot) {
			return nil
		} else if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server was killed and is not dead: %w", ctx.Err())
		case <-time.After(killPause):
		}
		if s, err = f.client.Status(ctx); err != nil {
			return err
		}
	}
	return nil
}

// LeadOpened makes the pods' labels say who leads, when this member has opened: the leader before
// may not be able to.
func (m *Member) LeadOpened(ctx context.Context, before string) {
	if m.Kube.client == nil {
		return
	}
	if err := m.Kube.client.SetRole(ctx, k8s.Primary); err != nil {
		m.Log.Warn("the pod is not labelled as the primary yet", "error", err)
	}
	if before == "" || before == m.Name {
		return
	}
	m.unseat(ctx, before) // KeepLabels does it again
}

// SwitchOver asks the leader to give the Lease to a member, to one of its choice where to is empty,
// and returns who leads then.
func (m *Member) SwitchOver(ctx context.Context, leader, to string, timeout time.Duration) (string, error) {
	l := &leads{member: m, stall: 2 * timeout, clients: map[string]*wire.Client{}}
	a, err := exchange[lead.Answer](ctx, l, leader, pathSwitch, lead.Ask{From: m.Name, To: leader, Switch: to})
	return a.Member, err
}

// Promote asks a member what would be lost if it led without the reports that an election needs, and
// where force says so, has it lead.
func (m *Member) Promote(ctx context.Context, name string, force bool, timeout time.Duration) (lead.Promotion, error) {
	l := &leads{member: m, stall: 2 * timeout, clients: map[string]*wire.Client{}}
	return exchange[lead.Promotion](ctx, l, name, pathForce, lead.Ask{From: m.Name, To: name, Force: force})
}
