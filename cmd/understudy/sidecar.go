package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"understudy/clone"
	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"
	"understudy/k8s"
	"understudy/replicate"
	"understudy/replicate/lead"
	"understudy/replicate/retry"

	"golang.org/x/sync/errgroup"
)

// sidecar is a running sidecar: its member, and the parts that the flags configure.
type sidecar struct {
	*sidecarVerb
	*member.Member

	health *member.Health
	record *member.Record
	agent  *replicate.Agent
	run    member.RunNotes
	// terms is nil where the first ordinal is the primary; so are hand and lead.
	terms *k8s.Terms
	hand  *replicate.Hand
	lead  *lead.Controller
	// clones hands over those of the server. given and heldOff count those for other members that ended
	// whole, and that were given up as they held off commits.
	clones         *wire.Server
	given, heldOff atomic.Int64
	// mysqlClone is the engine clone, one for the whole process, because it knows when it has stopped
	// the applier. It is used with MySQL only.
	mysqlClone *engine.MySQLClone
	// exclusion keeps backups away while the agent changes what they would have to know.
	exclusion member.Exclusion
}

// work does everything that needs the volume, once its previous holder has released it.
func (s *sidecar) work(ctx context.Context, clones net.Listener) (err error) {
	if err := s.OpenVolume(ctx); err != nil {
		return errors.Join(ignoreCancelled(ctx, err), clones.Close())
	}
	defer func() { err = errors.Join(err, s.Volume.Close()) }()
	images, err := s.assemble()
	if err != nil {
		return errors.Join(err, clones.Close())
	}
	defer func() { err = errors.Join(err, s.agent.Close()) }()
	throttle := wire.NewThrottle(s.limits.bytes)
	defer func() { err = errors.Join(err, s.closeHand()) }()
	server := wire.NewServer(s.exclusion.Donor(s.donor()), wire.ServerConfig{
		Lead:  s.answerLead(),
		Slots: s.slots, Stall: s.stall, Grace: s.grace, Throttle: throttle, Observe: s.cloned, Log: s.Log,
	})
	s.clones = server
	s.health.Watch(s.agent.Status, s.note, server)
	if s.lead != nil {
		s.health.WatchLead(s.lead.Status, s.Kube)
	}
	s.health.PreStop(s.Kube.PreStop(func(ctx context.Context) {
		s.endLead(ctx, podEnds)
		draining, cancel := context.WithTimeout(ctx, s.drainTime)
		defer cancel()
		server.Drain(draining)
		s.awaitGreeting(ctx)
	}))
	s.Log.Info("sidecar started", "version", buildVersion(), "primary", s.IsFirst(), "phase", s.record.Phase())
	group, ctx := errgroup.WithContext(ctx)
	s.background(ctx, group)
	group.Go(func() error { s.limits.watch(ctx, throttle, limitsEvery, s.Log); return nil })
	group.Go(func() error { images.Run(ctx, s.record.Phase, s.interval); return nil })
	if s.allowRaw {
		clones = s.sniff(clones, server) //nolint:contextcheck // a listener ends by its Close
	}
	s.ServeClones(ctx, group, server, clones, s.drainTime)
	err = group.Wait()
	self, tools := peakMemory()
	s.Log.Info("sidecar stopped", "peak_rss_mib", self, "tools_peak_rss_mib", tools)
	return err
}

const (
	// hearsWithin is how long a server that starts is waited for before its container is told to stop;
	// greetEvery is the time between two looks.
	hearsWithin = 30 * time.Second
	greetEvery  = 100 * time.Millisecond
)

// awaitGreeting returns when the member's server hears SIGTERM, which the kubelet sends once. The kernel
// keeps it from a container's first process that has not said yet what it does with it, as a server or
// an image's script that has just been started: then the pod would end by its grace period only.
func (s *sidecar) awaitGreeting(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, hearsWithin)
	defer cancel()
	for told := false; !s.agent.Status().Facts.Answers; told = true {
		if !told {
			s.Log.Info("the pod is being deleted while its server starts: it is told to stop once it answers", "at_most", hearsWithin)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(greetEvery):
		}
	}
}

