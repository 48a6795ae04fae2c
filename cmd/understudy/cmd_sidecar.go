package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"strconv"
	"time"

	"understudy/clone"
	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/k8s"
	"understudy/replicate"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
	"understudy/replicate/retry"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// sidecarVerb is `understudy sidecar`.
type sidecarVerb struct {
	member memberFlags
	sync   semiSyncFlags
	trust  trustFlags
	limits limitFlags
	engine engineFlags
	kube   kubeFlags
	reseed reseedFlags
	logs   logFlags

	admin, own, clone accountFlags

	volume, configDir, server, serverContainer string

	replicationUser, replicationPasswordFile, replicationPasswordFilePrevious string

	cloneListen, healthListen, minFreeText string

	minFree int64 // of minFreeText

	sourcePort, slots                  int
	interval, maxLag, stall, drainTime time.Duration
	grace, maxCommitBlock              time.Duration
	levelWait                          time.Duration
	clonePort                          int
	allowRaw                           bool
}

const sidecarAbout = `understudy sidecar keeps a member what it has to be, for as long as the pod lives.

It waits for the server beside it on TCP. On the first ordinal it makes the accounts of
replication, sidecar and backups, verifies the safety options and opens the server for
writes; before that, after each start of the server, it asks all members what they have
received, and follows the most advanced one until it lacks nothing. Members that were ever
attached, which the set's Lease names (annotation understudy/members), and those whose servers
do not answer yet are waited for up to --level-wait, though not those that the StatefulSet was
scaled down by; others that do not answer for 5 s. Without Kubernetes there is no such list:
a member whose name does not resolve is taken to be none. On every other it points the server at the first ordinal, from
where its clone ended, has it verify that one's certificate, and starts it.
A restart of the server, of the sidecar, or of both changes nothing of that. A member that was
paused (understudy pause) is looked at only.

What replication cannot heal it reports: data that differ from the primary's, purged binary
logs, transactions that the primary lacks. understudy reseed, or --reseed=auto, has such a
replica cloned anew.

It gives clones to peers on port 3307, and answers on its own port:
  /livez    the process lives
  /readyz   the server and its applier are in order; says why not
  /metrics  for Prometheus
  /prestop  for the server container's preStop hook: when the pod is being deleted, it
            returns once the running clone has ended

SIGTERM: no new clones; the running one may finish within --drain-timeout; exit code 0.

  understudy sidecar --flavor=mariadb --volume=/volume --pod-name=db-1 \
      --secret-file=/secret/clone --admin-password-file=/secret/root \
      --replication-password-file=/secret/replication \
      --sidecar-password-file=/secret/sidecar --clone-password-file=/secret/clone-account
`

const (
	// healthPort serves /livez, /readyz and /metrics.
	healthPort = 9307
	// serverPort is where the servers listen.
	serverPort = 3306
)

