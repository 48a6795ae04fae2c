package clone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/clone/xbstream"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

var (
	// ErrBroken is returned for a stream that was corrupt, truncated, or not what its donor
	// announced. Another stream may be whole.
	ErrBroken = errors.New("broken stream")
	// ErrRefused is returned when a clone was refused before anything was written. The kind of a
	// raw stream is known only afterwards; what was written is removed then.
	ErrRefused = errors.New("refused")
)

// Identity is what both sides need of a backup engine.
type Identity interface {
	// Name is the engine's name on the wire and in the journal.
	Name() string
	// Version is the version of the engine's tool.
	Version(ctx context.Context) (flavor.Version, error)
	// CheckPairing refuses a server that the tool may misread.
	CheckPairing(tool, server flavor.Version) error
}

// Engine is what a joiner needs of a backup engine.
type Engine interface {
	Identity
	// InfoFiles are the names, over time, of the last file of a whole stream.
	InfoFiles() []string
	// Prepare makes the copy in dir ready for a server. It may use memory bytes.
	Prepare(ctx context.Context, dir string, memory int64) error
}

// Engines are the engines whose copies a member can take.
type Engines []Engine

// For returns the engine for a donor's stream or offer. A raw stream names none; the first engine
// takes it, and its files show whether that was right.
func (all Engines) For(h wire.Header) (Engine, error) {
	var names []string
	for _, e := range all {
		if h.Raw || e.Name() == engine.Kind(h.Engine) {
			return e, nil
		}
		names = append(names, e.Name())
	}
	return nil, fmt.Errorf("the donor streams with %q, this member unpacks %q", h.Engine, names)
}

// Direct are the names of the engines' own kinds of streams, see wire.ClientConfig.
func (all Engines) Direct() []string {
	var names []string
	for _, e := range all {
		if direct, ok := e.(interface{ DirectName() string }); ok {
			names = append(names, direct.DirectName())
		}
	}
	return names
}

// Versions returns the versions of the engines' tools by engine. It fails when a tool tells no
// version.
func (all Engines) Versions(ctx context.Context) (map[string]flavor.Version, error) {
	versions := map[string]flavor.Version{}
	for _, e := range all {
		v, err := e.Version(ctx)
		if err != nil {
			return nil, err
		}
		versions[e.Name()] = v
	}
	return versions, nil
}

// Incoming is a stream and what takes it.
type Incoming struct {
	Stream *wire.Stream
	Engine Engine
	// Flavor is the servers'.
	Flavor flavor.Flavor
	// Meter may be nil.
	Meter *Meter
}

// reader is the stream, as the meter sees it.
func (i Incoming) reader() io.Reader {
	if i.Meter == nil {
		return i.Stream
	}
	return i.Meter.Reader(i.Stream)
}

