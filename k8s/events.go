package k8s

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"understudy/replicate/retry"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EventType is how serious an Event is.
type EventType string

const (
	// Normal tells what was done.
	Normal = EventType(corev1.EventTypeNormal)
	// Warning tells what went wrong.
	Warning = EventType(corev1.EventTypeWarning)
)

// Recovered is the reason of an Event that takes back the Warnings before it: they are told again
// when what they are about comes again.
const Recovered = "Recovered"

const (
	// eventQueue is how many Events wait for the API server; then the oldest go.
	eventQueue = 64
	// eventRepeat is for how long the same Event is not told again.
	eventRepeat = 10 * time.Minute
	// eventMessage is how many bytes of a message are kept.
	eventMessage = 1024
	// flushTimeout is how long the end of Run may be delayed by what is still to tell.
	flushTimeout = 3 * time.Second
)

// event is what makes two Events the same.
type event struct {
	kind            EventType
	reason, message string
}

type queued struct {
	event

	// name is given early, so that a second try does not make a second Event.
	name string
	at   time.Time
}

// events wait for Run.
type events struct {
	wake chan struct{} // holds a token when the queue may have something

	mu    sync.Mutex
	queue []queued
	told  []queued // the latest ones, oldest first: what repeats is left out
}

func newEvents() events { return events{wake: make(chan struct{}, 1)} }

// Event tells of something that happened to this member, where `kubectl describe pod` shows it.
// reason is one word in CamelCase, message a sentence; neither may hold a secret. It never waits
// and never fails: Run sends the Event when it can. The same Event within ten minutes is left out,
// except a Warning that was taken back since.
func (c *Client) Event(kind EventType, reason, message string) {
	if len(message) > eventMessage {
		message = strings.ToValidUTF8(message[:eventMessage-len("…")], "") + "…"
	}
	if !utf8.ValidString(message) {
		message = strings.ToValidUTF8(message, "?")
	}
	var suffix [8]byte
	_, _ = rand.Read(suffix[:]) // never fails, see crypto/rand
	name := c.cfg.Pod + "." + hex.EncodeToString(suffix[:])
	dropped, ok := c.events.put(queued{event{kind, reason, message}, name, time.Now()})
	if ok {
		c.cfg.Log.Warn("Event dropped: the API server has been away for too long", "reason", dropped.reason, "message", dropped.message)
	}
}

// put returns what had to go for e.
func (q *events) put(e queued) (dropped queued, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.told) > 0 && e.at.Sub(q.told[0].at) >= eventRepeat {
		q.told = q.told[1:]
	}
	for _, t := range q.told {
		if t.event == e.event && e.reason != Recovered {
			return queued{}, false
		}
	}
	if e.reason == Recovered {
		q.told = slices.DeleteFunc(q.told, func(t queued) bool { return t.kind == Warning })
	}
	if len(q.told) == eventQueue {
		q.told = q.told[1:]
	}
	q.told = append(q.told, e)
	if ok = len(q.queue) == eventQueue; ok {
		dropped, q.queue = q.queue[0], q.queue[1:]
	}
	q.queue = append(q.queue, e)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return dropped, ok
}

func (q *events) next() (queued, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		return queued{}, false
	}
	e := q.queue[0]
	q.queue = q.queue[1:]
	return e, true
}

// Run sends Events until ctx ends, and for at most three seconds more what is still waiting then.
// It is called once.
func (c *Client) Run(ctx context.Context) {
	var last *queued // what was under way when ctx ended
	for ctx.Err() == nil {
		e, ok := c.events.next()
		if !ok {
			select {
			case <-c.events.wake:
			case <-ctx.Done():
			}
			continue
		}
		if !c.deliver(ctx, e) {
			last = &e
		}
	}
	c.flush(context.WithoutCancel(ctx), last)
}

// deliver tries until the API server has taken e, or refused it, or ctx has ended; only then it
// returns false.
func (c *Client) deliver(ctx context.Context, e queued) bool {
	away := false
	err := retry.Do(ctx, retry.Policy{}, func(ctx context.Context) error {
		err := c.send(ctx, e)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, ErrAway):
			return retry.Permanent(err)
		case !away && ctx.Err() == nil:
			away = true
			c.cfg.Log.WarnContext(ctx, "Events wait until the API server is back", "error", err)
		}
		return err
	})
	if ctx.Err() != nil && err != nil {
		return false
	}
	c.settled(ctx, e, err)
	return true
}

// flush makes one try for each.
func (c *Client) flush(ctx context.Context, first *queued) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	lost := 0
	for e, ok := c.events.head(first); ok; e, ok = c.events.next() {
		if lost > 0 || ctx.Err() != nil {
			lost++
			continue
		}
		err := c.send(ctx, e)
		if errors.Is(err, ErrAway) || ctx.Err() != nil {
			lost++
			continue
		}
		c.settled(ctx, e, err)
	}
	if lost > 0 {
		c.cfg.Log.WarnContext(ctx, "Events were lost: the API server is away and this process ends", "events", lost)
	}
}

func (q *events) head(first *queued) (queued, bool) {
	if first != nil {
		return *first, true
	}
	return q.next()
}

// settled has the last word on an Event that the API server took or refused.
func (c *Client) settled(ctx context.Context, e queued, err error) {
	if err != nil {
		c.cfg.Log.WarnContext(ctx, "the API server did not take an Event", "reason", e.reason, "message", e.message, "error", err)
	}
}

func (c *Client) send(ctx context.Context, e queued) error {
	_, err := request(ctx, `"create" on events`, func(ctx context.Context) (*corev1.Event, error) {
		return c.api.CoreV1().Events(c.cfg.Namespace).Create(ctx, c.object(e), metav1.CreateOptions{FieldManager: Component})
	})
	switch {
	case apierrors.IsAlreadyExists(err):
		return nil // an earlier try whose answer was lost
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil // nobody will read it
	case err != nil:
		return fmt.Errorf("create an Event: %w", err)
	}
	return nil
}

func (c *Client) object(e queued) *corev1.Event {
	at := metav1.NewTime(e.at)
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.cfg.Namespace, Name: e.name},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: c.cfg.Namespace, Name: c.cfg.Pod, UID: c.uid(),
		},
		Type: string(e.kind), Reason: e.reason, Message: e.message,
		FirstTimestamp: at, LastTimestamp: at, Count: 1,
		Source:              corev1.EventSource{Component: Component},
		ReportingController: Component, ReportingInstance: c.cfg.Pod,
	}
}
