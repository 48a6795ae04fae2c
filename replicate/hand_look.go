package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"understudy/replicate/flavor"
	"understudy/replicate/lead"
)

// What a Hand sees of the server.

// column reads the one column of a query.
func column[T any](ctx context.Context, db querier, query string, args ...any) (all []T, err error) {
	err = each(ctx, db, query, func(scan func(...any) error) error {
		var one T
		if err := scan(&one); err != nil {
			return err
		}
		all = append(all, one)
		return nil
	}, args...)
	return all, err
}

// errNoGTIDs refuses a server whose transactions nobody can compare with those of another member.
var errNoGTIDs = errors.New("gtid_mode is OFF, and a set whose primary the Lease names compares members by their GTIDs: take --primary=lease away again, " +
	"turn gtid_mode on, step by step as MySQL's manual has it, and in the members' option files, and then give --primary=lease")

// Look implements lead.Server.
func (h *Hand) Look(ctx context.Context) (lead.State, error) {
	s, err := h.look(ctx)
	if errors.Is(err, syscall.ECONNREFUSED) {
		err = fmt.Errorf("%w: %w", lead.ErrDead, err)
	} else {
		h.logins.distrust(ctx, err) // it may have logged in before the account had its privileges
	}
	return s, err
}

func (h *Hand) look(ctx context.Context) (s lead.State, err error) {
	db := h.logins.db
	d, err := h.dialect(ctx, db)
	if err != nil {
		return s, err
	}
	if s.Boot, err = readBoot(ctx, db); err != nil {
		return s, err
	}
	var owned string
	var executed [2]string
	var applier uint64
	var gtids bool
	if err := db.QueryRowContext(ctx, d.lead.state).Scan(&owned, &executed[0], &executed[1], &s.Writer, &s.Writable, &s.Offline, &applier, &gtids); err != nil {
		return s, fmt.Errorf("read the server's state: %w", err)
	}
	if !gtids {
		return s, errNoGTIDs
	}
	if s.Data = s.Writer; d.flavor == flavor.MariaDB {
		id, _ := strconv.ParseUint(s.Writer, 10, 32) // it is a number
		s.Data, s.OfTerm = h.data, ofTerm(id)
	}
	if applier > 0 {
		s.Applier = strconv.FormatUint(applier, 10)
	}
	if s.Executed, err = unite(d.flavor, executed[:]...); err != nil {
		return s, err
	}
	if s.Position, err = unite(d.flavor, s.Executed, gtidOwner.ReplaceAllString(owned, "")); err != nil {
		return s, err
	}
	s.Has = s.Executed
	if err := readChannel(ctx, db, d, &s); err != nil {
		return s, err
	}
	semi, err := readSemiSync(ctx, db)
	if err != nil {
		return s, err
	}
	s.Waiting = semi.Source && semi.Safe && semi.Active && semi.Wait == requiredWait
	s.Source, s.Held, s.Side = semi.Source, semi.Waiting, semi.Replica || semi.Acknowledging
	if s.Writable && semi.Replicas > 0 { // whether its own side is on or off
		s.Strangers, s.StrangersUnknown = h.strangers(ctx, db, d, semi.Replicas)
	}
	return s, nil
}