// Receive unpacks the stream into the empty directory dir. It succeeds only when every file was
// closed, the donor's proof matches what arrived, and the engine's last file is there. Every other
// end of the stream is ErrBroken, except that of ctx. Errors of the local disk are returned as they
// are.
//
// A raw stream has no proof. Receive completes the stream's header from its files, and returns
// ErrRefused when this engine cannot take it.
func (i Incoming) Receive(ctx context.Context, dir string) (wire.Result, error) {
	s, e := i.Stream, i.Engine
	root, err := os.OpenRoot(dir)
	if err != nil {
		return wire.Result{}, fmt.Errorf("open the staging directory: %w", err)
	}
	defer func() { _ = root.Close() }()
	if _, err := xbstream.Extract(ctx, i.reader(), root, xbstream.Options{}); err != nil {
		return wire.Result{}, streamError(ctx, s, err)
	}
	result, err := s.Finish()
	if err != nil {
		return wire.Result{}, streamError(ctx, s, err)
	}
	if err := checkArrived(root, e); err != nil {
		return wire.Result{}, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if err := placeHealthcheck(root); err != nil {
		return wire.Result{}, fmt.Errorf("place the health check's login: %w", err)
	}
	if s.Header.Raw {
		if err := learnFrom(ctx, root, &s.Header, e); err != nil {
			return wire.Result{}, err
		}
	}
	// Two servers must not have one identity. No tool so far sends this file.
	if err := root.Remove("auto.cnf"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wire.Result{}, fmt.Errorf("remove the donor's identity: %w", err)
	}
	return result, nil
}

// Save writes the stream to w as it comes, and checks it as Receive does. Without an error the
// whole stream was written, and the origin is not nil.
func (i Incoming) Save(ctx context.Context, w io.Writer) (*origin.Origin, error) {
	s, e := i.Stream, i.Engine
	names := slices.Concat(e.InfoFiles(), checkpointsNames, origin.SlaveInfoNames, origin.BinlogInfoNames)
	tablespaces := false
	summary, err := xbstream.Check(ctx, io.TeeReader(i.reader(), w), xbstream.Options{
		Capture: func(name string) bool {
			tablespaces = tablespaces || name == tablespacesName
			return slices.Contains(names, name)
		},
	})
	if err != nil {
		return nil, streamError(ctx, s, err)
	}
	if _, err := s.Finish(); err != nil {
		return nil, streamError(ctx, s, err)
	}
	text := func(names []string) string {
		for _, name := range names {
			if content, ok := summary.Captured[name]; ok {
				return string(content)
			}
		}
		return ""
	}
	if text(e.InfoFiles()) == "" {
		return nil, fmt.Errorf("%w: none of the files %q with which %s ends a stream came", ErrBroken, e.InfoFiles(), e.Name())
	}
	if err := checkType(volume.InfoValue(text(checkpointsNames), "backup_type")); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if s.Header.Raw {
		if err := learn(ctx, &s.Header, text(e.InfoFiles()), e, tablespaces); err != nil {
			return nil, err
		}
	}
	o, err := volume.ParseOrigin(i.Flavor, text(e.InfoFiles()), text(origin.SlaveInfoNames), text(origin.BinlogInfoNames))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	checked, err := checkOrigin(o, s.Header)
	if err != nil {
		return nil, err
	}
	return &checked, nil
}

// streamError distinguishes errors of the stream from errors of the disk. A stream that we ended
// ourselves is not broken.
func streamError(ctx context.Context, s *wire.Stream, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if failure := s.Failure(); failure != nil && !errors.Is(err, wire.ErrIncomplete) {
		err = fmt.Errorf("%w: %w", failure, err) // the donor's words come first
	}
	for _, kind := range []error{
		xbstream.ErrCorrupt, xbstream.ErrTruncated, wire.ErrIncomplete, wire.ErrDigest,
	} {
		if errors.Is(err, kind) {
			return fmt.Errorf("%w: %w", ErrBroken, err)
		}
	}
	return err
}

func checkArrived(root *os.Root, e Engine) error {
	if !slices.ContainsFunc(e.InfoFiles(), in(root)) {
		return fmt.Errorf("none of the files %q with which %s ends a stream came", e.InfoFiles(), e.Name())
	}
	backupType, err := volume.BackupType(root.Name())
	if err != nil {
		return err
	}
	return checkType(backupType)
}

// in returns a function that says whether a file exists.
func in(root *os.Root) func(name string) bool {
	return func(name string) bool {
		_, err := root.Lstat(name)
		return err == nil
	}
}

func checkType(backupType string) error {
	if backupType != volume.TypeBackup {
		return fmt.Errorf("the checkpoints file says %q instead of %q", backupType, volume.TypeBackup)
	}
	return nil
}

// Prepare makes the copy in dir, which came with the stream, ready for a server and returns its
// replication origin. memory is in bytes. The copy of a replica without the source's coordinate is
// ErrBroken, because the donor's own coordinate would be wrong.
func (i Incoming) Prepare(ctx context.Context, dir string, memory int64) (origin.Origin, error) {
	if err := i.Engine.Prepare(ctx, dir, memory); err != nil {
		return origin.Origin{}, err
	}
	live, err := volume.Inspect(dir)
	if err != nil {
		return origin.Origin{}, err
	}
	if live.Content != volume.Copy {
		return origin.Origin{}, fmt.Errorf("%w: after the prepare it is %s: %s", ErrBroken, live.Content, live.Why)
	}
	return i.Origin(dir)
}

// Origin reads the replication origin of a copy that came with the stream.
func (i Incoming) Origin(dir string) (origin.Origin, error) {
	o, err := volume.Origin(dir, i.Flavor)
	if err != nil {
		return origin.Origin{}, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return checkOrigin(o, i.Stream.Header)
}

func checkOrigin(o *origin.Origin, h wire.Header) (origin.Origin, error) {
	switch {
	case o == nil:
		return origin.Origin{}, fmt.Errorf("%w: no replication coordinate came with it", ErrBroken)
	case h.Role == wire.Primary && !h.Raw && o.Of == origin.Source:
		return origin.Origin{}, fmt.Errorf("%w: the donor is the primary, and its copy names a source that it replicates from: RESET REPLICA ALL there", ErrBroken)
	case h.Role != wire.Primary && o.Of != origin.Source:
		return origin.Origin{}, fmt.Errorf("%w: the donor is a replica, and the source's coordinate did not come with it", ErrBroken)
	}
	return *o, nil
}
