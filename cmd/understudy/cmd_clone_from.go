package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"understudy/clone"
	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"
	"understudy/replicate"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"

	"github.com/schollz/progressbar/v3"
)

// cloneFromVerb is `understudy clone-from`.
type cloneFromVerb struct {
	trust    trustFlags
	transfer transferFlags
	engine   engineFlags
	logs     logFlags

	namespace, set, to string

	prepare       bool
	prepareMemory int64

	addr string
}

const cloneFromAbout = `understudy clone-from takes by hand the clone that init would take.

  understudy clone-from HOST[:PORT] --to DIR            unpacked, into a new or empty directory
  understudy clone-from HOST[:PORT] --to FILE.xbstream  as one file
  understudy clone-from HOST[:PORT] --to -              to standard output

A clone that has the given name is complete and on stable storage: its length and digest were
compared with the donor's. Until then it is in DIR.partial, which a killed run may leave behind
and the next run removes. With --to -, only the exit code tells whether the clone is complete.
Otherwise the clone's replication origin is printed to standard output, as SQL statements that
configure replication and as JSON. A directory needs --prepare before a server can start on it.

  understudy clone-from db-0.db --to /tmp/copy --prepare --set=db --secret-file=/secret/secret
`

func (v *cloneFromVerb) define(f *flagSet) {
	f.about = cloneFromAbout
	f.StringVar(&v.to, "to", "", "`where` the clone goes: a directory, a file that ends in .xbstream, or - (required)")
	f.BoolVar(&v.prepare, "prepare", false, "prepare the directory, so that a server can start on it")
	f.StringVar(&v.set, "set", "", "`name` of the donor's set (required without --insecure)")
	f.StringVar(&v.namespace, "namespace", "default", "`namespace` of the donor's set")
	f.alsoFrom("namespace", "POD_NAMESPACE")
	v.engine.define(f)
	f.Int64Var(&v.prepareMemory, "prepare-memory", 0, "`bytes` of memory for the prepare; 0: 40 % of the container's or the pod's limit, and at\nmost 512 MiB where a pod's limit is not visible (cgroup v2)")
	v.transfer.define(f)
	v.trust.define(f)
	v.logs.define(f)
}

const streamSuffix = ".xbstream"

func (v *cloneFromVerb) validate(args []string) error {
	if len(args) != 1 {
		return errors.New("name one donor: understudy clone-from HOST[:PORT] --to DIR")
	}
	v.addr = args[0]
	if _, _, err := net.SplitHostPort(v.addr); err != nil {
		v.addr = net.JoinHostPort(strings.Trim(v.addr, "[]"), strconv.Itoa(wire.Port))
	}
	switch {
	case v.to == "":
		return errors.New("--to is required: a directory, a file that ends in .xbstream, or -")
	case v.prepare && (v.to == "-" || strings.HasSuffix(v.to, streamSuffix)):
		return errors.New("--prepare needs a directory: give --to DIR")
	case v.set == "" && !v.trust.insecure:
		return errors.New("--set is required: a secret is valid for one set")
	}
	return errors.Join(v.engine.validate(), v.transfer.validate(), v.trust.validate(), v.logs.validate())
}

func (v *cloneFromVerb) run(ctx context.Context, out streams) error {
	log := v.logs.logger(out.stderr)
	if v.to == "-" && isTerminal(out.stdout) {
		return usageError{errors.New("--to -: standard output is a terminal; redirect it")}
	}
	if err := v.checkTarget(); err != nil {
		return err
	}
	pair, err := v.trust.config(v.namespace, v.set, log)
	if err != nil {
		return err
	}
	engines := v.engine.joiners("", v.prepare, log)
	config := wire.ClientConfig{Addr: v.addr, TLS: pair.Client, Member: handName(), Role: roleOf(v.addr), Log: log}
	if v.prepare { // what is left as it came has to be of use to the tools
		config.Engines = engines.Direct()
	}
	client := wire.NewClient(v.transfer.client(config))
	defer client.Close()
	if err := v.preflight(ctx, client, engines); err != nil {
		return err
	}
	c, err := v.begin(ctx, client, engines, log)
	if err != nil {
		return err
	}
	defer func() { _ = c.Stream.Close() }()
	c.stop = showProgress(ctx, c.Meter, out.stderr, log)
	defer c.stop()
	o, err := v.take(ctx, c, out)
	if err != nil || o == nil {
		return err
	}
	return printOrigin(out.stdout, c.server, *o)
}

// copiedBy is the flavour of the servers that an engine copies.
func copiedBy(e clone.Engine) flavor.Flavor {
	if e.Name() == engine.MariaDBBackupName {
		return flavor.MariaDB
	}
	return flavor.MySQL
}

