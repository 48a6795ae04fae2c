package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"understudy/clone"
	"understudy/clone/volume"
	"understudy/cmd/understudy/internal/member"
	"understudy/k8s"
)

// reseedVerb is `understudy reseed`.
type reseedVerb struct {
	member setFlags
	lead   leadFlags
	kube   kubeFlags
	logs   logFlags

	id                     member.Identity // of member
	volume, reason, health string
}

const reseedAbout = `understudy reseed replaces the data of a replica by a new clone.

Use it for a replica that replication cannot repair: its data differ from the primary's, the
primary has purged binary logs that it needs, or it has transactions that the primary lacks.
In the sidecar's container it needs no flags:
  kubectl -n database exec db-2 -c sidecar -- understudy reseed --reason="row missing in shop.orders"

It writes a request to the volume and evicts the pod, subject to PodDisruptionBudgets; the
sidecar repeats an eviction that was refused. Then init clones a healthy member beside the old
data, for which the volume needs room, and exchanges the two directories once the clone is
complete. The old directory stays as .understudy/replaced-ID, with the reason in
replaced-ID.json, until the new data have replicated for the sidecar's --keep-replaced.
Without a donor in time (init's --wait), or without room, the old data start as before.

To withdraw the request before the pod is evicted, remove .understudy/reseed from the volume.
Without Kubernetes the command prints what to do. The primary is never reseeded. With
--primary=lease that is the member that led last: until another one leads, nobody else may have
all acknowledged commits. understudy switchover makes another member the primary.
`

func (v *reseedVerb) define(f *flagSet) {
	f.about = reseedAbout
	v.member.define(f)
	f.StringVar(&v.volume, "volume", "/volume", "`directory` where the whole volume is mounted")
	f.StringVar(&v.reason, "reason", "by hand", "`text` that is kept with the replaced data")
	f.StringVar(&v.health, "health", fmt.Sprintf("http://127.0.0.1:%d", healthPort), "`address` of the sidecar's health port; the answer of /readyz is kept with the replaced data")
	v.lead.define(f)
	v.kube.define(f)
	v.logs.define(f)
}

func (v *reseedVerb) validate(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	ordinal, err := v.member.identify()
	if err != nil {
		return err
	}
	if err := errors.Join(v.member.validate(), v.kube.validate(), v.logs.validate()); err != nil {
		return err
	}
	v.id = v.member.identity(ordinal)
	return nil
}

func (v *reseedVerb) run(ctx context.Context, out streams) error {
	log := v.logs.logger(out.stderr)
	if v.id.IsFirst() && !v.lead.byLease() { // then the sidecar knows who the primary is
		return fmt.Errorf("%w: %s is the primary, which is never reseeded: no other member may have all of its data", clone.ErrRefused, v.id.Name)
	}
	journal, err := volume.JournalOf(v.volume)
	switch {
	case err != nil:
		return err
	case journal == nil:
		return fmt.Errorf("%w: %s has no journal of understudy: check --volume", clone.ErrRefused, v.volume)
	case journal.Phase != volume.Published && journal.Phase != volume.Attached:
		return fmt.Errorf("%w: the member has no complete data to replace (phase %s); init clones it without a request", clone.ErrRefused, journal.Phase)
	}
	client, err := v.kube.client(v.id, log)
	if err != nil {
		return err
	}
	if err := v.refuseLeader(ctx, client != nil, log); err != nil {
		return err
	}
	request := volume.Request{By: "understudy reseed", Reason: v.reason, At: time.Now().UTC().Truncate(time.Second), State: v.state(ctx)}
	if err := volume.WriteRequest(v.volume, request); err != nil {
		return err
	}
	text := "the request is on the volume: stop the server and the sidecar, run init, which reseeds the member, and start them again"
	if client != nil {
		if text, err = v.evict(ctx, client); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(out.stdout, text)
	return err
}

// refuseLeader refuses the member that led last, in a set whose primary the Lease names.
func (v *reseedVerb) refuseLeader(ctx context.Context, inCluster bool, log *slog.Logger) error {
	if !v.lead.byLease() {
		return nil
	}
	var terms *k8s.Terms
	if inCluster {
		var err error
		if terms, err = v.kube.terms(v.id, stateTimeout, log); err != nil {
			return err
		}
	}
	remembered, err := volume.TermOf(v.volume)
	if err != nil {
		return err
	}
	switch term, err := ledLast(ctx, v.id.Name, terms, remembered); {
	case err != nil:
		return fmt.Errorf("whether %s leads is not known: %w", v.id.Name, err)
	case term > 0:
		return fmt.Errorf("%w: %s led last (term %d): nobody else may have all acknowledged commits. Make another member the primary first, by understudy switchover --to=…",
			clone.ErrRefused, v.id.Name, term)
	}
	return nil
}

func (v *reseedVerb) evict(ctx context.Context, client *k8s.Client) (string, error) {
	err := client.Evict(ctx)
	switch {
	case errors.Is(err, k8s.ErrBudget), errors.Is(err, k8s.ErrAway):
		return fmt.Sprintf("the pod is not evicted yet; the sidecar tries again every %v: %v", member.EvictEvery, err), nil
	case err != nil:
		return "", fmt.Errorf("evict the pod: %w; the request is on the volume: delete the pod yourself", err)
	}
	return fmt.Sprintf("%s is evicted; its next init reseeds it, as shown by: kubectl -n %s logs %s -c init --follow", v.id.Name, v.id.Namespace, v.id.Name), nil
}

// stateTimeout bounds the request to the sidecar.
const stateTimeout = 3 * time.Second

// state is the sidecar's answer at /readyz, or why there is none.
func (v *reseedVerb) state(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(v.health, "/")+"/readyz", http.NoBody)
	if err != nil {
		return err.Error()
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	const most = 64 << 10 // bytes: sets of GTIDs can be long
	text, err := io.ReadAll(io.LimitReader(res.Body, most))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}
