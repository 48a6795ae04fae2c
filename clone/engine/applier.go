package engine

import (
	"context"
	"fmt"
	"time"

	"understudy/replicate/origin"
)

// stopTimeout is how long an applier may take to stop: it finishes its transaction first.
const stopTimeout = 5 * time.Minute

// startTimeout is how long the start may take: if it takes longer, the sidecar's loop sees to it.
const startTimeout = 30 * time.Second

// isReplica says whether the server replicates. Without GTIDs one coordinate must say from
// where, so that there may be one channel only.
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

// hold is the time in which the applier of a replica stands still, so that the position
// at its source is that of the snapshot. With several workers the server's own record lags
// behind what they have done, as long as they run.
type hold struct {
	*snapshot
	stopped bool
}

// stop returns the position at which the applier stands. Call release afterwards, also
// after an error.
func (h *hold) stop(ctx context.Context) (origin.Origin, error) {
	h.reached("waiting for the applier to stand still")
	h.holding.Store(true)
	h.stopped = true // perhaps even when the answer does not come
	h.log.Info("applier is stopped for a snapshot")
	return h.halt(ctx)
}

// halt returns once the applier stands, and where. Only then the server's record is exact.
func (h *hold) halt(ctx context.Context) (origin.Origin, error) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if _, err := h.db.ExecContext(ctx, "STOP "+h.replica()+" SQL_THREAD FOR CHANNEL ''"); err != nil {
		return origin.Origin{}, fmt.Errorf("stop the applier: %w", err)
	}
	return h.position(ctx)
}

// position is what the applier has reached at its source.
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

// verify finds out whether another client started the applier meanwhile. One that runs has
// done more than the server's record says: it is stopped once more.
func (h *hold) verify(ctx context.Context, before origin.Origin) error {
	after, err := h.halt(ctx)
	if err == nil && after != before {
		err = fmt.Errorf("%w: another client started the applier meanwhile", ErrSnapshot)
	}
	return err
}

// release starts the applier again. If it cannot, the sidecar's loop will.
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

// replica is the word of the server's version for what it is.
//
// https://dev.mysql.com/doc/refman/8.0/en/stop-replica.html
func (h *hold) replica() string {
	if h.version.AtLeast(8, 0, 22) {
		return "REPLICA"
	}
	return "SLAVE"
}
