package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"understudy/clone"
	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"
	"understudy/replicate/flavor"

	"github.com/prometheus/client_golang/prometheus"
)

// initVerb is `understudy init`.
type initVerb struct {
	member   memberFlags
	trust    trustFlags
	transfer transferFlags
	sync     semiSyncFlags
	level    levelFlags
	lead     leadFlags
	engine   engineFlags
	kube     kubeFlags
	logs     logFlags

	volume, configDir, configFrom, install string

	serverVersion string
	server        *flavor.Version // of serverVersion

	cloneListen, healthListen string

	clonePort     int
	wait          time.Duration
	bootstrap     bool
	prepareMemory int64
}

const initAbout = `understudy init prepares a member before its server starts, as an init container.

It identifies the member by its name, inspects the volume, and
  - keeps a complete data directory, and adopts one that was there before understudy;
  - treats a volume that is a copy of another member's, such as a snapshot, as a clone of that
    member: replication begins after what its data have executed;
  - clones another member into an empty volume. It prefers an idle replica to the primary, and
    the previous ordinal to others;
  - restores a first ordinal whose volume was lost, by a clone of the most advanced member. It
    refuses if the members' histories have diverged;
  - starts the first ordinal empty only if no member has data and the set never had any. The
    set's Lease records that; without Kubernetes, give --bootstrap. Otherwise it waits, and
    says how to allow an empty start. It waits up to --level-wait for members that the Lease or
    the StatefulSet names, and 5 s for others whose name resolves;
  - finishes a clone that was prepared before a crash, and discards any other;
  - moves incomplete data aside, and never deletes them;
  - reseeds a member when understudy reseed or the sidecar has requested it. The old data stay
    in place until the clone is complete, and are kept aside afterwards. Without a donor in
    time, without room for both copies, or if the clone fails, the old data start as before;
  - refuses (exit code 3) any other content.
Then it writes the server's configuration and the certificate by which replicas verify the
server, and exits. It is safe to run again at any time.

  understudy init --flavor=mariadb --volume=/volume --config-dir=/config \
      --secret-file=/secret/secret --pod-name=db-1
`

func (v *initVerb) define(f *flagSet) {
	f.about = initAbout
	v.member.define(f)
	f.StringVar(&v.volume, "volume", "/volume", "`directory` where the whole volume is mounted; the data directory is mysql/ below it")
	f.StringVar(&v.configDir, "config-dir", "", "`directory` that the server includes, for its configuration and certificate; the server must see\n"+
		"it at the same path (required)")
	f.StringVar(&v.configFrom, "config-from", "", "`directory` whose common.cnf, and primary.cnf or replica.cnf, are copied as they are")
	f.StringVar(&v.install, "install", "", "`directory` into which this program is copied first, as understudy, for understudy run in the server's\ncontainer; empty: none")
	f.BoolVar(&v.bootstrap, "bootstrap", false, "let the first ordinal start with an empty volume;\nonly with --kube=off: in Kubernetes the set's Lease decides")
	f.DurationVar(&v.wait, "wait", 30*time.Minute, "`time` to wait for a donor or for permission to start empty, without the time of transfers")
	v.transfer.define(f)
	f.IntVar(&v.clonePort, "clone-port", wire.Port, "`port` on which peers give clones")
	f.StringVar(&v.cloneListen, "clone-listen", ":"+strconv.Itoa(wire.Port), "`address` on which this member tells others of the progress of its clone")
	f.StringVar(&v.healthListen, "health-listen", ":"+strconv.Itoa(healthPort), "`address` of /metrics while a clone is running")
	v.engine.define(f)
	v.sync.define(f)
	v.lead.define(f)
	v.level.define(f)
	f.Int64Var(&v.prepareMemory, "prepare-memory", 0, "`bytes` of memory for the prepare; 0: 40 % of the container's or the pod's limit, and at\nmost 512 MiB where a pod's limit is not visible (cgroup v2)")
	f.StringVar(&v.serverVersion, "server-version", "", "`version` of the server that will run on the clone, such as 10.11; clones of later versions are\nrefused")
	v.trust.define(f)
	v.kube.define(f)
	v.logs.define(f)
}

func (v *initVerb) validate(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	if v.configDir == "" {
		return errors.New("--config-dir is required")
	}
	if v.wait <= 0 {
		return errors.New("--wait must be more than 0")
	}
	if err := v.member.validate(); err != nil {
		return err
	}
	if v.serverVersion != "" {
		server, err := flavor.ParseSeries(v.member.id.Flavor, v.serverVersion)
		if err != nil {
			return fmt.Errorf("--server-version=%s: %w", v.serverVersion, err)
		}
		v.server = &server
	}
	return errors.Join(v.lead.validate(v.member.id), v.sync.validate(), v.level.validate(), v.engine.validateFor(v.member.id.Flavor), v.transfer.validate(), v.trust.validate(), v.kube.validate(), v.logs.validate())
}

