package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"understudy/clone"
	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// incoming is a clone on its way.
type incoming struct {
	clone.Incoming
	// server is the donor's version; of a raw stream only the flavour is known.
	server flavor.Version
	// stop ends the display of the progress.
	stop func()
	log  *slog.Logger
}

// begin asks for the clone. The caller closes its stream.
func (v *cloneFromVerb) begin(ctx context.Context, client *wire.Client, engines clone.Engines, log *slog.Logger) (*incoming, error) {
	stream, err := client.Clone(ctx)
	switch {
	case errors.Is(err, wire.ErrBusy), errors.Is(err, wire.ErrNotServing):
		return nil, fmt.Errorf("%w: %w", clone.ErrNoDonor, err)
	case errors.Is(err, wire.ErrUnable):
		return nil, fmt.Errorf("%w: %w", clone.ErrRefused, err)
	case err != nil:
		return nil, err
	}
	h := stream.Header
	log.Info("clone started", "donor", v.addr, "stream", h.StreamID, "engine", h.Engine,
		"server_version", h.ServerVersion, "role", h.Role, "estimated_bytes", h.EstimatedBytes)
	c := &incoming{Incoming: clone.Incoming{Stream: stream, Meter: clone.NewMeter(h.EstimatedBytes)}, log: log}
	if c.Engine, err = engines.For(h); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", clone.ErrRefused, err), stream.Close())
	}
	c.server = flavor.Version{Flavor: copiedBy(c.Engine)}
	if !h.Raw {
		if c.server, err = flavor.ParseServer(h.ServerVersion); err != nil {
			return nil, errors.Join(err, stream.Close())
		}
	}
	return c, nil
}

// take receives the clone. The origin is nil where it is not printed.
func (v *cloneFromVerb) take(ctx context.Context, c *incoming, out streams) (*origin.Origin, error) {
	if v.to == "-" {
		_, err := c.Save(ctx, out.stdout)
		return nil, err
	}
	// The clone gets its name only when it is complete.
	partial := v.to + ".partial"
	if err := removePartial(partial); err != nil {
		return nil, err
	}
	into := v.takeDirectory
	if strings.HasSuffix(v.to, streamSuffix) {
		into = v.takeFile
	}
	o, err := into(ctx, c, partial)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(partial))
	}
	if err := volume.Settle(partial, v.to); err != nil {
		return nil, errors.Join(fmt.Errorf("name the clone: %w", err), os.RemoveAll(partial))
	}
	return o, nil
}

func (v *cloneFromVerb) takeFile(ctx context.Context, c *incoming, partial string) (*origin.Origin, error) {
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the file: %w", err)
	}
	if err := hold(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	o, err := c.Save(ctx, f)
	c.stop()
	return o, errors.Join(err, f.Close())
}

func (v *cloneFromVerb) takeDirectory(ctx context.Context, c *incoming, partial string) (*origin.Origin, error) {
	if err := os.Mkdir(partial, volume.DirMode); err != nil {
		return nil, fmt.Errorf("make the directory: %w", err)
	}
	dir, err := os.Open(partial)
	if err != nil {
		return nil, fmt.Errorf("make the directory: %w", err)
	}
	defer func() { _ = dir.Close() }()
	if err := hold(dir); err != nil {
		return nil, err
	}
	result, err := c.Receive(ctx, partial)
	c.stop()
	if err != nil {
		return nil, err
	}
	c.log.Info("clone received", "progress", c.Meter.Now(), "digest", result.Digest)
	if !v.prepare {
		o, err := c.Origin(partial)
		return &o, err
	}
	memory := v.prepareMemory
	if memory == 0 {
		memory = engine.PrepareMemory(os.DirFS("/"))
	}
	o, err := c.Prepare(ctx, partial, memory)
	return &o, err
}

// removePartial removes what a killed run has left behind. A run that is still at work holds the
// lock.
func removePartial(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at what an earlier run left: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := hold(f); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	return nil
}

// hold locks a partial clone until the file is closed.
func hold(f *os.File) error {
	got, err := volume.TryLock(f)
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	if !got {
		return fmt.Errorf("%w: another clone-from is writing %s", clone.ErrRefused, f.Name())
	}
	return nil
}