func (v *sidecarVerb) define(f *flagSet) {
	f.about = sidecarAbout
	v.member.define(f)
	f.StringVar(&v.volume, "volume", "/volume", "`directory` where the whole volume is mounted")
	f.StringVar(&v.configDir, "config-dir", "", "`directory` of init's --config-dir, where the server and the sidecar see it at the same path:\n"+
		"the server's certificate follows the secret there (required, but with --insecure)")
	f.StringVar(&v.server, "server", net.JoinHostPort("127.0.0.1", strconv.Itoa(serverPort)), "`address` of the member's own server")
	f.StringVar(&v.serverContainer, "server-container", "server", "`name` of the server's container, whose restarts tell whether its image has made the whole data directory,\nand whose end is told of; where the pod has one container only, that is meant")
	v.admin.define(f, "admin", "root", "`account` of the server with which the primary's sidecar makes the others; it stands in where they are missing",
		"`file` with its password; empty: it has none")
	const made = "`file` with its password. Empty or missing: there is no such account, and --admin-user takes its place"
	v.own.define(f, "sidecar", "understudy_sidecar", "`account` of the server that the sidecar uses; made if missing (from 127.0.0.1)", made)
	v.clone.define(f, "clone", "understudy_clone", "`account` of the server that makes backups; made if missing (from 127.0.0.1)", made)
	f.StringVar(&v.replicationUser, "replication-user", "understudy_replication", "`account` with which replicas follow the primary; made if missing")
	f.StringVar(&v.replicationPasswordFile, "replication-password-file", "", "`file` with its password (required)")
	f.StringVar(&v.replicationPasswordFilePrevious, "replication-password-file-previous", "", previousPassword)
	f.IntVar(&v.sourcePort, "source-port", 0, "`port` of the primary's server; 0: that of --server")
	f.IntVar(&v.clonePort, "clone-port", wire.Port, "`port` on which members answer")
	f.DurationVar(&v.levelWait, "level-wait", time.Minute, "`time` for which the first ordinal, before it opens for writes, waits for members that answer\n"+
		"and do not know yet what they have received, and for those that the set's Lease names")
	f.StringVar(&v.cloneListen, "clone-listen", ":"+strconv.Itoa(wire.Port), "`address` on which clones are given")
	f.StringVar(&v.healthListen, "health-listen", ":"+strconv.Itoa(healthPort), "`address` of /livez, /readyz and /metrics")
	v.engine.define(f)
	f.DurationVar(&v.interval, "interval", 2*time.Second, "`time` between two looks at the server")
	f.DurationVar(&v.maxLag, "max-lag", 0, "`lag` beyond which a replica is not ready; 0: any")
	v.sync.define(f)
	f.DurationVar(&v.stall, "stall-timeout", time.Minute, "`time` in which a joiner must take a byte")
	f.IntVar(&v.slots, "clone-slots", 1, "`number` of clones that are given at the same time")
	f.DurationVar(&v.grace, "resume-grace", time.Minute, "`time` that a joiner whose connection broke has to come back")
	f.DurationVar(&v.maxCommitBlock, "max-commit-block", 5*time.Second, "`time` for which a backup may hold off the commits of the primary before it is given up")
	v.limits.define(f)
	f.StringVar(&v.minFreeText, "min-free", "1GiB", "`bytes` that clones which are given have to leave free on the volume, with the snapshot of --engine=clone and with what\na tool writes while it holds locks (there a tenth of the volume, if that is less): none is\nbegun without, and one that comes below is given up")
	f.BoolVar(&v.allowRaw, "allow-raw", false, "give clones to the tutorial's ncat clients, too: without trust, to whoever connects from a member's address and says nothing for 5 s")
	f.DurationVar(&v.drainTime, "drain-timeout", 30*time.Second, "`time` for a running clone to finish at SIGTERM")
	v.reseed.define(f)
	v.trust.define(f)
	v.kube.define(f)
	v.logs.define(f)
}

func (v *sidecarVerb) validate(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	if users := []string{v.admin.user, v.own.user, v.clone.user, v.replicationUser}; len(slices.Compact(slices.Sorted(slices.Values(users)))) < len(users) {
		return errors.New("--admin-user, --sidecar-user, --clone-user and --replication-user must differ")
	}
	if v.configDir == "" && !v.trust.insecure {
		return errors.New("--config-dir is required: give the directory that init wrote the server's configuration to, or else --insecure")
	}
	if v.replicationPasswordFile == "" {
		return errors.New("--replication-password-file is required")
	}
	if v.interval <= 0 || v.stall <= 0 || v.drainTime < 0 || v.maxLag < 0 {
		return errors.New("--interval and --stall-timeout must be more than 0, --drain-timeout and --max-lag not less")
	}
	if v.levelWait < 0 {
		return errors.New("--level-wait must not be less than 0")
	}
	if v.slots < 1 || v.grace <= 0 || v.maxCommitBlock <= 0 {
		return errors.New("--clone-slots, --resume-grace and --max-commit-block must be more than 0")
	}
	if err := v.validatePorts(); err != nil {
		return err
	}
	var err error
	if v.minFree, err = parseBytes(v.minFreeText); err != nil {
		return fmt.Errorf("--min-free=%s: %w", v.minFreeText, err)
	}
	if err := errors.Join(v.member.validate(), v.sync.validate(), v.trust.validate(), v.limits.validate(), v.reseed.validate(), v.kube.validate(), v.logs.validate()); err != nil {
		return err
	}
	return v.engine.validateFor(v.member.flavor)
}