func (v *initVerb) run(ctx context.Context, out streams) (err error) {
	if v.install != "" {
		if err := install(v.install); err != nil {
			return err
		}
	}
	m, err := v.connect(v.logs.logger(out.stderr).With("member", v.member.id.Name))
	if err != nil {
		return err
	}
	defer m.Kube.Start(context.WithoutCancel(ctx))()
	if err := m.OpenVolume(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Volume.Close()) }()
	facts, err := v.facts(ctx, m)
	if err != nil {
		return err
	}
	verdict, why := volume.Decide(facts)
	m.Log.Info("decided what to do with the volume", "verdict", verdict, "reason", why, "content", facts.Live.Content)
	if err := v.carryOut(ctx, m, facts, decision{verdict, why}); err != nil {
		if errors.Is(err, clone.ErrRefused) {
			m.Kube.Event(true, member.ReasonRefused, err.Error())
		}
		return err
	}
	// Any outcome closes a request for a reseed: an empty volume was cloned, and the first ordinal is
	// never reseeded.
	if facts.Request != nil {
		if err := m.Volume.CloseRequest(); err != nil {
			return err
		}
	}
	if err := v.writeConfig(m); err != nil {
		return err
	}
	// Otherwise the kubelet would create the mount point of the server's container, owned by root.
	if v.engine.mayClone(m.Flavor) {
		if _, err := m.Volume.Snapshots(); err != nil {
			return err
		}
	}
	self, tools := peakMemory()
	m.Log.Info("init is done", "peak_rss_mib", self, "tools_peak_rss_mib", tools)
	return nil
}

// connect makes the member from the flags. Its volume is not open yet.
func (v *initVerb) connect(log *slog.Logger) (*member.Member, error) {
	id := v.member.id
	// A wrong secret fails now, not when the first clone is needed.
	pair, err := v.trust.config(id.Namespace, id.Set, log)
	if err != nil {
		return nil, err
	}
	// So does a missing directory.
	if info, err := os.Stat(v.configDir); err != nil || !info.IsDir() {
		return nil, usageError{fmt.Errorf("--config-dir=%s: it is not a directory", v.configDir)}
	}
	findDomain(&id, log)
	kube, err := v.kube.connect(id, "", log)
	if err != nil {
		return nil, err
	}
	return &member.Member{Identity: id, Root: v.volume, TLS: pair, Kube: kube, Port: v.clonePort, Log: log}, nil
}

// facts looks at the volume and, where the answer matters, asks whether the set has
// had data.
func (v *initVerb) facts(ctx context.Context, m *member.Member) (volume.Facts, error) {
	facts, err := m.Volume.Facts(m.IsFirst(), v.bootstrap && !m.Kube.Present())
	if err != nil {
		return facts, err
	}
	if j := facts.Journal; v.lead.byLease() && facts.Request != nil && j != nil && (j.Phase == volume.Published || j.Phase == volume.Attached) {
		if facts.Request, err = v.requested(ctx, m, facts.Request); facts.Request != nil {
			facts.First = false // the first ordinal is reseeded like any member
		}
	}
	if err != nil || facts.Bootstrap || !facts.First || facts.Live.Content != volume.Empty || !m.Kube.Present() {
		return facts, err
	}
	switch j := facts.Journal; {
	case j == nil:
		if facts.Bootstrap, err = m.Kube.MayStartEmpty(ctx, v.wait); err != nil || facts.Bootstrap {
			return facts, err
		}
	case j.Phase == volume.Initialising:
		return facts, nil
	}
	led, err := v.led(ctx, m)
	facts.First = !led // then the first ordinal is cloned like any member, too
	return facts, err
}

// decision is what is done with the volume, and why.
type decision struct {
	verdict volume.Verdict
	why     string
}

