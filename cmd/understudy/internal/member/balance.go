package member

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"understudy/replicate"
)

// parameterLag bounds how far behind a replica is.
const parameterLag = "lag"

// primary says whether the member is open for writes, for load balancers.
func (h *Health) primary(w http.ResponseWriter, r *http.Request) {
	if _, err := parameters(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	is, text := isPrimary(h.look(), time.Now())
	answer(w, is, text)
}

// replica says whether the member can be read, for load balancers: a replica that is ready and,
// with ?lag=5s, not further behind than that.
func (h *Health) replica(w http.ResponseWriter, r *http.Request) {
	values, err := parameters(r, parameterLag)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	bound := time.Duration(-1)
	if text, ok := values[parameterLag]; ok {
		if bound, err = time.ParseDuration(text); err != nil || bound < 0 {
			http.Error(w, fmt.Sprintf("%s=%s: it must be a time that is not negative, such as 5s", parameterLag, text), http.StatusBadRequest)
			return
		}
	}
	is, text := isReplica(h.look(), bound, time.Now())
	answer(w, is, text)
}

// parameters reads a query. A name that is not known is an error: a misspelt bound would be none.
func parameters(r *http.Request, known ...string) (map[string]string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("read the parameters: %w", err)
	}
	values := map[string]string{}
	for name, given := range query {
		switch {
		case !slices.Contains(known, name):
			return nil, fmt.Errorf("there is no parameter %q", name)
		case len(given) > 1:
			return nil, fmt.Errorf("%s is given %d times", name, len(given))
		}
		values[name] = given[0]
	}
	return values, nil
}

// isPrimary: a primary that is ready is open for writes.
func isPrimary(s replicate.Status, now time.Time) (bool, string) {
	switch {
	case !s.Ready:
		return false, s.Reason
	case !s.Primary:
		return false, "this member is a replica"
	case !s.Fresh(now):
		return false, stale(s, now)
	}
	return true, s.Reason
}

// isReplica: a replica that is ready is attached, and its applier runs. A bound below 0 is none.
func isReplica(s replicate.Status, bound time.Duration, now time.Time) (bool, string) {
	switch c := s.Facts.Channel; {
	case !s.Ready:
		return false, s.Reason
	case s.Primary:
		return false, "this member is the primary"
	case !s.Fresh(now):
		return false, stale(s, now)
	case bound < 0:
		return true, s.Reason
	case c == nil || c.Lag == nil:
		return false, "how far the replica is behind is not known: " + s.Reason
	case *c.Lag > int64(bound/time.Second):
		return false, fmt.Sprintf("the replica is %d s behind, more than %v", *c.Lag, bound)
	default:
		return true, fmt.Sprintf("the replica is %d s behind: %s", *c.Lag, s.Reason)
	}
}

func stale(s replicate.Status, now time.Time) string {
	return fmt.Sprintf("the server was not looked at for %v", now.Sub(s.Facts.Seen).Round(time.Second))
}
