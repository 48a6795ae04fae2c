package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"
	"understudy/k8s"

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
	level  levelFlags
	lead   leadFlags
	logs   logFlags

	admin, own, clone accountFlags

	volume, configDir, server, serverSocket, serverContainer, runSocket string

	replicationUser, replicationPasswordFile, replicationPasswordFilePrevious string

	cloneListen, healthListen, minFreeText string

	minFree int64 // of minFreeText

	sourcePort, slots                  int
	interval, maxLag, stall, drainTime time.Duration
	grace, maxCommitBlock              time.Duration
	clonePort                          int
	allowRaw                           bool
}

const sidecarAbout = `understudy sidecar keeps a member in its role for as long as the pod lives.

It waits for the server beside it to answer on TCP.

On the first ordinal it creates the accounts for replication, sidecar and backups, verifies
the safety options, and opens the server for writes. Before it opens it, after each start of
the server, it asks all members what they have received, and follows the most advanced one
until it lacks nothing. It waits up to --level-wait for members that the set's Lease names
(annotation understudy/members: all that were ever attached) and for members whose servers do
not answer yet; 5 s for others; and not at all for members that the StatefulSet was scaled
down by. Without Kubernetes there is no list: a member whose name does not resolve is assumed
not to exist.

On replicas it configures replication from the primary, starting at the clone's coordinate,
and verifies the primary's certificate. A restart of the server, of the sidecar, or of both
changes nothing. While a member is paused (understudy pause), the sidecar only observes it.

It reports what replication cannot repair: data that differ from the primary's, purged binary
logs, and transactions that the primary lacks. understudy reseed, or --reseed=auto, replaces
the data of such a replica by a new clone.

It gives clones to other members on port 3307, and serves on its own port:
  /livez    the process lives
  /readyz   the server and its applier work; if not, why
  /primary  for load balancers: the member is open for writes
  /replica  for load balancers: a replica that is ready; with ?lag=5s, not further behind
  /metrics  for Prometheus
  /prestop  for the server container's preStop hook: while the pod is being deleted, it
            returns once the running clone has ended

Secrets and passwords are rotated without a restart. First make the new value the current one
and the old value the previous one (--secret-file-previous, --replication-password-file-previous
and so on); when all members have both files and are ready, remove the previous one. Meanwhile
members accept both secrets, and accounts have both passwords (MariaDB; MySQL 8.0.14 and later).

On SIGTERM it starts no new clones, lets the running one finish within --drain-timeout, and
exits with 0.

  understudy sidecar --flavor=mariadb --volume=/volume --pod-name=db-1 \
      --config-dir=/config --secret-file=/secret/secret \
      --admin-password-file=/secret/root-password \
      --replication-password-file=/secret/replication-password \
      --sidecar-password-file=/secret/sidecar-password --clone-password-file=/secret/clone-password
`

const (
	// healthPort serves /livez, /readyz, /primary, /replica and /metrics.
	healthPort = 9307
	// serverPort is where the servers listen.
	serverPort = 3306
)

