package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"understudy/clone/volume"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"

	"github.com/go-sql-driver/mysql"
)

const (
	// lookEvery is the interval of looks at a CLONE and at the free space.
	lookEvery = 200 * time.Millisecond
	// mute is how long the server may leave questions about a CLONE unanswered before it is
	// stopped.
	mute = 30 * time.Second
	// killTimeout bounds the end of a killed CLONE.
	killTimeout = 10 * time.Second
)

// Error numbers of CLONE.
//
// https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
const (
	numberAccess     = 1227 // ER_SPECIFIC_ACCESS_DENIED_ERROR
	numberNoThread   = 1094 // ER_NO_SUCH_THREAD
	numberNoPlugin   = 1524 // ER_PLUGIN_IS_NOT_LOADED
	numberManyClones = 3634 // ER_CLONE_TOO_MANY_CONCURRENT_CLONES
	numberEncrypted  = 3872 // ER_CLONE_ENCRYPTION: its keys go over TLS only
)

// statementClone is followed by the path.
const statementClone = "CLONE LOCAL DATA DIRECTORY = "

var errNoPlugin = fmt.Errorf("%w: the server's clone plugin is not active: start it with plugin-load-add=mysql_clone.so, which understudy init writes, or INSTALL PLUGIN clone SONAME 'mysql_clone.so'", ErrSnapshot)

// snapshot is a copy that a server makes of its data.
type snapshot struct {
	dir     string // directory of all snapshots
	path    string // path of this one, for the server and for us
	minFree int64
	holding *atomic.Bool
	reached func(Stage)
	log     *slog.Logger

	db      *sql.DB
	text    string // the server's version
	layout  string // its innodb_data_file_path
	version flavor.Version
	gtid    bool // whether GTIDs are on
}

// open connects to the server, and stops and removes what an earlier process left.
func (s *snapshot) open(ctx context.Context, a Account) error {
	c := config(a)
	// A CLONE has no known duration; all other statements are bounded by their contexts.
	c.ReadTimeout, c.InterpolateParams = 0, true
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	s.db = sql.OpenDB(connector)
	if err := s.killOrphan(ctx); err != nil {
		return fmt.Errorf("end an earlier CLONE: %w", err)
	}
	return volume.Clear(s.dir)
}

// ready opens the snapshot, and asks until something refuses. After an error it is closed.
func (s *snapshot) ready(ctx context.Context, a Account, asks ...func(context.Context) error) error {
	err := s.open(ctx, a)
	for _, ask := range asks {
		if err == nil {
			err = ask(ctx)
		}
	}
	if err != nil {
		return errors.Join(err, s.close())
	}
	return nil
}

// ask asks for what the snapshot depends on.
func (s *snapshot) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var mode, plugin string
	const query = "SELECT @@version, @@gtid_mode, @@innodb_data_file_path, COALESCE((SELECT plugin_status FROM information_schema.plugins WHERE plugin_name = 'clone'), '')"
	if err := s.db.QueryRowContext(ctx, query).Scan(&s.text, &mode, &s.layout, &plugin); err != nil {
		return fmt.Errorf("ask the server about CLONE: %w", err)
	}
	if plugin != "ACTIVE" {
		return errNoPlugin
	}
	s.gtid = mode == "ON"
	var err error
	s.version, err = flavor.ParseServer(s.text)
	return err
}

// close removes the snapshot.
func (s *snapshot) close() error {
	var err error
	if s.db != nil {
		err = s.db.Close()
	}
	return errors.Join(err, os.RemoveAll(s.path))
}

// stream makes the snapshot and writes it to w.
func (s *snapshot) stream(ctx context.Context, w io.Writer) error {
	out := newArchive(w)
	o, err := s.take(ctx, func() error { return out.begin(s.text) })
	if err != nil {
		return err
	}
	s.reached(Copying)
	if err := out.add(ctx, s.path); err != nil {
		return err
	}
	return out.end(o, s.layout)
}

// take makes the snapshot and returns where replication begins on it. It calls begun, perhaps more
// than once, when it is certain that there will be a snapshot, or that this will take long.
//
//	gtid_mode  replica  origin
//	ON         no       GTID of the donor: the copy knows its set, which is at least what was executed before
//	ON         yes      the same, of the source
//	else       yes      the source's position, at which the applier stands still meanwhile
//	else       no       the copy knows it once a server has started on it: performance_schema.clone_status
func (s *snapshot) take(ctx context.Context, begun func() error) (o origin.Origin, err error) {
	replica, err := s.isReplica(ctx)
	if err != nil {
		return o, err
	}
	o = origin.Origin{Mode: origin.FirstBoot, Of: origin.Donor}
	switch {
	case s.gtid:
		if o, err = s.executed(ctx, replica); err != nil {
			return o, err
		}
	case replica:
		if err := begun(); err != nil {
			return o, err
		}
		h := &hold{snapshot: s}
		defer func() { err = errors.Join(err, h.release(ctx)) }()
		if o, err = h.stop(ctx); err != nil {
			return o, err
		}
		defer func() {
			if err == nil {
				err = h.verify(ctx, o)
			}
		}()
	}
	return o, s.clone(ctx, begun)
}

// executed is the origin on a server with GTIDs.
func (s *snapshot) executed(ctx context.Context, replica bool) (origin.Origin, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	o := origin.Origin{Mode: origin.GTID, Of: origin.Donor}
	if replica {
		o.Of = origin.Source
	}
	if err := s.db.QueryRowContext(ctx, "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')").Scan(&o.GTID); err != nil {
		return o, fmt.Errorf("read gtid_executed: %w", err)
	}
	return o, nil
}