// validatePorts has the members' servers listen on the same port, unless it is told otherwise.
func (v *sidecarVerb) validatePorts() error {
	_, text, err := net.SplitHostPort(v.server)
	if err != nil {
		return fmt.Errorf("--server=%s: %w", v.server, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return fmt.Errorf("--server=%s: the port must be a number from 1 to 65535", v.server)
	}
	if v.sourcePort == 0 {
		v.sourcePort = int(port)
	}
	if v.sourcePort < 1 || v.sourcePort > math.MaxUint16 {
		return fmt.Errorf("--source-port=%d: it must be from 1 to 65535, or 0 for the port of --server", v.sourcePort)
	}
	return nil
}

func (v *sidecarVerb) run(ctx context.Context, out streams) (err error) {
	log := v.logs.logger(out.stderr).With("member", v.member.podName)
	pair, err := v.trust.config(v.member.namespace, v.member.set, log)
	if err != nil {
		return err
	}
	if _, err := v.replicationPassword(); err != nil {
		return usageError{err}
	}
	v.member.resolve(log)
	kube, err := v.kube.connect(&v.member, log)
	if err != nil {
		return err
	}
	defer kube.start(context.WithoutCancel(ctx))()
	kube.serverContainer = v.serverContainer
	registry := prometheus.NewRegistry()
	health := newHealth(registry)
	listeners, err := listen(ctx, v.healthListen, v.cloneListen)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	// Liveness must not wait for anything: neither for the volume nor for the server.
	serve(ctx, group, health.server(log), listeners[0])
	group.Go(func() error { return v.work(ctx, listeners[1], pair, health, kube, log) })
	return group.Wait()
}

// work needs the volume, so it begins once whoever held it before has let go.
func (v *sidecarVerb) work(ctx context.Context, clones net.Listener, pair tlsPair, health *health, kube *kube, log *slog.Logger) (err error) {
	vol, err := openVolume(ctx, v.volume, v.member.podName, log)
	if err != nil {
		return errors.Join(ignoreCancelled(ctx, err), clones.Close())
	}
	defer func() { err = errors.Join(err, vol.Close()) }()
	record, err := newRecord(vol, func(ctx context.Context) error { return kube.attach(ctx, &v.member) })
	if err != nil {
		return errors.Join(err, clones.Close())
	}
	if err := vol.Sweep(record.ID()); err != nil {
		return errors.Join(fmt.Errorf("remove leftovers of killed backups: %w", err), clones.Close())
	}
	var agent *replicate.Agent
	images := v.image(vol, func() bool { return agent.Status().Facts.Answers }, kube, log)
	record.image = images.state
	mysqlClone, err := v.mysqlClone(vol, log)
	if err != nil {
		return errors.Join(err, clones.Close())
	}
	agent, err = v.agent(record, mysqlClone, pair, kube, log)
	if err != nil {
		return errors.Join(err, clones.Close())
	}
	defer func() { err = errors.Join(err, agent.Close()) }()
	throttle := wire.NewThrottle(v.limits.bytes)
	server := wire.NewServer(v.donor(vol, record, agent, mysqlClone, kube, log), wire.ServerConfig{
		Slots: v.slots, Stall: v.stall, Grace: v.grace, Throttle: throttle, Observe: health.cloned, Log: log,
	})
	health.watch(agent.Status, kube.signs.note, server)
	health.preStop(kube.preStop(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, v.drainTime)
		defer cancel()
		server.Drain(ctx)
	}))
	log.Info("sidecar started", "version", buildVersion(), "primary", v.member.first(), "phase", record.Phase())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { agent.Run(ctx); return nil })
	group.Go(func() error {
		v.member.serverTLS(v.configDir, pair).follow(ctx, v.interval, agent.ReloadTLS, func(text string) { kube.event(true, "NeedsHelp", text) }, log)
		return nil
	})
	group.Go(func() error { v.recoverSnapshots(ctx, agent, mysqlClone, log); return nil })
	group.Go(func() error { v.limits.follow(ctx, throttle, limitsEvery, log); return nil })
	group.Go(func() error { kube.follow(ctx, &v.member, record.Phase, agent.Status, v.interval); return nil })
	group.Go(func() error { images.run(ctx, record.Phase, v.interval); return nil })
	reseeds := v.reseeder(vol, agent.Status, pair.client, kube, log)
	group.Go(func() error { reseeds.run(ctx, v.interval); return nil })
	if v.allowRaw {
		clones = v.sniff(clones, server, log) //nolint:contextcheck // a listener ends by its Close
	}
	serveClones(ctx, group, server, pair.server, clones, v.drainTime)
	err = group.Wait()
	self, tools := peakMemory()
	log.Info("sidecar stopped", "peak_rss_mib", self, "tools_peak_rss_mib", tools)
	return err
}

// sniff gives raw streams to members that say nothing.
func (v *sidecarVerb) sniff(l net.Listener, server *wire.Server, log *slog.Logger) net.Listener {
	log.Warn("clones are given without trust to whoever has a member's address: --allow-raw")
	var hosts []string
	for _, ordinal := range v.member.ordinals(roster{}, v.member.ordinal) {
		hosts = append(hosts, v.member.host(ordinal))
	}
	return wire.SniffRaw(l, wire.RawPolicy{Allowed: wire.Hosts(hosts), Serve: server.ServeRaw, Log: log})
}

