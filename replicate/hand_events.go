package replicate

import (
	"context"
	"fmt"
	"slices"

	"understudy/replicate/lead"
)

var _ lead.Scheduler = (*Hand)(nil)

// Events implements lead.Scheduler. Only the administrator sees them all.
func (h *Hand) Events(ctx context.Context) ([]string, error) {
	names, err := column[string](ctx, h.hands, queryEnabled)
	if err != nil {
		return nil, fmt.Errorf("list the events that run: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// Wake implements lead.Scheduler.
func (h *Hand) Wake(ctx context.Context, events []string) (left []string, err error) {
	rows, err := h.hands.QueryContext(ctx, querySleeper)
	if err != nil {
		return nil, fmt.Errorf("list the events that are disabled: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var due []statement
	for rows.Next() {
		var name, definer string
		if err := rows.Scan(&name, &definer); err != nil {
			return nil, fmt.Errorf("list the events that are disabled: %w", err)
		}
		if !slices.Contains(events, name) {
			left = append(left, name)
			continue
		}
		due = append(due, enableStatement(name, definer))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the events that are disabled: %w", err)
	}
	if err := rows.Close(); err != nil { // the statements take the same connection
		return nil, err
	}
	slices.Sort(left)
	return left, exec(ctx, h.hands, due)
}
