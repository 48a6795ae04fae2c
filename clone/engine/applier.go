package engine

import (
	"context"
	"fmt"
	"time"

	"understudy/replicate/origin"
)

// stopTimeout bounds the stop of an applier, which finishes its transaction first.
const stopTimeout = 5 * time.Minute

// startTimeout bounds the start of an applier. If it takes longer, the sidecar's loop starts it.
const startTimeout = 30 * time.Second

// isReplica says whether the server replicates. Without GTIDs a single coordinate must say from
// where, so only one channel is allowed.
func (s *snapshot) isReplica(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	channels, err := rows(ctx, s.db, "SELECT channel_name, '' FROM performance_schema.replication_connection_configuration WHERE host <> ''")
	if err != nil {
		return false, fmt.Errorf("ask the server about its source: %w", err)
	}
	for _, c := range channels {
		if c[0] != "" && !s.gtid {
			return false, fmt.Errorf("%w: the server replicates over the channel %q: without GTIDs no single coordinate describes its copy", ErrSnapshot, c[0])
		}
	}
	return len(channels) > 0, nil
}

// mayHold says, before anything is begun, that the applier of a replica without GTIDs can be held.
func (s *snapshot) mayHold(ctx context.Context) error {
	if s.gtid {
		return nil
	}
	replica, err := s.isReplica(ctx)
	if err != nil || !replica {
		return err
	}
	return checkPrivileges(ctx, s.db, applierNeeds)
}

// hold stops a replica's applier, so that its position at the source is that of the snapshot. While
// several workers run, the server's record of the position lags behind them.
type hold struct {
	*snapshot
	stopped bool
}

// stop stops the applier and returns its position. Call release afterwards, also after an error.
func (h *hold) stop(ctx context.Context) (origin.Origin, error) {
	h.reached("waiting for the applier to stand still")
	h.holding.Store(true)
	h.stopped = true // the applier may stop even if the answer is lost
	h.log.Info("applier is stopped for a snapshot")
	return h.halt(ctx)
}

// halt returns the position once the applier has stopped. Only then is the server's record exact.
func (h *hold) halt(ctx context.Context) (origin.Origin, error) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if _, err := h.db.ExecContext(ctx, "STOP "+h.replica()+" SQL_THREAD FOR CHANNEL ''"); err != nil {
		return origin.Origin{}, fmt.Errorf("stop the applier: %w", err)
	}
	return h.position(ctx)
}

// position is the applier's position at its source.
func (h *hold) position(ctx context.Context) (origin.Origin, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	o := origin.Origin{Mode: origin.Position, Of: origin.Source}
	const query = "SELECT master_log_name, master_log_pos FROM mysql.slave_relay_log_info WHERE channel_name = ''"
	if err := h.db.QueryRowContext(ctx, query).Scan(&o.File, &o.Position); err != nil {
		return o, fmt.Errorf("read the applier's position: %w", err)
	}
	if o.File == "" {
		return o, fmt.Errorf("%w: the applier has no position yet", ErrSnapshot)
	}
	return o, nil
}

// verify checks whether another client started the applier meanwhile. A running applier is ahead of
// the server's record, so it is stopped again.
func (h *hold) verify(ctx context.Context, before origin.Origin) error {
	after, err := h.halt(ctx)
	if err == nil && after != before {
		err = fmt.Errorf("%w: another client started the applier meanwhile", ErrSnapshot)
	}
	return err
}

// release starts the applier. If it cannot, the sidecar's loop will.
func (h *hold) release(ctx context.Context) error {
	if !h.stopped {
		return nil
	}
	defer h.holding.Store(false)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	_, err := h.db.ExecContext(ctx, "START "+h.replica()+" SQL_THREAD FOR CHANNEL ''")
	if err != nil {
		return fmt.Errorf("start the applier: %w", err)
	}
	h.log.Info("applier is started again")
	return nil
}

// replica is the word for a replica in the server's version.
//
// https://dev.mysql.com/doc/refman/8.0/en/stop-replica.html
func (h *hold) replica() string {
	if h.version.AtLeast(8, 0, 22) {
		return "REPLICA"
	}
	return "SLAVE"
}
