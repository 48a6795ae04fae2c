package clone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/clone/wire"
)

// Candidate is a member that may be asked for a clone.
type Candidate struct {
	Name    string
	Ordinal int
	// Role is the role that a raw donor is assumed to have, see wire.RawConfig.
	Role wire.Role
	// Addr is the host:port for clones.
	Addr string
}

// askTimeout bounds the answer of a candidate. All are asked at once.
const askTimeout = 5 * time.Second

const (
	// lookAgain is the interval of questions to a donor whose stream has not begun.
	lookAgain = 2 * time.Second
	// leftFor is how long a donor is passed over after the joiner left it because its backup
	// waited.
	leftFor = time.Minute
)

// peer is a candidate with its results: the joiner's word for another member. What that member says
// about itself is a wire.Member.
type peer struct {
	Candidate
	client *wire.Client
	broken int       // consecutive broken streams
	left   time.Time // when the joiner left it because its backup waited

	member wire.Member // its last answer
	err    error       // why it gives no clone now
}

// expiry is how long the donor's server keeps binary logs; 0: for ever or unknown.
func (c *peer) expiry() time.Duration {
	if c.member.Offer == nil {
		return 0
	}
	return OfferNeed(c.member).BinlogExpiry
}

// peers are the candidates of one joiner.
type peers struct {
	self     string // the joiner's name
	ordinal  int    // and its ordinal
	raw      bool   // whether raw streams are allowed
	all      []*peer
	suitable func(Need) error // called from any goroutine
	log      *slog.Logger
}

func newPeers(j *Joiner, suitable func(Need) error) *peers {
	p := &peers{self: j.Connect.Member, ordinal: j.Ordinal, raw: j.Connect.Protocol == wire.Auto || j.Connect.Protocol == wire.Raw, suitable: suitable, log: j.Log}
	for _, c := range j.Candidates {
		config := j.Connect
		config.Addr, config.Role, config.Expect, config.Engines = c.Addr, c.Role, c.Name, j.Engines.Direct()
		p.all = append(p.all, &peer{Candidate: c, client: wire.NewClient(config)})
	}
	return p
}

func (p *peers) close() {
	for _, c := range p.all {
		c.client.Close()
	}
}

// ask asks all candidates for their facts.
func (p *peers) ask(waiting context.Context) { p.askThese(waiting, p.all) }

func (p *peers) askThese(waiting context.Context, these []*peer) {
	ctx, cancel := context.WithTimeoutCause(waiting, askTimeout, fmt.Errorf("no answer for %v", askTimeout))
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range these {
		wg.Go(func() {
			before := c.err
			c.member, c.err = c.client.Member(ctx)
			switch {
			case c.err == nil:
				c.err = p.judge(c.member)
			case p.raw && wire.SpeaksRaw(c.err): // a raw donor has no facts
				c.member, c.err = wire.Member{}, nil
			case waiting.Err() != nil && before != nil: // the earlier error says more than a timeout
				c.err = before
			case waiting.Err() != nil:
				c.err = fmt.Errorf("ask %s: no answer yet", c.Addr)
			case ctx.Err() != nil:
				c.err = fmt.Errorf("ask %s: %w", c.Addr, context.Cause(ctx))
			}
		})
	}
	wg.Wait()
}

// judge says why a member cannot give us a clone now; nil if it can.
func (p *peers) judge(m wire.Member) error {
	ours := slices.ContainsFunc(m.Giving, func(g wire.Giving) bool { return g.Joiner == p.self })
	switch {
	case m.Role == wire.Replica && m.Errant != "": // members of earlier versions offer it
		return fmt.Errorf("%w: it has transactions that its source lacks, which a copy would have, too: %s", wire.ErrNotServing, m.Errant)
	case m.NoOffer != "" && m.Unable:
		return fmt.Errorf("%w: %s", wire.ErrUnable, m.NoOffer)
	case m.NoOffer != "":
		return fmt.Errorf("%w: %s", wire.ErrNotServing, m.NoOffer)
	case m.Offer == nil: // the stream's header will say
	default:
		if err := p.suitable(OfferNeed(m)); err != nil {
			return err
		}
	}
	if m.Slots > 0 && m.SlotsBusy >= m.Slots && !ours { // our own earlier stream ends when we ask again
		return fmt.Errorf("%w: all %d clone slots are taken", wire.ErrBusy, m.Slots)
	}
	return nil
}

// open asks the candidates for a stream, the best one first, and returns the first suitable one.
// The stream ends with ctx.
func (p *peers) open(ctx context.Context, w *wait) (*peer, *wire.Stream) {
	for free := p.ranked(); len(free) > 0; free = p.ranked() {
		c := free[0]
		var s *wire.Stream
		if s, c.err = p.begin(ctx, w, c); c.err != nil {
			continue
		}
		if !s.Header.Raw { // it announces nothing: see learn
			c.err = p.suitable(HeaderNeed(s.Header))
		}
		if c.err != nil {
			_ = s.Close() // the reason counts
			continue
		}
		p.logChosen(c)
		return c, s
	}
	return nil, nil
}

