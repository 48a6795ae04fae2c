package k8s

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// The names by which the manifests and this program know each other.
const (
	// LabelRole is the label of a pod that says what the member is to the set.
	LabelRole = "understudy/role"
	// AnnotationInitialized is the Lease's annotation that says that the set has, or had, data.
	AnnotationInitialized = "understudy/initialized"
	// AnnotationMembers is the Lease's annotation that names the members that were ever attached,
	// as in "db-0,db-1": see Registry.
	AnnotationMembers = "understudy/members"
	// PathPreStop is where the sidecar answers the server container's preStop hook.
	PathPreStop = "/prestop"
	// Component names this program in Events.
	Component = "understudy"
)

// requestTimeout bounds one request: this program has better things to do than to wait for the API
// server.
const requestTimeout = 5 * time.Second

var (
	// ErrOutside is returned by New where there is no cluster, or no token for it.
	ErrOutside = errors.New("not a pod with a service account token")
	// ErrAway is returned when the API server cannot be reached, does not answer in time, or cannot
	// serve. Ask again later; it is never an answer.
	ErrAway = errors.New("the API server is away")
	// ErrForbidden is returned when the service account may not do what was asked. The message
	// names the rule that its Role lacks. Asking again does not help.
	ErrForbidden = errors.New("the API server forbids it")
	// ErrNoLease is returned when the set's Lease does not exist. The manifests bring it along;
	// this program never makes it, since one without the annotation means consent to an empty
	// start.
	ErrNoLease = errors.New("the set's Lease does not exist")
	// ErrReplaced is returned when the pod of this name is not ours any more: it was deleted by
	// force, and its successor is there.
	ErrReplaced = errors.New("another pod of this name has replaced this pod")
)

// Config says who asks.
type Config struct {
	// Namespace, Pod and PodUID are the pod's own, from the downward API. Without the UID an Event
	// does not show with its pod, and a successor is taken for us.
	Namespace, Pod, PodUID string
	// Set is the set's name.
	Set string
	// Lease is the name of the set's Lease. Empty: the set's name.
	Lease string
	// Version of this program, for the API server's audit log.
	Version string
	Log     *slog.Logger
}

func (c Config) validate() error {
	var errs []error
	for _, f := range []struct{ name, value string }{
		{"Namespace", c.Namespace}, {"Pod", c.Pod}, {"PodUID", c.PodUID}, {"Set", c.Set},
	} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("configure the Kubernetes client: %s is empty", f.name))
		}
	}
	if c.Log == nil {
		errs = append(errs, errors.New("configure the Kubernetes client: Log is nil"))
	}
	return errors.Join(errs...)
}

// Client is one member's line to Kubernetes. Its methods may be called from several goroutines;
// each request ends after a few seconds, whatever its context allows.
type Client struct {
	cfg Config
	api kubernetes.Interface

	events events

	mu     sync.Mutex
	role   Role      // as it was last seen on the pod
	roleAt time.Time // when that was
}

// New is for a process in a pod. It asks the API server nothing yet. The error is ErrOutside where
// there is no cluster or no token.
func New(cfg Config) (*Client, error) {
	rc, err := inCluster()
	if err != nil {
		return nil, err
	}
	return NewFromConfig(cfg, rc)
}

// inCluster is how a process in a pod reaches the API server; ErrOutside where there is no cluster
// or no token.
func inCluster() (*rest.Config, error) {
	rc, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) || errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrOutside, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the service account: %w", err)
	}
	return rc, nil
}

// NewFromConfig is for a process that reaches the API server in another way. The user agent,
// timeout and handling of warnings of rc are replaced.
func NewFromConfig(cfg Config, rc *rest.Config) (*Client, error) {
	rc = rest.CopyConfig(rc)
	rc.UserAgent = Component + "/" + cfg.Version
	rc.Timeout = 0 // each request has its own
	rc.WarningHandlerWithContext = warnings{cfg.Log}
	api, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return nil, fmt.Errorf("make the client of the API server: %w", err)
	}
	return NewFromInterface(cfg, api)
}

// NewFromInterface is for tests.
func NewFromInterface(cfg Config, api kubernetes.Interface) (*Client, error) {
	if cfg.Lease == "" {
		cfg.Lease = cfg.Set
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, api: api, events: newEvents()}, nil
}

// warnings are the API server's remarks about deprecated requests.
type warnings struct{ log *slog.Logger }

func (w warnings) HandleWarningHeaderWithContext(ctx context.Context, _ int, _, text string) {
	w.log.DebugContext(ctx, "the API server warned", "warning", text)
}

func (c *Client) uid() types.UID { return types.UID(c.cfg.PodUID) }

// request makes one request with its own deadline. rule is what a Role must grant for it, as in
// `patch on pods named "db-0"`.
func request[T any](ctx context.Context, rule string, do func(context.Context) (T, error)) (T, error) {
	short, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer, err := do(short)
	return answer, classify(ctx, err, rule)
}

// classify tells apart what a caller does different things about:
//
//	ctx has ended                        the error as it is
//	no answer, or not in time, 5xx, 429  ErrAway
//	401, 403                             ErrForbidden, with the rule
//	any other status                     the error as it is: not found, conflict, invalid
func classify(ctx context.Context, err error, rule string) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	switch code := status.Status().Code; {
	case code == http.StatusForbidden:
		return fmt.Errorf("%w: the Role of the pod's service account must grant %s: %w", ErrForbidden, rule, err)
	case code == http.StatusUnauthorized:
		return fmt.Errorf("%w: it does not accept the pod's service account token: %w", ErrForbidden, err)
	case code == http.StatusTooManyRequests, code >= http.StatusInternalServerError:
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return err
}