// strangers are the replicas that acknowledge, of so many, and log in as no member. MariaDB does not
// say which of its replicas acknowledge: there they are all that log in as no member, if more
// acknowledge than members are there.
func (h *Hand) strangers(ctx context.Context, db *sql.DB, d dialect, acknowledge int) (all []string, err error) {
	members := 0
	err = each(ctx, db, d.lead.replicas, func(scan func(...any) error) error {
		var user, host string
		if err := scan(&user, &host); err != nil {
			return err
		}
		if strings.HasPrefix(user, lead.Account("")) && user != h.source.User {
			members++
			return nil
		}
		all = append(all, user+"@"+host)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list replicas: %w", err)
	}
	if d.flavor == flavor.MariaDB && acknowledge <= members {
		return nil, nil
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// readChannel adds what the channel without a name says.
func readChannel(ctx context.Context, db *sql.DB, d dialect, s *lead.State) error {
	rows, err := readRows(ctx, db, d.queryStatus)
	if err != nil {
		return fmt.Errorf("read replica status: %w", err)
	}
	alone := true // what it has received came over one channel
	for _, r := range rows {
		c := r.channel()
		switch other := r.text(columnChannel) + r.text(columnConnection); {
		case other == fetchChannel && d.flavor == flavor.MariaDB:
			s.Fetches, s.Receiving = true, s.Receiving || c.IO != "No"
			if s.Has, err = unite(d.flavor, s.Has, c.Received); err != nil {
				return err
			}
			continue
		case other != "":
			s.Error, alone = "it also replicates over the channel "+other, false
			continue
		}
		s.Channel, s.User, s.Receiving, s.Severed = true, c.User, s.Receiving || c.IO != "No", c.IO != "Yes"
		s.Upstream = r.text(columnUpstream)
		s.Delay = time.Duration(r.number(columnDelay)) * time.Second
		if c.Lag != nil {
			s.Lag = time.Duration(*c.Lag) * time.Second
		}
		if s.Has, err = unite(d.flavor, s.Has, c.Received); err != nil {
			return err
		}
		if c.SQLErrno != 0 && !c.SQLRunning {
			s.Error = fmt.Sprintf("the applier stopped with error %d: %s", c.SQLErrno, c.SQLError)
		}
	}
	if !alone {
		s.Upstream = ""
	}
	return nil
}

// oneRow is a connection, or a pool of them.
type oneRow interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// readUptime reads for how many seconds the server has run, by the clock: below 0 where that was set
// back to before its start. The servers print that as a number without a sign, near 2⁶⁴.
func readUptime(ctx context.Context, db oneRow) (int64, error) {
	var name string
	var seconds uint64
	if err := db.QueryRowContext(ctx, queryUptime).Scan(&name, &seconds); err != nil {
		return 0, fmt.Errorf("read for how long the server has run: %w", err)
	}
	return int64(seconds), nil // it wraps, see above
}

// kernelBoot is the beginning of the kernel's identity since the machine was started (random(4)): the
// server of this pod runs under the same kernel. Empty for a kernel without one.
func kernelBoot() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("read the kernel's identity: %w", err)
	}
	id, _, _ := strings.Cut(strings.TrimSpace(string(text)), "-")
	return id, nil
}

// readBoot identifies the start of the server by that of its machine, whose clock may begin at the same
// time again after each loss of power, and by its second: two starts of a server are never in the same
// one. A clock that is set while the server runs changes both that the second is made of.
func readBoot(ctx context.Context, db oneRow) (string, error) {
	machine, err := kernelBoot()
	if err != nil {
		return "", err
	}
	for {
		var before, after int64
		if err := db.QueryRowContext(ctx, queryClock).Scan(&before); err != nil {
			return "", fmt.Errorf("read the server's clock: %w", err)
		}
		uptime, err := readUptime(ctx, db)
		if err != nil {
			return "", err
		}
		if err := db.QueryRowContext(ctx, queryClock).Scan(&after); err != nil {
			return "", fmt.Errorf("read the server's clock: %w", err)
		}
		if before == after { // else it is not known which second the uptime is of
			return fmt.Sprintf("%s.%d", machine, before-uptime), nil
		}
	}
}

// Locked implements lead.Server.
func (h *Hand) Locked(ctx context.Context) ([]string, error) {
	return h.accounts(ctx, func(w leadWords) string { return w.locked })
}

// Admitted implements lead.Server.
func (h *Hand) Admitted(ctx context.Context) ([]string, error) {
	return h.accounts(ctx, func(w leadWords) string { return w.admitted })
}

// accounts are those that a query finds, as the members that they are of.
func (h *Hand) accounts(ctx context.Context, query func(leadWords) string) (members []string, err error) {
	prefix := lead.Account("")
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return nil, err
	}
	users, err := column[string](ctx, h.hands, query(d.lead), likeAccounts(prefix))
	if err != nil {
		return nil, fmt.Errorf("list the members' accounts: %w", err)
	}
	for _, user := range users {
		members = append(members, strings.TrimPrefix(user, prefix))
	}
	return members, nil
}

// Waits implements lead.Server.
func (h *Hand) Waits(ctx context.Context) ([]uint64, error) {
	d, err := h.dialect(ctx, h.hands)
	if err != nil || d.flavor != flavor.MariaDB {
		return nil, err
	}
	ids, err := column[uint64](ctx, h.hands, queryWaits)
	if err != nil {
		return nil, fmt.Errorf("list commits that wait: %w", err)
	}
	return ids, nil
}

// Stuck implements lead.Server.
func (h *Hand) Stuck(ctx context.Context, since time.Duration) (bool, error) {
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return false, err
	}
	n, err := column[int](ctx, h.hands, d.lead.stuck, int(since.Seconds()))
	if err != nil {
		return false, fmt.Errorf("look for commits that are stuck: %w", err)
	}
	return len(n) == 1 && n[0] > 0, nil
}

// Running implements lead.Server.
func (h *Hand) Running(ctx context.Context) ([]string, error) {
	names, err := column[string](ctx, h.hands, queryRunning)
	if err != nil {
		return nil, fmt.Errorf("list running transactions: %w", err)
	}
	return names, nil
}
