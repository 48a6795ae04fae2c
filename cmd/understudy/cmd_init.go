package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"understudy/clone"
	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/replicate"
	"understudy/replicate/flavor"
)

// initVerb is `understudy init`.
type initVerb struct {
	member   memberFlags
	trust    trustFlags
	transfer transferFlags
	sync     semiSyncFlags
	engine   engineFlags
	kube     kubeFlags
	logs     logFlags

	volume, configDir, configFrom string

	serverVersion string
	server        *flavor.Version // of serverVersion

	cloneListen, healthListen string

	clonePort     int
	wait          time.Duration
	bootstrap     bool
	prepareMemory int64
}

const initAbout = `understudy init prepares a member before its server starts, as an init container.

It finds out from the member's name who it is, looks at the volume, and
  - keeps a complete data directory, its own or one that it adopts;
  - takes a volume that is a copy of another member's, a snapshot of it, for a clone of that
    member: replication begins at what its data have executed;
  - clones another member into an empty volume: a replica that is free rather than the
    primary, the previous ordinal rather than others;
  - brings a first ordinal whose volume was lost back from the most advanced member. Members of
    which none has all that the others have are refused;
  - lets the first ordinal start empty only if no member has data and the set never had any: the
    set's Lease knows, and without Kubernetes you say so with --bootstrap. Otherwise it waits,
    and says how to allow an empty start. Members that the Lease or the StatefulSet names are
    waited for up to a minute, others that have a name for 5 s;
  - finishes a clone that was prepared before a crash, and throws away any other;
  - moves aside, never deletes, what was cut short;
  - clones a member anew although it has data, where understudy reseed or the sidecar has
    asked for it: the old data stay in place until the clone is complete, and are kept
    aside then. Without a donor in time, without room for both or where the clone fails,
    it is given up, and the old data start as before;
  - refuses (exit code 3) whatever it does not know.
Then it writes the server's configuration, and a certificate with which the server proves
itself to its replicas, and exits. It can be run again at any time.

  understudy init --flavor=mariadb --volume=/volume --config-dir=/config \
      --secret-file=/secret/clone --pod-name=db-1
`

func (v *initVerb) define(f *flagSet) {
	f.about = initAbout
	v.member.define(f)
	f.StringVar(&v.volume, "volume", "/volume", "`directory` where the whole volume is mounted; the data directory is mysql/ below it")
	f.StringVar(&v.configDir, "config-dir", "", "`directory` that the server includes; its configuration is written there, and its certificate\n"+
		"below: the server must see it at the same path, too (required)")
	f.StringVar(&v.configFrom, "config-from", "", "`directory` whose common.cnf, and primary.cnf or replica.cnf, are copied as they are")
	f.BoolVar(&v.bootstrap, "bootstrap", false, "let the first ordinal start with an empty volume;\nfor --kube=off only: in Kubernetes the set's Lease knows")
	f.DurationVar(&v.wait, "wait", 30*time.Minute, "`time` to wait for a donor, or for the permission to start empty; transfers do not count")
	v.transfer.define(f)
	f.IntVar(&v.clonePort, "clone-port", wire.Port, "`port` on which peers give clones")
	f.StringVar(&v.cloneListen, "clone-listen", ":"+strconv.Itoa(wire.Port), "`address` on which peers hear that this member is being cloned")
	f.StringVar(&v.healthListen, "health-listen", ":"+strconv.Itoa(healthPort), "`address` of /metrics while a clone is under way")
	v.engine.define(f)
	v.sync.define(f)
	f.Int64Var(&v.prepareMemory, "prepare-memory", 0, "`bytes` of memory for the prepare; 0: 40 % of the container's or the pod's limit; where a pod's limit cannot be seen (cgroup v2), at most 512 MiB")
	f.StringVar(&v.serverVersion, "server-version", "", "`version` of the server that will run on the clone, as in 10.11: a clone of a later one is refused")
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
		server, err := flavor.ParseSeries(v.member.flavor, v.serverVersion)
		if err != nil {
			return fmt.Errorf("--server-version=%s: %w", v.serverVersion, err)
		}
		v.server = &server
	}
	return errors.Join(v.sync.validate(), v.engine.validateFor(v.member.flavor), v.transfer.validate(), v.trust.validate(), v.kube.validate(), v.logs.validate())
}

