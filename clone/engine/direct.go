package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"understudy/clone/mysqlwire"
	"understudy/replicate/origin"

	"github.com/go-sql-driver/mysql"
)

// MySQLDirectName is the engine's name on the wire for a clone that the server hands over itself,
// without a snapshot. Its stream cannot be unpacked by the tools: bytes come in any order, and some
// are replaced by others at the end. So only a joiner that knows this name gets one.
const MySQLDirectName = "clone-direct"

// Kind is the engine that a name on the wire stands for.
func Kind(name string) string {
	if name == MySQLDirectName {
		return MySQLCloneName
	}
	return name
}

// beginning is the stage in which the server gets ready.
const beginning Stage = "the server begins a clone"

// DirectName is the name of the way that BackupDirect goes.
func (*MySQLClone) DirectName() string { return MySQLDirectName }

// BackupDirect is Backup without a snapshot, for joiners that know MySQLDirectName: the server
// hands over its data in the protocol in which servers clone one another, and no copy is made on the
// donor. What changes meanwhile the server keeps below #ib_archive in its data directory.
func (e *MySQLClone) BackupDirect(ctx context.Context, a Account, _ string, reached func(Stage)) (*Process, error) {
	if !e.working.TryLock() {
		return nil, fmt.Errorf("%w, for another member", ErrBusy)
	}
	awaitNoTemporary(ctx, e.Log, a)
	reached = orderly(reached)
	s := &snapshot{dir: e.Dir, holding: &e.holding, reached: reached, log: e.Log}
	if err := s.ready(ctx, a, s.ask, s.askEncryption, s.mayHold); err != nil {
		e.working.Unlock()
		return nil, err
	}
	reached(beginning)
	return newProcess(func(w io.Writer) error {
		defer e.working.Unlock()
		return errors.Join(s.hand(ctx, a, parallel(e.Parallel), w), s.close())
	}), nil
}

// hand has the server hand over its data, over so many connections at most, and streams them.
func (s *snapshot) hand(ctx context.Context, a Account, tasks int, w io.Writer) (err error) {
	replica, err := s.isReplica(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	c, err := mysqlwire.Open(ctx, mysqlwire.Account{Address: config(a).Addr, User: a.User, Password: a.Password, TLS: a.TLS, Local: onThisHost(a.Host), Socket: a.Socket})
	if err != nil {
		return s.explainDirect(ctx, err)
	}
	defer func() {
		if closeErr := c.Close(ctx); err != nil { // one that has ended well leaves nothing
			err = errors.Join(err, closeErr)
		}
	}()
	logical, err := strconv.ParseInt(c.Settings["innodb_page_size"], 10, 32)
	if err != nil || logical < minPage || logical > maxPage {
		return fmt.Errorf("%w: the server's innodb_page_size is %q", ErrSnapshot, c.Settings["innodb_page_size"])
	}
	d := &direct{snapshot: s, ctx: ctx, replica: replica, logical: logical, out: newArchive(w), files: map[fileID]*directFile{}}
	defer func() { err = errors.Join(err, d.release()) }()
	defer s.watchDDL(ctx)()
	if c.NoSocket != nil {
		s.log.Warn("the server cannot be cloned over its socket: it takes longer over TCP", "socket", a.Socket, "error", c.NoSocket)
	}
	s.log.Info("clone of the server started", "protocol_version", c.Version, "over_socket", a.Socket != "" && c.NoSocket == nil)
	if err := c.Run(ctx, tasks, d); err != nil {
		return s.explainDirect(ctx, err)
	}
	if c.Fewer != nil {
		s.log.Warn("the server refused some of the connections that a clone may have: it took longer", "error", c.Fewer)
	}
	if err := d.end(); err != nil {
		return err
	}
	s.log.Info("clone of the server handed over", "seconds", time.Since(start).Seconds())
	return nil
}

// onThisHost says whether the address of a server is one of this host only: in a pod, of its
// containers.
func onThisHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// The sizes that InnoDB's pages can have.
const (
	minPage = 4 << 10
	maxPage = 64 << 10
)

// explainDirect tells the errors apart that somebody can do something about.
func (s *snapshot) explainDirect(ctx context.Context, err error) error {
	refused := (*mysql.MySQLError)(nil)
	switch {
	case errors.Is(err, mysqlwire.ErrBusy):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case errors.Is(err, mysqlwire.ErrOutside):
		return fmt.Errorf("%w: %w", ErrUnable, err)
	case errors.As(err, &refused) && refused.Number == numberNoPlugin:
		return errNoPlugin
	case errors.As(err, &refused) && refused.Number == numberAccess:
		return fmt.Errorf("%w: %w: GRANT BACKUP_ADMIN ON *.* to the account", ErrSnapshot, err)
	case errors.As(err, &refused) && refused.Number == numberEncrypted:
		return fmt.Errorf("%w: %w", s.nameEncrypted(ctx), err)
	}
	return err
}

// originAt says where replication begins on the copy, at the moment when it is about to be that of
// the server. A replica without GTIDs stands still until the moment has passed: see release, and
// the table above take.
func (d *direct) originAt() error {
	var err error
	d.origin = origin.Origin{Mode: origin.FirstBoot, Of: origin.Donor}
	switch {
	case d.gtid:
		d.origin, err = d.executed(d.ctx, d.replica)
	case d.replica:
		d.hold = &hold{snapshot: d.snapshot}
		d.origin, err = d.hold.stop(d.ctx)
	}
	return err
}

// passed is called when the moment has passed.
func (d *direct) passed() error {
	if d.hold == nil {
		return nil
	}
	err := d.hold.verify(d.ctx, d.origin)
	return errors.Join(err, d.release())
}

// release lets the applier go on.
func (d *direct) release() error {
	h := d.hold
	d.hold = nil
	if h == nil {
		return nil
	}
	return h.release(d.ctx)
}