// preflight compares the donor's offer with what is here. A donor without an offer says why when it
// is asked for the clone.
func (v *cloneFromVerb) preflight(ctx context.Context, client *wire.Client, engines clone.Engines) error {
	m, err := client.Member(ctx)
	if err != nil || m.Offer == nil || v.to == "-" {
		return nil //nolint:nilerr // see above
	}
	have := clone.Have{Engines: engines}
	if have.Free, err = volume.FreeSpace(filepath.Dir(v.to)); err != nil {
		return err
	}
	need := clone.OfferNeed(m)
	if !v.prepare {
		need.NeededBytes, need.Encrypted = 0, "" // a stream as it is
		return clone.Check(need, have)
	}
	if e, err := engines.For(wire.Header{Engine: need.Engine}); err == nil { // clone.Check reports an error
		if have.Tools, err = (clone.Engines{e}).Versions(ctx); err != nil {
			return err
		}
	}
	return clone.Check(need, have)
}

// checkTarget refuses a target that exists, and one that cannot be replaced: the clone is unpacked
// beside the target and renamed.
func (v *cloneFromVerb) checkTarget() error {
	if v.to == "-" {
		return nil
	}
	to, err := filepath.Abs(v.to)
	if err != nil {
		return fmt.Errorf("look at --to: %w", err)
	}
	v.to = to
	if parent, err := os.Stat(filepath.Dir(to)); err != nil || !parent.IsDir() {
		return usageError{fmt.Errorf("--to=%s: %s is not a directory; make it first", to, filepath.Dir(to))}
	}
	info, err := os.Lstat(to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at --to: %w", err)
	}
	if strings.HasSuffix(to, streamSuffix) {
		return fmt.Errorf("%w to overwrite %s", clone.ErrRefused, to)
	}
	if !info.IsDir() {
		return usageError{fmt.Errorf("--to=%s: it is a file or a link; name a directory, or a file that ends in %s", to, streamSuffix)}
	}
	return v.checkEmpty(info)
}

// checkEmpty refuses an existing directory that the clone cannot replace.
func (v *cloneFromVerb) checkEmpty(info fs.FileInfo) error {
	mounted, err := volume.IsMountPoint(v.to)
	if err != nil {
		return fmt.Errorf("look at --to: %w", err)
	}
	here, err := os.Stat(".")
	if err != nil {
		return fmt.Errorf("look at the working directory: %w", err)
	}
	const another = "the clone is made beside it and renamed when it is complete; name a directory that does not exist yet, as in --to "
	inside := filepath.Join(v.to, "clone")
	switch {
	case mounted:
		return fmt.Errorf("%w: %s is a mount point, and %s%s", clone.ErrRefused, v.to, another, inside)
	case os.SameFile(info, here):
		return fmt.Errorf("%w: %s is the working directory, and %s%s", clone.ErrRefused, v.to, another, inside)
	}
	entries, err := os.ReadDir(v.to)
	if err != nil {
		return fmt.Errorf("look at --to: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s is not empty", clone.ErrRefused, v.to)
	}
	return nil
}

// printOrigin prints the origin as SQL and as JSON.
func printOrigin(w io.Writer, server flavor.Version, o origin.Origin) error {
	text, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("print the origin: %w", err)
	}
	_, err = fmt.Fprintf(w, "-- To make a server on this copy a replica:\n%s\n-- origin: %s\n", replicate.Recipe(server, o), text)
	return err
}

// showProgress draws a bar on a terminal and logs a line every ten seconds elsewhere. The function
// that it returns ends that, and may be called again.
func showProgress(ctx context.Context, meter *clone.Meter, w io.Writer, log *slog.Logger) func() {
	if !isTerminal(w) {
		return meter.Watch(ctx, 10*time.Second, func(p clone.Progress) { log.Info("clone under way", "progress", p) })
	}
	bar := progressbar.NewOptions64(
		max(meter.Now().Total, 1),
		progressbar.OptionSetWriter(w), progressbar.OptionShowBytes(true), progressbar.OptionSetDescription("clone"),
		progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(), progressbar.OptionThrottle(0),
	)
	draw := func(p clone.Progress) {
		if p.Bytes >= bar.GetMax64() { // the estimate was short
			bar.ChangeMax64(p.Bytes + 1)
		}
		_ = bar.Set64(p.Bytes) // the bar is for display only
	}
	stop := meter.Watch(ctx, 200*time.Millisecond, draw)
	return sync.OnceFunc(func() {
		stop()
		_, _ = fmt.Fprintln(w)
	})
}

// roleOf is the role of a donor of the tutorial by its host name: ordinal 0 is the primary.
func roleOf(addr string) wire.Role {
	host, _, _ := net.SplitHostPort(addr) // checked by validate
	label, _, _ := strings.Cut(host, ".")
	parts := podName.FindStringSubmatch(label)
	return member.Role(parts != nil && parts[2] == "0")
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// handName is the name under which a command that was run by hand asks.
func handName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("by-hand-%s-%d", notInName.ReplaceAllString(host, "-"), os.Getpid())
}