// assemble makes record, image, engine and agent, which need the volume.
func (s *sidecar) assemble() (*member.Image, error) {
	var err error
	if s.record, err = s.NewRecord(); err != nil {
		return nil, err
	}
	if err := s.Volume.Sweep(s.record.ID()); err != nil {
		return nil, fmt.Errorf("remove leftovers of killed backups: %w", err)
	}
	images := s.NewImage(func() bool { return s.agent.Status().Facts.Answers }, &s.run)
	s.record.WatchImage(images)
	s.mysqlClone = &engine.MySQLClone{Parallel: s.engine.parallel, MinFree: s.minFree, Log: s.Log}
	if s.engine.mayClone(s.Flavor) {
		if s.mysqlClone.Dir, err = s.Volume.Snapshots(); err != nil {
			return nil, err
		}
	}
	s.agent, err = s.newAgent()
	return images, err
}

// background starts the agent and the loops beside it.
func (s *sidecar) background(ctx context.Context, group *errgroup.Group) {
	group.Go(func() error { s.agent.Run(ctx); return nil })
	if s.lead != nil {
		group.Go(func() error { s.KeepLabels(ctx, s.lead.Status); return nil })
		group.Go(func() error { s.runLead(ctx); return nil })
	}
	group.Go(func() error {
		needsHelp := func(text string) { s.Kube.Event(true, member.ReasonNeedsHelp, text) }
		s.ServerTLS(s.configDir).Keep(ctx, s.interval, s.agent.ReloadTLS, needsHelp, s.Log)
		return nil
	})
	group.Go(func() error { s.recoverSnapshots(ctx); return nil })
	group.Go(func() error { s.keepConfigComplete(ctx); return nil })
	group.Go(func() error { s.run.Keep(ctx, s.runSocket, s.interval); return nil })
	reseed := member.ReseedConfig{Auto: s.reseed.mode == reseedAuto, Keep: s.reseed.keep, Stall: s.stall}
	var leaderless func() bool
	if s.lead != nil {
		leaderless = func() bool { return s.lead.Status().Leader() == "" }
		reseed.Leader = func() string { return s.lead.Role().Follows }
	}
	group.Go(func() error { s.Kube.KeepRole(ctx, s.record.Phase, s.agent.Status, leaderless, s.interval); return nil })
	reseeds := s.NewReseeder(reseed, s.agent.Status)
	group.Go(func() error { reseeds.Run(ctx, s.interval); return nil })
}

// sniff also gives raw streams, to clients at a member's address that send nothing.
func (s *sidecar) sniff(l net.Listener, server *wire.Server) net.Listener {
	s.Log.Warn("clones are given without authentication to any client at a member's address: --allow-raw")
	var hosts []string
	for _, ordinal := range s.Peers(member.Roster{}) {
		hosts = append(hosts, s.HostOf(ordinal))
	}
	return wire.SniffRaw(l, wire.RawPolicy{Allowed: wire.Hosts(hosts), Serve: server.ServeRaw, Log: s.Log})
}