func (v *initVerb) run(ctx context.Context, out streams) (err error) {
	log := v.logs.logger(out.stderr).With("member", v.member.podName)
	// A wrong secret is better known now than when the first clone is needed.
	pair, err := v.trust.config(v.member.namespace, v.member.set, log)
	if err != nil {
		return err
	}
	// So is a directory that cannot be written to.
	if info, err := os.Stat(v.configDir); err != nil || !info.IsDir() {
		return usageError{fmt.Errorf("--config-dir=%s: it is not a directory", v.configDir)}
	}
	v.member.resolve(log)
	kube, err := v.kube.connect(&v.member, log)
	if err != nil {
		return err
	}
	defer kube.start(context.WithoutCancel(ctx))()
	vol, err := openVolume(ctx, v.volume, v.member.podName, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vol.Close()) }()
	facts, err := v.facts(ctx, vol, kube)
	if err != nil {
		return err
	}
	verdict, why := volume.Decide(facts)
	log.Info("decided what to do with the volume", "verdict", verdict, "reason", why, "content", facts.Live.Content)
	if err := v.carryOut(ctx, vol, facts, verdict, why, pair, kube, log); err != nil {
		if errors.Is(err, clone.ErrRefused) {
			kube.event(true, "Refused", err.Error())
		}
		return err
	}
	// Whatever was done, it answers a request for a re-seed: an empty volume is cloned anyway,
	// and the first ordinal never is.
	if facts.Request != nil {
		if err := vol.CloseRequest(); err != nil {
			return err
		}
	}
	if err := v.writeConfig(vol, pair, log); err != nil {
		return err
	}
	// The kubelet would make the mount point of the server's container as root's.
	if v.engine.mayClone(v.member.flavor) {
		if _, err := vol.Snapshots(); err != nil {
			return err
		}
	}
	self, tools := peakMemory()
	log.Info("init is done", "peak_rss_mib", self, "tools_peak_rss_mib", tools)
	return nil
}

// facts looks at the volume and, where the answer matters, asks whether the set has
// had data.
func (v *initVerb) facts(ctx context.Context, vol *volume.Volume, kube *kube) (volume.Facts, error) {
	facts, err := vol.Facts(v.member.first(), v.bootstrap && kube.client == nil)
	if err != nil || facts.Bootstrap || facts.Journal != nil || !facts.First || facts.Live.Content != volume.Empty {
		return facts, err
	}
	if kube.client != nil {
		facts.Bootstrap, err = kube.mayStartEmpty(ctx, v.wait)
	}
	return facts, err
}

// openVolume waits for another process that holds the volume, as long as it takes.
func openVolume(ctx context.Context, path, member string, log *slog.Logger) (*volume.Volume, error) {
	vol, err := volume.Open(ctx, path, 10*time.Second, func(holder string) {
		log.Info("waiting for another process to let go of the volume", "holder", holder)
	})
	if err == nil {
		vol.OwnedBy(member)
	}
	return vol, err
}

func (v *initVerb) carryOut(
	ctx context.Context, vol *volume.Volume, facts volume.Facts, verdict volume.Verdict, why string, pair tlsPair, kube *kube, log *slog.Logger,
) error {
	keep := ""
	if verdict == volume.Publish || verdict == volume.FinishSwap {
		keep = facts.Journal.ID
	}
	if verdict == volume.Refuse {
		return fmt.Errorf("%w to touch %s: %s; it holds %q", clone.ErrRefused, v.volume, why, facts.Live.Names)
	}
	if verdict != volume.Keep && verdict != volume.Adopt && verdict != volume.Inherit { // something else is to take its name, or a journal to speak of it
		if err := vol.Mounted(); err != nil {
			return fmt.Errorf("%w to fill %s: %w", clone.ErrRefused, v.volume, err)
		}
	}
	if err := errors.Join(vol.Sweep(keep), vol.SweepSnapshots()); err != nil {
		return fmt.Errorf("remove leftovers of earlier runs: %w", err)
	}
	if verdict == volume.StartAnew || verdict == volume.CloneAnew {
		aside, err := vol.SetAside(volume.NewID())
		if err != nil {
			return err
		}
		log.Warn("the data directory was moved aside", "to", aside, "reason", why)
		kube.event(true, "MovedAside", fmt.Sprintf("the data directory was moved to %s: %s", aside, why))
	}
	switch verdict {
	case volume.StartAnew:
		return vol.StartEmpty(attempt(facts.Journal, verdict))
	case volume.Start:
		if facts.Journal != nil { // it was decided before
			return vol.StartEmpty(attempt(facts.Journal, verdict))
		}
		fallthrough // members with data count for more than the permission to start empty
	case volume.Clone, volume.CloneAnew:
		err := v.clone(ctx, vol, facts.Journal, nil, pair, kube, log)
		if errors.Is(err, errStartEmpty) {
			return vol.StartEmpty(1)
		}
		return err
	case volume.Reseed:
		return v.reseed(ctx, vol, facts, pair, kube, log)
	case volume.FinishSwap:
		_, err := vol.FinishSwap(*facts.Journal)
		return err
	case volume.Publish:
		_, err := vol.Publish(*facts.Journal)
		return err
	case volume.Acknowledge:
		_, err := vol.Acknowledge(*facts.Journal)
		return err
	case volume.Adopt:
		o, err := volume.Origin(vol.Live(), v.member.flavor)
		if err != nil {
			return fmt.Errorf("adopt the data directory: %w", err)
		}
		binlog, err := v.adoptBinlog(vol, o)
		if err != nil {
			return fmt.Errorf("adopt the data directory: %w", err)
		}
		return vol.WriteJournal(volume.Journal{Phase: volume.Published, Adopted: true, Origin: o, Binlog: binlog})
	case volume.Inherit:
		return v.inherit(vol, *facts.Journal, kube, log)
	case volume.Keep:
		if facts.Journal.Owner == "" { // written by an older program
			if err := vol.WriteJournal(*facts.Journal); err != nil { // a full volume must not keep a server from its data
				log.Warn("whose volume it is could not be written down", "error", err)
			}
		}
	case volume.Refuse:
	}
	return nil
}