// begin asks one candidate and returns when its stream begins. Before that, the backup may wait for
// a lock without a bound. So the joiner leaves it when another donor is free, or when its own wait
// is over.
func (p *peers) begin(ctx context.Context, w *wait, c *peer) (*wire.Stream, error) {
	begun, give := context.WithCancelCause(ctx)
	looking, quit := context.WithCancel(begun)
	stop := every(looking, lookAgain, func() {
		phase, found := p.phase(looking, c)
		if found && !strings.HasPrefix(phase, waitingPhase) {
			w.stand()
			return
		}
		w.run()
		if !found {
			return // the client has its own timeout
		}
		if w.over() {
			give(fmt.Errorf("%w: ask %s: its backup is %s", wire.ErrBusy, c.Addr, phase))
		} else if other := p.elsewhere(looking, c); other != nil {
			c.left = time.Now()
			give(fmt.Errorf("%w: ask %s: its backup is %s, and %s is free", wire.ErrBusy, c.Addr, phase, other.Name))
		}
	})
	s, err := c.client.Clone(begun)
	quit()
	stop()
	if cause := context.Cause(begun); cause != nil && ctx.Err() == nil {
		if err == nil {
			_ = s.Close() // the reason counts
		}
		err = cause
	}
	if err != nil {
		w.run()
		give(err)
		return nil, err
	}
	return s, nil // begun belongs to the stream now
}

// waitingPhase begins the phases in which a backup waits for locks of others.
const waitingPhase = "waiting"

// phase returns the phase of the backup that the donor makes for us, if the donor names one.
func (p *peers) phase(ctx context.Context, c *peer) (phase string, found bool) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, err := c.client.Member(ctx)
	if err != nil {
		return "", false
	}
	for _, g := range m.Giving {
		if g.Joiner == p.self {
			return g.Phase, g.Phase != ""
		}
	}
	return "", false
}

// elsewhere asks the others while c waits, and returns a free one. A donor that the joiner left
// because it waited counts again after leftFor.
func (p *peers) elsewhere(ctx context.Context, c *peer) *peer {
	var others []*peer
	for _, o := range p.all {
		if o != c && (o.left.IsZero() || time.Since(o.left) > leftFor) {
			others = append(others, o)
		}
	}
	p.askThese(ctx, others)
	for _, o := range p.ranked() {
		if slices.Contains(others, o) {
			return o
		}
	}
	return nil
}

// ranked are the candidates that can give a clone now, the best first: those without a recent
// failure; ready ones; replicas, which spares the primary; the previous ordinal, then lower ones
// downwards, then higher ones upwards.
func (p *peers) ranked() []*peer {
	var free []*peer
	for _, c := range p.all {
		if c.err == nil {
			free = append(free, c)
		}
	}
	last := func(worse bool) int {
		if worse {
			return 1
		}
		return 0
	}
	distance := func(c *peer) int {
		if c.Ordinal < p.ordinal {
			return p.ordinal - c.Ordinal
		}
		return c.Ordinal // more than the distance of every lower one
	}
	slices.SortStableFunc(free, func(a, b *peer) int {
		return cmp.Or(
			cmp.Compare(a.broken, b.broken),
			cmp.Compare(last(!a.member.Ready), last(!b.member.Ready)),
			cmp.Compare(last(a.member.Role != wire.Replica), last(b.member.Role != wire.Replica)),
			cmp.Compare(last(a.Ordinal > p.ordinal), last(b.Ordinal > p.ordinal)),
			cmp.Compare(distance(a), distance(b)),
		)
	})
	return free
}

// logChosen logs why this donor was chosen.
func (p *peers) logChosen(chosen *peer) {
	var others []string
	for _, c := range p.all {
		if c == chosen || p.unknown(c) {
			continue
		}
		why := "is further down the order"
		if c.err != nil {
			why = c.err.Error()
		}
		others = append(others, c.Name+": "+why)
	}
	state := "not ready"
	if chosen.member.Ready {
		state = "ready"
	}
	reason := fmt.Sprintf("a %s, %s, with a free slot", cmp.Or(chosen.member.Role, "member"), state)
	p.log.Info("donor chosen", "donor", chosen.Name, "reason", reason, "passed_over", others)
}

// unknown says whether a candidate may not exist: the size of the set is not known here.
func (p *peers) unknown(c *peer) bool {
	op, ok := errors.AsType[*net.OpError](c.err)
	return ok && op.Op == "dial" && c.Ordinal > p.ordinal
}

// failure lists why each candidate gives no clone. It is ErrRefused when the willing ones do not
// suit, and when waiting does not help with any.
func (p *peers) failure() (retryAfter time.Duration, err error) {
	var reasons []string
	var causes []error
	refused, busy, open := false, false, false
	for _, c := range p.all {
		if c.err == nil || p.unknown(c) {
			continue
		}
		reasons = append(reasons, c.Name+": "+c.err.Error())
		causes = append(causes, c.err)
		refused = refused || errors.Is(c.err, ErrRefused)
		busy = busy || errors.Is(c.err, wire.ErrBusy)
		open = open || !errors.Is(c.err, ErrRefused) && !errors.Is(c.err, wire.ErrUnable)
		if r, ok := errors.AsType[*wire.RefusedError](c.err); ok && r.RetryAfter > 0 && (retryAfter == 0 || r.RetryAfter < retryAfter) {
			retryAfter = r.RetryAfter
		}
	}
	failed := &noDonor{text: strings.Join(reasons, "; "), causes: causes}
	switch {
	case len(reasons) == 0:
		failed.text = "no candidate"
	case refused && !busy, !open:
		failed.refused = true
		failed.causes = append(failed.causes, ErrRefused)
	}
	return retryAfter, failed
}

// noDonor lists why no candidate gives a clone.
type noDonor struct {
	text    string
	causes  []error
	refused bool
}

func (e *noDonor) Error() string { return e.text }

// Unwrap returns every candidate's reason. It omits refusals while another candidate may still do.
func (e *noDonor) Unwrap() []error {
	if e.refused {
		return e.causes
	}
	return slices.DeleteFunc(slices.Clone(e.causes), func(err error) bool { return errors.Is(err, ErrRefused) })
}
