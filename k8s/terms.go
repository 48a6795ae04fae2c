package k8s

import (
	"context"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// AnnotationTerm is the Lease's annotation that says who leads the set: a term record of
// docs/failover.md. This package does not look into it.
const AnnotationTerm = "understudy/term"

var (
	// ErrConflict is returned by Terms.Write when the Lease is not any more what it was when it was
	// read. Read it again: that also tells whether an earlier write, whose answer was lost, has
	// landed.
	ErrConflict = errors.New("the Lease has been changed meanwhile")
	// ErrUnknown is returned by Terms.Write when no answer came: the write has landed, or lands
	// yet, or never. It is known when a later Write has succeeded from the same Observed (it never
	// lands), or when the Lease reads otherwise than before.
	ErrUnknown = errors.New("it is not known whether the Lease was written")
)

// Terms is a line of its own to the set's Lease, for who leads the set: what else asks the API
// server never delays it. Its methods may be called from several goroutines.
type Terms struct {
	cfg     Config
	api     kubernetes.Interface
	timeout time.Duration
}

// NewTerms is for a process in a pod. Each request ends after timeout. The error is ErrOutside
// where there is no cluster or no token.
func NewTerms(cfg Config, timeout time.Duration) (*Terms, error) {
	rc, err := inCluster()
	if err != nil {
		return nil, err
	}
	return NewTermsFromConfig(cfg, rc, timeout)
}

// NewTermsFromConfig is for a process that reaches the API server in another way.
func NewTermsFromConfig(cfg Config, rc *rest.Config, timeout time.Duration) (*Terms, error) {
	if cfg.Lease == "" {
		cfg.Lease = cfg.Set
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	rc = rest.CopyConfig(rc)
	rc.UserAgent = Component + "-terms/" + cfg.Version
	rc.Timeout, rc.QPS = 0, -1 // each request has its own bound, and none waits for another
	rc.WarningHandlerWithContext = warnings{cfg.Log}
	// A request of HTTP/2 that is given up leaves its connection, which may be dead, to the next
	// ones for most of a minute. One of HTTP/1.1 closes it.
	rc.NextProtos = []string{"http/1.1"}
	api, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return nil, fmt.Errorf("make the client of the API server: %w", err)
	}
	return &Terms{cfg: cfg, api: api, timeout: timeout}, nil
}

// Observed is the Lease as it was when it was read, or written. The zero value is none.
type Observed struct{ lease *coordinationv1.Lease }

// Record is AnnotationTerm; empty: there is none.
func (o Observed) Record() string { return o.lease.Annotations[AnnotationTerm] }

// Beat changes with each Write, and with nothing else: what others do with the Lease is no renewal.
func (o Observed) Beat() string {
	if o.lease.Spec.RenewTime == nil {
		return o.Record()
	}
	return o.lease.Spec.RenewTime.UTC().Format(time.RFC3339Nano) + " " + o.Record()
}

// Read reads the Lease. The error is ErrAway, ErrForbidden or ErrNoLease where it is one of them.
func (t *Terms) Read(ctx context.Context) (Observed, error) {
	short, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	lease, err := t.api.CoordinationV1().Leases(t.cfg.Namespace).Get(short, t.cfg.Lease, metav1.GetOptions{})
	if err != nil {
		return Observed{}, fmt.Errorf("read the Lease: %w", t.explain(ctx, err, "get"))
	}
	return Observed{lease}, nil
}

// Write writes a record, and that holder holds the Lease, if it still is what was observed. Each
// write is a renewal, also of the same record. The error is ErrConflict, ErrForbidden or
// ErrNoLease, and then nothing was written by this call; or ErrUnknown.
func (t *Terms) Write(ctx context.Context, from Observed, record, holder string) (Observed, error) {
	lease := from.lease.DeepCopy()
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	now := metav1.NowMicro()
	lease.Annotations[AnnotationTerm] = record
	lease.Spec.HolderIdentity, lease.Spec.RenewTime = &holder, &now
	short, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	// It bears the resourceVersion that was read: a change in between is a conflict.
	lease, err := t.api.CoordinationV1().Leases(t.cfg.Namespace).Update(short, lease, metav1.UpdateOptions{FieldManager: Component})
	if err != nil {
		return Observed{}, fmt.Errorf("write the Lease: %w", t.undone(ctx, err))
	}
	return Observed{lease}, nil
}

// undone tells apart whether a write that failed is known not to have landed.
func (t *Terms) undone(ctx context.Context, err error) error {
	switch explained := t.explain(ctx, err, "update"); {
	case apierrors.IsConflict(err):
		return fmt.Errorf("%w: %w", ErrConflict, err)
	case errors.Is(explained, ErrForbidden), errors.Is(explained, ErrNoLease), apierrors.IsInvalid(err), apierrors.IsRequestEntityTooLargeError(err):
		return explained
	default:
		return fmt.Errorf("%w: %w", ErrUnknown, explained)
	}
}

// explain makes an error one of this package. The end of a request's time, which is not that of
// ctx, is the API server's silence.
func (t *Terms) explain(ctx context.Context, err error, verb string) error {
	c := Client{cfg: t.cfg}
	return c.explainMissing(classify(ctx, err, c.leaseRule(verb)))
}