func (v *initVerb) carryOut(ctx context.Context, m *member.Member, facts volume.Facts, d decision) error {
	if err := v.clearUp(m, facts, d); err != nil {
		return err
	}
	switch d.verdict {
	case volume.StartAnew:
		return m.Volume.StartEmpty(attempt(facts.Journal, d.verdict))
	case volume.Start:
		if facts.Journal != nil { // it was decided before
			return m.Volume.StartEmpty(attempt(facts.Journal, d.verdict))
		}
		fallthrough // members with data outrank the permission to start empty
	case volume.Clone, volume.CloneAnew:
		err := v.clone(ctx, m, facts, nil)
		if errors.Is(err, member.ErrStartEmpty) {
			return m.Volume.StartEmpty(1)
		}
		return err
	case volume.Reseed:
		return v.reseed(ctx, m, facts)
	case volume.FinishSwap:
		_, err := m.Volume.FinishSwap(*facts.Journal)
		return err
	case volume.Publish:
		_, err := m.Volume.Publish(*facts.Journal)
		return err
	case volume.Acknowledge:
		_, err := m.Volume.Acknowledge(*facts.Journal)
		return err
	case volume.Adopt:
		return v.adopt(m, facts.Live.Content)
	case volume.Inherit:
		return v.inherit(m, *facts.Journal)
	case volume.Keep:
		if facts.Journal.Owner == "" { // written by an older program
			if err := m.Volume.WriteJournal(*facts.Journal); err != nil { // a full volume must not keep a server from its data
				m.Log.Warn("the volume's owner could not be recorded", "error", err)
			}
		}
	case volume.Refuse:
	}
	return nil
}

// clearUp returns the error of a refusal, removes leftovers, and moves aside what the verdict says.
func (v *initVerb) clearUp(m *member.Member, facts volume.Facts, d decision) error {
	keep := ""
	switch d.verdict {
	case volume.Refuse:
		return fmt.Errorf("%w to touch %s: %s; it holds %q", clone.ErrRefused, v.volume, d.why, facts.Live.Names)
	case volume.Publish, volume.FinishSwap:
		keep = facts.Journal.ID
	}
	if d.verdict != volume.Keep && d.verdict != volume.Adopt && d.verdict != volume.Inherit { // the live directory will be replaced or recorded
		if err := m.Volume.Mounted(); err != nil {
			return fmt.Errorf("%w to fill %s: %w", clone.ErrRefused, v.volume, err)
		}
	}
	if err := errors.Join(m.Volume.Sweep(keep), m.Volume.SweepSnapshots()); err != nil {
		return fmt.Errorf("remove leftovers of earlier runs: %w", err)
	}
	if d.verdict != volume.StartAnew && d.verdict != volume.CloneAnew {
		return nil
	}
	aside, err := m.Volume.SetAside(volume.NewID())
	if err != nil {
		return err
	}
	m.Log.Warn("the data directory was moved aside", "to", aside, "reason", d.why)
	m.Kube.Event(true, member.ReasonMovedAside, fmt.Sprintf("the data directory was moved to %s: %s", aside, d.why))
	return nil
}

// attempt is the number of the image's attempt to make the data directory.
func attempt(journal *volume.Journal, verdict volume.Verdict) int {
	if journal == nil || journal.Phase != volume.Initialising {
		return 1
	}
	made := max(journal.Attempt, 1)
	if verdict == volume.StartAnew {
		made++
	}
	return made
}

// clone fills the volume by a clone. replace is the request for a reseed, nil without one.
func (v *initVerb) clone(ctx context.Context, m *member.Member, facts volume.Facts, replace *volume.Request) error {
	memory := v.prepareMemory
	if memory == 0 {
		memory = engine.PrepareMemory(os.DirFS("/"))
	}
	tracker := &clone.Tracker{}
	defer m.Announce(ctx, member.Announcement{
		CloneListen: v.cloneListen, HealthListen: v.healthListen, Stall: v.transfer.stall, Grace: v.transfer.grace,
		Tracker: tracker, Reseed: replace != nil, Health: member.NewHealth(prometheus.NewRegistry(), buildVersion()),
	})()
	candidates, err := v.candidates(ctx, m, facts)
	if err != nil {
		return err
	}
	j := clone.Joiner{
		Volume: m.Volume, Engines: v.engine.joiners(m.Flavor, true, m.Log), Flavor: m.Flavor, Server: v.server,
		Ordinal: m.Ordinal, Candidates: candidates,
		Connect: v.transfer.client(wire.ClientConfig{TLS: m.TLS.Client, Member: m.Name, Dial: m.Dial(), Log: m.Log}),
		Replace: replace, Wait: v.wait, Memory: memory, Tell: m.Kube.Tell, Tracker: tracker, Log: m.Log,
	}
	return j.Join(ctx)
}

// candidates are the members that may give the clone: for a first ordinal the most advanced one.
func (v *initVerb) candidates(ctx context.Context, m *member.Member, facts volume.Facts) ([]clone.Candidate, error) {
	if !facts.First {
		return m.Candidates(ctx), nil
	}
	r := member.Recovery{Member: m, Journal: facts.Journal, Wait: v.wait, Bootstrap: v.bootstrap, Patience: v.level.patience()}
	donor, err := r.Donor(ctx)
	return []clone.Candidate{donor}, err
}