func (v *sidecarVerb) agent(record *record, mysqlClone *engine.MySQLClone, pair tlsPair, kube *kube, log *slog.Logger) (*replicate.Agent, error) {
	settings := replicate.Settings{
		Flavor: v.member.flavor, ServerID: v.member.serverID(), ReportHost: v.member.host(v.member.ordinal), Replica: !v.member.first(),
		KeepGTIDMode: record.KeepGTIDMode(), SemiSync: v.sync.mode, TLS: v.member.serverTLS(v.configDir, pair).files(),
	}
	return replicate.New(replicate.Config{
		Flavor: v.member.flavor, Primary: v.member.first(), Server: v.server, Host: settings.ReportHost,
		Admin: v.admin.administrator(), Sidecar: v.own.made(log), Clone: v.clone.made(log),
		WithTool:            v.engine.mayUseTool(v.member.flavor),
		Source:              replicate.Source{Host: v.member.host(v.member.firstOrdinal), Port: v.sourcePort, User: v.replicationUser, CA: settings.TLS.CA},
		ReplicationPassword: v.replicationPassword, ReplicationPasswordPrevious: v.replicationPasswordPrevious,
		Options: replicate.Options(settings), MaxLag: v.maxLag, SemiSync: v.sync.mode, Interval: v.interval, Record: record,
		Holding:  mysqlClone.Holding,
		ServerID: v.member.serverID(),
		Events:   func() bool { return v.wishesForEvents(log) },
		Peers: func(ctx context.Context) ([]replicate.Peer, error) {
			return v.member.peersOf(ctx, kube, v.clonePort, pair, log)
		},
		Patience: replicate.Patience{Silent: min(silentPatience, v.levelWait), Starting: v.levelWait},
		Volume: func() (replicate.Space, error) {
			space, err := volume.FreeSpace(v.volume)
			return replicate.Space{Free: space.Bytes, Size: space.Size}, err
		},
		Container: kube.signs.container(v.server, v.cloneListen, v.healthListen),
		Tell: func(failed bool, text string) {
			reason := "Replication"
			if failed {
				reason = "NeedsHelp"
			}
			kube.event(failed, reason, text)
		},
		Recovered: func(text string) { kube.event(false, k8s.Recovered, text) },
		Log:       log,
	})
}

// wishesForEvents says whether the operator's own option files set event_scheduler. What
// cannot be read is no wish: an event that does not run does less harm than one that runs.
func (v *sidecarVerb) wishesForEvents(log *slog.Logger) bool {
	options, err := optionsIn(v.configDir, defaultsFile, configFile)
	if err != nil {
		log.Warn("it is not known whether the configuration wishes for events", "error", err)
	}
	events, ok := options["event_scheduler"]
	return ok && events.isOn()
}