func (s *sidecar) newAgent() (*replicate.Agent, error) {
	settings := replicate.Settings{
		Flavor: s.Flavor, ServerID: s.ServerID(), ReportHost: s.Host(), Replica: !s.IsFirst() && !s.sidecarVerb.lead.byLease(), ByLease: s.sidecarVerb.lead.byLease(),
		KeepGTIDMode: s.record.KeepGTIDMode(), SemiSync: s.sync.mode, TLS: s.ServerTLS(s.configDir).Files(),
	}
	cfg := replicate.Config{
		Flavor: s.Flavor, Primary: s.IsFirst(), Server: s.server, Host: settings.ReportHost,
		Admin: s.admin.administrator(), Sidecar: s.own.made(s.Log), Clone: s.clone.made(s.Log),
		WithTool:            s.engine.mayUseTool(s.Flavor),
		BySocket:            s.serverSocket != "",
		Source:              replicate.Source{Host: s.HostOf(s.First), Port: s.sourcePort, User: s.replicationUser, CA: settings.TLS.CA},
		ReplicationPassword: s.replicationPassword, ReplicationPasswordPrevious: s.replicationPasswordPrevious,
		SourceOpen: s.IsOpen,
		Options:    replicate.Options(settings), MaxLag: s.maxLag, SemiSync: s.sync.mode, Interval: s.interval, Record: s.record,
		Holding:   s.mysqlClone.Holding,
		Exclusive: s.exclusion.Claim,
		MayOpen:   s.endTerms,
		Missing:   s.Volume.Missing,
		ServerID:  s.ServerID(),
		Events:    s.wishesForEvents,
		Peers:     s.Histories,
		Patience:  s.level.patience(),
		Volume: func() (replicate.Space, error) {
			space, err := volume.FreeSpace(s.Root)
			return replicate.Space{Free: space.Bytes, Size: space.Size}, err
		},
		Container: s.run.Container(s.Kube.Container(s.server, s.cloneListen, s.healthListen)),
		Tell: func(failed bool, text string) {
			reason := member.ReasonReplication
			if failed {
				reason = member.ReasonNeedsHelp
			}
			s.Kube.Event(failed, reason, text)
		},
		Recovered: func(text string) { s.Kube.Event(false, member.ReasonRecovered, text) },
		Log:       s.Log,
	}
	if err := s.byLease(&cfg); err != nil {
		return nil, err
	}
	return replicate.New(cfg)
}

// wishesForEvents says whether the operator's own option files turn event_scheduler on; set is
// false where they do not mention it. A file that cannot be read counts as no: an event that does
// not run does less harm than one that does.
func (s *sidecar) wishesForEvents() (on, set bool) {
	options, err := optionsIn(s.configDir, defaultsFile, configFile)
	if err != nil {
		s.Log.Warn("whether the configuration turns the event scheduler on is not known", "error", err)
	}
	events, set := options["event_scheduler"]
	return set && events.isOn(), set || err != nil
}

// account is the login for backups, with the password that the server accepts now.
func (s *sidecar) account(ctx context.Context) (engine.Account, error) {
	host, port, err := net.SplitHostPort(s.server)
	if err != nil {
		return engine.Account{}, fmt.Errorf("read --server: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return engine.Account{}, fmt.Errorf("read --server: %w", err)
	}
	access, err := s.agent.BackupLogin(ctx)
	return engine.Account{Host: host, Port: number, Socket: s.serverSocket, User: access.User, Password: access.Password, TLS: access.TLS}, err
}

// recoverSnapshots stops CLONE statements left behind by a killed sidecar. It retries until the
// server answers.
func (s *sidecar) recoverSnapshots(ctx context.Context) {
	if !s.engine.mayClone(s.Flavor) {
		return
	}
	quiet := func(err error, _ time.Duration) {
		s.Log.Debug("snapshots of an earlier run are not looked for yet", "error", err)
	}
	err := retry.Do(ctx, retry.Policy{Max: time.Minute, Notify: quiet}, func(ctx context.Context) error {
		account, err := s.account(ctx)
		if err != nil {
			return err
		}
		return s.mysqlClone.Recover(ctx, account)
	})
	if err != nil && ctx.Err() == nil {
		s.Log.Warn("snapshots of an earlier run may be left", "error", err)
	}
}

// donor joins the volume, the engine and the agent's view of the server.
func (s *sidecar) donor() *clone.Donor {
	return &clone.Donor{
		Volume: s.Volume, Engines: s.engine.donors(s.Flavor, s.mysqlClone, s.Log), Account: s.account,
		MaxCommitBlock: s.maxCommitBlock, MinFree: s.minFree,
		Ready:    s.agent.ReadyForBackup,
		Describe: s.describe,
		Serving:  s.serving,
		Log:      s.Log,
	}
}

// serving says whether the member may give a clone now.
func (s *sidecar) serving() (wire.Header, error) {
	status := s.agent.Status()
	if s.lead != nil && s.lead.StandsBack() != "" {
		status.Primary = true // it led last, and nobody leads
	}
	return member.Serving(s.record.Phase(), status, s.agent.Errant)
}

// ignoreCancelled drops an error whose cause is the end of ctx.
func ignoreCancelled(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