// clone runs the statement and watches it from a second connection. Closing the first one would not
// stop it, because the server does not look at the connection meanwhile.
func (s *snapshot) clone(ctx context.Context, begun func() error) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	defer func() { _ = conn.Close() }()
	var id int64
	if err := conn.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&id); err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	s.log.Info("snapshot started", "path", s.path)
	s.reached(snapshotting(0))
	start := time.Now()
	ended := make(chan error, 1)
	statement, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		_, err := conn.ExecContext(statement, statementClone+"?", s.path)
		ended <- err
	}()
	watchErr, done := s.watch(ctx, id, ended, begun)
	if done {
		return s.finished(watchErr, time.Since(start), begun)
	}
	s.log.Warn("snapshot is given up", "reason", watchErr)
	err = s.kill(context.WithoutCancel(ctx), id, ended)
	stop()
	if err != nil {
		return fmt.Errorf("%w; and the server's CLONE may go on: %w", watchErr, err)
	}
	return watchErr
}

// watch returns when the statement has ended, or with the reason to stop it.
func (s *snapshot) watch(ctx context.Context, id int64, ended <-chan error, begun func() error) (err error, done bool) { //nolint:revive // the error is the statement's
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	heard, percent := time.Now(), int64(0)
	for {
		select {
		case err := <-ended:
			return err, true
		case <-ctx.Done():
			return context.Cause(ctx), false
		case <-tick.C:
		}
		if err := s.checkRoom(); err != nil {
			return err, false
		}
		copied, total, err := s.progress(ctx, id)
		switch {
		case err == nil:
			heard = time.Now()
		case time.Since(heard) > mute:
			return fmt.Errorf("%w: the server says nothing of it: %w", ErrSnapshot, err), false
		}
		_, missing := os.Stat(s.path)
		if missing != nil && copied > 0 {
			return s.elsewhere(missing), false
		}
		if missing != nil {
			continue
		}
		if err := begun(); err != nil {
			return err, false
		}
		if now := min(copied*100/max(total, 1), 100); now != percent {
			percent = now
			s.reached(snapshotting(percent))
		}
	}
}

// snapshotting is the stage in which the server copies.
func snapshotting(percent int64) Stage { return Stage(fmt.Sprintf("snapshot %d %%", percent)) }

// finished judges the end of the statement.
func (s *snapshot) finished(err error, took time.Duration, begun func() error) error {
	refused := (*mysql.MySQLError)(nil)
	if errors.As(err, &refused) {
		switch refused.Number {
		case numberManyClones:
			return fmt.Errorf("%w: %w", ErrBusy, err)
		case numberNoPlugin:
			return errNoPlugin
		case numberAccess:
			return fmt.Errorf("%w: %w: GRANT BACKUP_ADMIN ON *.* to the account", ErrSnapshot, err)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: CLONE LOCAL: %w", ErrSnapshot, err)
	}
	if _, err := os.Stat(s.path); err != nil {
		return s.elsewhere(err)
	}
	s.log.Info("snapshot made", "seconds", took.Seconds())
	return errors.Join(begun(), checkSnapshot(os.DirFS(s.path)))
}

func (s *snapshot) elsewhere(err error) error {
	return fmt.Errorf("%w: the server writes it where it cannot be seen from here: mount the volume's sub-path .understudy/snapshot into the server's container, at %s; and remove %s there: %w",
		ErrSnapshot, s.dir, s.path, err)
}

// checkRoom fails when too little space is free.
func (s *snapshot) checkRoom() error {
	free, err := volume.FreeSpace(s.dir)
	if err == nil && free.Bytes < s.minFree {
		err = fmt.Errorf("%w: %d MiB are free, %d MiB have to be (--min-free)", ErrNoRoom, free.Bytes>>20, s.minFree>>20)
	}
	return err
}

// progress is how many bytes a connection's CLONE has copied, and the estimated total.
//
// https://dev.mysql.com/doc/refman/8.4/en/performance-schema-clone-progress-table.html
func (s *snapshot) progress(ctx context.Context, id int64) (copied, total int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	const query = "SELECT COALESCE(SUM(p.data), 0), COALESCE(SUM(p.estimate), 0) FROM performance_schema.clone_progress p " +
		"JOIN performance_schema.clone_status s ON s.id = p.id WHERE s.pid = ?"
	err = s.db.QueryRowContext(ctx, query, id).Scan(&copied, &total)
	return copied, total, err
}

// kill stops a connection's CLONE and waits for the end of the statement.
func (s *snapshot) kill(ctx context.Context, id int64, ended <-chan error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, killTimeout, errors.New("it does not end"))
	defer cancel()
	if _, err := s.db.ExecContext(ctx, "KILL QUERY ?", id); err != nil && !isNumber(err, numberNoThread) {
		return err
	}
	select {
	case <-ended: //nolint:errcheck // it was killed
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// killOrphan stops a CLONE into our directory that an earlier process left.
func (s *snapshot) killOrphan(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, killTimeout, fmt.Errorf("%w, by a CLONE that does not end", ErrBusy))
	defer cancel()
	const query = "SELECT processlist_id FROM performance_schema.threads WHERE processlist_info LIKE ? AND LOCATE(?, processlist_info) > 0 AND processlist_id <> CONNECTION_ID()"
	for {
		var id int64
		err := s.db.QueryRowContext(ctx, query, statementClone+"%", s.dir+"/").Scan(&id)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case err == nil:
			s.log.Warn("a CLONE that nobody waits for is ended", "connection", id)
			_, err = s.db.ExecContext(ctx, "KILL ?", id)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && !isNumber(err, numberNoThread) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

func isNumber(err error, number uint16) bool {
	refused := (*mysql.MySQLError)(nil)
	return errors.As(err, &refused) && refused.Number == number
}