// account is how backups log in to the server: with the password that it takes.
func (v *sidecarVerb) account(ctx context.Context, agent *replicate.Agent) (engine.Account, error) {
	host, port, err := net.SplitHostPort(v.server)
	if err != nil {
		return engine.Account{}, fmt.Errorf("read --server: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return engine.Account{}, fmt.Errorf("read --server: %w", err)
	}
	access, err := agent.BackupLogin(ctx)
	return engine.Account{Host: host, Port: number, User: access.User, Password: access.Password, TLS: access.TLS}, err
}

// mysqlClone makes the engine clone, which is one for the whole process: it says when the
// applier stands still for it. Without MySQL nobody uses it.
func (v *sidecarVerb) mysqlClone(vol *volume.Volume, log *slog.Logger) (*engine.MySQLClone, error) {
	e := &engine.MySQLClone{MinFree: v.minFree, Log: log}
	var err error
	if v.engine.mayClone(v.member.flavor) {
		e.Dir, err = vol.Snapshots()
	}
	return e, err
}

// recoverSnapshots ends what a sidecar that was killed has left running in the server, once
// that answers.
func (v *sidecarVerb) recoverSnapshots(ctx context.Context, agent *replicate.Agent, e *engine.MySQLClone, log *slog.Logger) {
	if !v.engine.mayClone(v.member.flavor) {
		return
	}
	quiet := func(err error, _ time.Duration) {
		log.Debug("snapshots of an earlier run are not looked for yet", "error", err)
	}
	err := retry.Do(ctx, retry.Policy{Max: time.Minute, Notify: quiet}, func(ctx context.Context) error {
		account, err := v.account(ctx, agent)
		if err != nil {
			return err
		}
		return e.Recover(ctx, account)
	})
	if err != nil && ctx.Err() == nil {
		log.Warn("snapshots of an earlier run may be left", "error", err)
	}
}

// donor joins the volume, the engine and the agent's view of the server.
func (v *sidecarVerb) donor(vol *volume.Volume, record *record, agent *replicate.Agent, mysqlClone *engine.MySQLClone, kube *kube, log *slog.Logger) *clone.Donor {
	return &clone.Donor{
		Volume: vol, Engines: v.engine.donors(v.member.flavor, mysqlClone, log), Account: func(ctx context.Context) (engine.Account, error) { return v.account(ctx, agent) },
		MaxCommitBlock: v.maxCommitBlock, MinFree: v.minFree,
		Describe: func() wire.Member {
			m := describe(v.member.podName, v.member.flavor, record.Phase(), agent.Status())
			m.Clone = record.clone()
			m.Trouble = cmp.Or(m.Trouble, kube.signs.note())
			return m
		},
		Serving: func() (wire.Header, error) { return serving(record.Phase(), agent.Status(), agent.Errant) },
		Log:     log,
	}
}

func role(primary bool) wire.Role {
	if primary {
		return wire.Primary
	}
	return wire.Replica
}

func describe(name string, f flavor.Flavor, phase volume.Phase, s replicate.Status) wire.Member {
	m := wire.Member{
		Name: name, Role: role(s.Primary), Phase: string(phase), Flavor: string(f), ServerVersion: s.ServerVersion,
		ServerID: s.Facts.ServerID, UUID: s.Facts.ServerUUID, GTID: s.Facts.GTID, Received: s.Facts.Received(), Ready: s.Ready, Reason: s.Reason,
		Paused:   s.Paused,
		Parted:   s.Parted,
		SemiSync: s.Facts.SemiSync.Active || s.Facts.SemiSync.Acknowledging, SemiSyncReplicas: s.Facts.SemiSync.Replicas,
		Trouble: s.Trouble.Text, WithoutSourceSeconds: s.Without.Seconds(), CommitsWaitSeconds: s.CommitsWait.Seconds(),
		VolumeBytes: s.Facts.Volume.Size, VolumeFreeBytes: s.Facts.Volume.Free,
	}
	if !s.Facts.Seen.IsZero() {
		m.SeenSeconds = time.Since(s.Facts.Seen).Seconds()
	}
	// A source that is not open lacks what it is about to take over: that is not errant.
	if said := s.Facts.Source; said != nil && (!said.ReadOnly || said.OnlyOurs) {
		m.Errant = said.Errant
	}
	if c := s.Facts.Channel; c != nil {
		m.LagSeconds = c.Lag
		m.Source = net.JoinHostPort(c.Host, strconv.Itoa(c.Port))
		m.Read = c.Read.String()
	}
	return m
}

// serving says whether this member's data may be copied. Only the primary, or a
// replica that has replicated, knows that its data and its coordinate are right. errant says
// what a replica has and its source lacks: a copy would have it, too.
func serving(phase volume.Phase, s replicate.Status, errant func() string) (wire.Header, error) {
	h := wire.Header{ServerVersion: s.ServerVersion, Role: role(s.Primary), Origin: origin.GTID}
	switch {
	case phase != volume.Attached:
		return h, fmt.Errorf("%w: it is not attached yet (%s): %s", wire.ErrNotServing, phase, s.Action.Reason)
	case s.Facts.Trouble != "" || s.ServerVersion == "":
		return h, fmt.Errorf("%w: its server cannot be observed: %s", wire.ErrNotServing, s.Facts.Trouble)
	case s.Primary && s.Facts.Channel != nil:
		return h, fmt.Errorf("%w: it is the primary, and not open yet: %s", wire.ErrNotServing, s.Action.Reason)
	case s.Primary:
		if !s.Facts.UsesGTID {
			h.Origin = origin.Position
		}
		return h, nil
	case s.Facts.Channel == nil || !s.Facts.Channel.SQLRunning:
		return h, fmt.Errorf("%w: its applier does not run: %s", wire.ErrNotServing, s.Action.Reason)
	case s.Verdict == replicate.Report || s.Verdict == replicate.Reseed:
		return h, fmt.Errorf("%w: it is not in order itself: %s", wire.ErrNotServing, s.Action.Reason)
	case !s.Facts.Channel.UsingGTID:
		h.Origin = origin.Position
		return h, nil
	}
	if lacked := errant(); lacked != "" {
		return h, fmt.Errorf("%w: it has transactions that the primary lacks, which a copy would have, too: %s", wire.ErrNotServing, lacked)
	}
	return h, nil
}