// attempt counts how often the server's image has begun to make the data directory.
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

func (v *initVerb) clone(
	ctx context.Context, vol *volume.Volume, journal *volume.Journal, replace *volume.Request, pair tlsPair, kube *kube, log *slog.Logger,
) error {
	memory := v.prepareMemory
	if memory == 0 {
		memory = engine.PrepareMemory(os.DirFS("/"))
	}
	tracker := &clone.Tracker{}
	defer v.announce(ctx, tracker, replace != nil, pair.server, kube, log)()
	var candidates []clone.Candidate
	if v.member.first() {
		donor, err := v.comeBack(ctx, journal, pair, kube, log)
		if err != nil {
			return err
		}
		candidates = []clone.Candidate{donor}
	} else {
		candidates = v.candidates(ctx, kube)
	}
	j := clone.Joiner{
		Volume: vol, Engines: v.engine.joiners(v.member.flavor, true, log), Flavor: v.member.flavor, Server: v.server,
		Ordinal: v.member.ordinal, Candidates: candidates,
		Connect: v.transfer.client(wire.ClientConfig{TLS: pair.client, Member: v.member.podName, Dial: v.member.dial(), Log: log}),
		Replace: replace, Wait: v.wait, Memory: memory, Tell: kube.tell, Tracker: tracker, Log: log,
	}
	return j.Join(ctx)
}

// candidates are all members that are known, but this one. One that is not known is missed by
// a joiner only: any other will do.
func (v *initVerb) candidates(ctx context.Context, kube *kube) []clone.Candidate {
	r, err := kube.roster(ctx, &v.member.setFlags)
	if err != nil {
		kube.log.Debug("donors are known by their names only", "error", err)
	}
	var all []clone.Candidate
	for _, ordinal := range v.member.ordinals(r, v.member.ordinal) {
		all = append(all, v.candidateAt(ordinal))
	}
	return all
}

func (v *initVerb) candidateAt(ordinal int) clone.Candidate {
	return clone.Candidate{
		Name: v.member.name(ordinal), Ordinal: ordinal, Role: role(ordinal == v.member.firstOrdinal),
		Addr: net.JoinHostPort(v.member.host(ordinal), strconv.Itoa(v.clonePort)),
	}
}

// The names of what is written to --config-dir. A server reads them in alphabetical
// order, so that ours comes last.
const (
	defaultsFile = "00-understudy-defaults.cnf"
	configFile   = "understudy.cnf"
)

// mayLoadClone says whether the server is to have the plugin of the engine clone: where it may
// be used, and the server's version is not known to be too old.
func (v *initVerb) mayLoadClone(journal *volume.Journal) bool {
	first := flavor.Version{Flavor: flavor.MySQL, Major: 8, Patch: 17}
	server := v.server
	if server == nil && journal.ServerVersion != "" {
		if of, err := flavor.ParseServer(journal.ServerVersion); err == nil {
			server = &of // the donor's: that of the set
		}
	}
	// "8.0" alone does not say that it is old.
	tooOld := server != nil && server.Less(first) && (server.Series() != first.Series() || server.Patch > 0)
	return v.engine.mayClone(v.member.flavor) && !tooOld
}

func (v *initVerb) writeConfig(vol *volume.Volume, pair tlsPair, log *slog.Logger) error {
	certificate := v.member.serverTLS(v.configDir, pair)
	if _, err := certificate.write(); err != nil {
		return err
	}
	journal, err := vol.ReadJournal()
	if err != nil {
		return err
	}
	own, err := v.operatorFiles()
	if err != nil {
		return err
	}
	binlog, err := v.binlog(vol, journal, own, log)
	if err != nil {
		return err
	}
	settings := replicate.Settings{
		Flavor: v.member.flavor, ServerID: v.member.serverID(), ReportHost: v.member.host(v.member.ordinal), Replica: !v.member.first(),
		BinlogBasename: binlog, KeepGTIDMode: keepGTIDMode(journal), Initialising: journal.Phase == volume.Initialising,
		SemiSync: v.sync.mode, TLS: certificate.files(), NoClonePlugin: !v.mayLoadClone(journal),
	}
	files := map[string][]byte{
		defaultsFile: replicate.Render(replicate.Defaults(v.member.flavor), "Written by understudy init. Your own common.cnf, primary.cnf and replica.cnf override this."),
		configFile:   replicate.Render(replicate.Options(settings), "Written by understudy init at every start; the sidecar verifies it. Edit nothing here."),
	}
	for name, text := range own {
		if name == commonFile || name == v.roleFile() { // others stand there already
			files[name] = text
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(v.configDir, name), text, 0o644); err != nil { //nolint:gosec // the server may run as another user
			return fmt.Errorf("write the server's configuration: %w", err)
		}
	}
	log.Info("configuration written", "dir", v.configDir, "server_id", settings.ServerID, "phase", journal.Phase)
	return nil
}