func (v *sidecarVerb) define(f *flagSet) {
	f.about = sidecarAbout
	v.member.define(f)
	f.StringVar(&v.volume, "volume", "/volume", "`directory` where the whole volume is mounted")
	f.StringVar(&v.configDir, "config-dir", "", "`directory` of init's --config-dir, where the server and the sidecar see it at the same path:\n"+
		"the sidecar renews the server's certificate there (required without --insecure)")
	f.StringVar(&v.server, "server", net.JoinHostPort("127.0.0.1", strconv.Itoa(serverPort)), "`address` of the member's own server")
	f.StringVar(&v.serverSocket, "server-socket", "", "`file` of the server's socket, at a path where the sidecar sees it, too. With --engine=clone the server's\ndata come over it, sooner than over --server and without TLS, and the account for backups is also made\nfor localhost. All else goes over --server; so do the data if the socket does not let the sidecar in.\nEmpty: no socket")
	f.StringVar(&v.serverContainer, "server-container", "server", "`name` of the server's container. Its restarts show whether the image has completed the data\ndirectory, and its exits are reported. Ignored where the pod has one container only")
	f.StringVar(&v.runSocket, "run-socket", runSocket, "`file` of the socket of understudy run in the server's container, where that is the first process: it says\nwhy the server does not answer")
	v.admin.define(f, "admin", "root", "`account` of the server with which the primary's sidecar creates the others; it is used in place\nof those that are missing",
		"`file` with its password; empty: no password")
	const made = "`file` with its password. Empty or missing: --admin-user is used in its place"
	v.own.define(f, "sidecar", "understudy_sidecar", "`account` of the server that the sidecar uses; created if missing (from 127.%)", made)
	v.clone.define(f, "clone", "understudy_clone", "`account` of the server for backups; created if missing (from 127.%)", made)
	f.StringVar(&v.replicationUser, "replication-user", "understudy_replication", "`account` with which replicas connect to the primary; created if missing")
	f.StringVar(&v.replicationPasswordFile, "replication-password-file", "", "`file` with its password (required)")
	f.StringVar(&v.replicationPasswordFilePrevious, "replication-password-file-previous", "", previousPassword)
	f.IntVar(&v.sourcePort, "source-port", 0, "`port` of the primary's server; 0: that of --server")
	f.IntVar(&v.clonePort, "clone-port", wire.Port, "`port` on which members answer")
	v.level.define(f)
	f.StringVar(&v.cloneListen, "clone-listen", ":"+strconv.Itoa(wire.Port), "`address` on which clones are given")
	f.StringVar(&v.healthListen, "health-listen", ":"+strconv.Itoa(healthPort), "`address` of /livez, /readyz, /primary, /replica and /metrics")
	v.engine.define(f)
	v.engine.defineDonor(f)
	f.DurationVar(&v.interval, "interval", 2*time.Second, "`time` between two looks at the server")
	f.DurationVar(&v.maxLag, "max-lag", 0, "`lag` above which a replica is not ready; 0: no limit")
	v.sync.define(f)
	v.lead.define(f)
	v.lead.defineTimings(f)
	f.DurationVar(&v.stall, "stall-timeout", time.Minute, "`time` after which a joiner is disconnected that takes no byte and does not report that it lives")
	f.IntVar(&v.slots, "clone-slots", 1, "`number` of clones that are given at a time")
	f.DurationVar(&v.grace, "resume-grace", time.Minute, "`time` for a joiner to reconnect after its connection broke")
	f.DurationVar(&v.maxCommitBlock, "max-commit-block", 5*time.Second, "`time` for which a backup may block commits on the primary before it is ended")
	v.limits.define(f)
	f.StringVar(&v.minFreeText, "min-free", "1GiB", "`bytes` that must stay free on the volume while clones are given: a clone does not start below\nthat, and is ended when it falls below. For what a tool writes while it holds locks, a tenth of\nthe volume suffices")
	f.BoolVar(&v.allowRaw, "allow-raw", false, "also give clones to the ncat clients of the tutorial: without authentication, to any client at a\nmember's address that sends nothing for 5 s")
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
		return errors.New("--config-dir is required without --insecure: give the directory that init wrote the server's configuration to")
	}
	if v.replicationPasswordFile == "" {
		return errors.New("--replication-password-file is required")
	}
	if v.interval <= 0 || v.stall <= 0 || v.drainTime < 0 || v.maxLag < 0 {
		return errors.New("--interval and --stall-timeout must be more than 0, --drain-timeout and --max-lag not less than 0")
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
	if err := errors.Join(v.member.validate(), v.sync.validate(), v.level.validate(), v.trust.validate(), v.limits.validate(), v.reseed.validate(), v.kube.validate(), v.logs.validate()); err != nil {
		return err
	}
	return errors.Join(v.engine.validateFor(v.member.id.Flavor), v.validateSocket(), v.validateLead())
}

// validateSocket refuses a socket that nothing would use.
func (v *sidecarVerb) validateSocket() error {
	switch {
	case v.serverSocket == "":
		return nil
	case !filepath.IsAbs(v.serverSocket):
		return fmt.Errorf("--server-socket=%s: it must be an absolute path", v.serverSocket)
	case !v.engine.mayClone(v.member.id.Flavor):
		return fmt.Errorf("--server-socket=%s: only --engine=clone uses a socket, for MySQL", v.serverSocket)
	}
	return nil
}

// validatePorts makes the port of --server the default of --source-port.
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

func (v *sidecarVerb) run(ctx context.Context, out streams) error {
	id := v.member.id
	log := v.logs.logger(out.stderr).With("member", id.Name)
	pair, err := v.trust.config(id.Namespace, id.Set, log)
	if err != nil {
		return err
	}
	if _, err := v.replicationPassword(); err != nil {
		return usageError{err}
	}
	findDomain(&id, log)
	kube, err := v.kube.connect(id, v.serverContainer, log)
	if err != nil {
		return err
	}
	defer kube.Start(context.WithoutCancel(ctx))()
	listeners, err := member.Listen(ctx, v.healthListen, v.cloneListen)
	if err != nil {
		return err
	}
	var terms *k8s.Terms
	if v.lead.byLease() {
		if terms, err = v.kube.terms(id, v.lead.timings.Request, log); err != nil {
			return err
		}
	}
	health := member.NewHealth(prometheus.NewRegistry(), buildVersion())
	group, ctx := errgroup.WithContext(ctx)
	// Liveness waits for nothing, neither for the volume nor for the server.
	member.Serve(ctx, group, health.Server(log), listeners[0])
	s := &sidecar{
		sidecarVerb: v, Member: &member.Member{Identity: id, Root: v.volume, TLS: pair, Kube: kube, Port: v.clonePort, Log: log},
		health: health, terms: terms,
	}
	group.Go(func() error { return s.work(ctx, listeners[1]) })
	return group.Wait()
}
