package k8s

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// running runs c.Run until the returned function is called, which returns what it took to end.
func running(t *testing.T, c *Client) (stop func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { c.Run(ctx); close(done) }()
	return func() time.Duration {
		begin := time.Now()
		cancel()
		<-done
		return time.Since(begin)
	}
}

// messages are those of the Events that were created, in order.
func messages(api *fake.Clientset) []string {
	var all []string
	for _, a := range api.Actions() {
		if create, ok := a.(clienttesting.CreateAction); ok {
			all = append(all, create.GetObject().(*corev1.Event).Message)
		}
	}
	return all
}

func TestEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, api, _ := newFake(t)
		stop := running(t, c)
		c.Event(Normal, "CloneStarted", "cloning db-0")
		synctest.Wait()
		list, err := api.CoreV1().Events(testNamespace).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 {
			t.Fatalf("%d Events, error %v", len(list.Items), err)
		}
		now := metav1.Now()
		want := corev1.Event{
			TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
			ObjectMeta:     metav1.ObjectMeta{Namespace: testNamespace},
			InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: testNamespace, Name: testPod, UID: testUID},
			Type:           "Normal", Reason: "CloneStarted", Message: "cloning db-0",
			FirstTimestamp: now, LastTimestamp: now, Count: 1,
			Source: corev1.EventSource{Component: "understudy"}, ReportingController: "understudy", ReportingInstance: testPod,
		}
		if diff := cmp.Diff(want, list.Items[0], cmpopts.IgnoreFields(metav1.ObjectMeta{}, "Name", "ManagedFields")); diff != "" {
			t.Errorf("Event (-want +got):\n%s", diff)
		}
		stop()
	})
}

// A Warning that comes again after it was taken back is news; so is each time that it is taken
// back.
func TestEventRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, api, _ := newFake(t)
		stop := running(t, c)
		for range 2 {
			for range 2 {
				c.Event(Warning, "NeedsHelp", "the volume is full")
				c.Event(Normal, "Replication", "start replication")
			}
			c.Event(Normal, Recovered, "over after 8s: the volume is full")
		}
		synctest.Wait()
		want := []string{
			"the volume is full", "start replication", "over after 8s: the volume is full",
			"the volume is full", "over after 8s: the volume is full",
		}
		if diff := cmp.Diff(want, messages(api)); diff != "" {
			t.Errorf("Events (-want +got):\n%s", diff)
		}
		stop()
	})
}

func TestEventsWaitForTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, api, log := newFake(t)
		var away atomic.Bool
		away.Store(true)
		failing(api, "create", "events", func() error {
			if away.Load() {
				return errRefused
			}
			return nil
		})
		stop := running(t, c)
		for i := range 3 {
			c.Event(Normal, "Step", fmt.Sprint("step ", i))
		}
		time.Sleep(2 * time.Minute)
		if n := log.count("Events wait until the API server is back"); n != 1 {
			t.Errorf("%d lines say that Events wait", n)
		}
		away.Store(false)
		api.ClearActions()
		time.Sleep(30 * time.Second)
		if diff := cmp.Diff([]string{"step 0", "step 1", "step 2"}, messages(api)); diff != "" {
			t.Errorf("Events (-want +got):\n%s", diff)
		}
		list, err := api.CoreV1().Events(testNamespace).List(t.Context(), metav1.ListOptions{})
		if err != nil || time.Since(list.Items[0].FirstTimestamp.Time) < 2*time.Minute {
			t.Errorf("the Event tells when it was sent, not when it happened: %v, %v", list.Items, err)
		}
		stop()
	})
}

func TestEventAnswerLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, api, log := newFake(t)
		tries := 0
		api.PrependReactor("create", "events", func(a clienttesting.Action) (bool, runtime.Object, error) {
			if tries++; tries > 1 {
				return false, nil, nil
			}
			create := a.(clienttesting.CreateAction)
			return true, nil, errors.Join(errRefused, api.Tracker().Create(create.GetResource(), create.GetObject(), testNamespace))
		})
		stop := running(t, c)
		c.Event(Warning, "CloneFailed", "the donor went away")
		time.Sleep(time.Minute)
		stop()
		list, err := api.CoreV1().Events(testNamespace).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 || tries != 2 || log.count("did not take") > 0 {
			t.Errorf("%d Events after %d tries, error %v", len(list.Items), tries, err)
		}
	})
}

func TestOldestEventsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, api, log := newFake(t)
		var want []string
		for i := range eventQueue + 5 { // nobody runs: this must not block
			c.Event(Normal, "Step", fmt.Sprint("step ", i))
			want = append(want, fmt.Sprint("step ", i))
		}
		if n := log.count("Event dropped"); n != 5 {
			t.Errorf("%d lines about dropped Events", n)
		}
		stop := running(t, c)
		synctest.Wait()
		if diff := cmp.Diff(want[5:], messages(api)); diff != "" {
			t.Errorf("Events (-want +got):\n%s", diff)
		}
		stop()
	})
}

func TestRepeatedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, api, _ := newFake(t)
		stop := running(t, c)
		for range 5 {
			c.Event(Warning, "SourceAway", "db-0 does not answer")
			c.Event(Warning, "SourceAway", "db-0 refuses the password")
		}
		synctest.Wait()
		if got := len(messages(api)); got != 2 {
			t.Errorf("%d Events for two different ones", got)
		}
		time.Sleep(eventRepeat)
		c.Event(Warning, "SourceAway", "db-0 does not answer")
		synctest.Wait()
		if got := len(messages(api)); got != 3 {
			t.Errorf("%d Events: one that is still true must be told again", got)
		}
		stop()
	})
}

func TestEventRefused(t *testing.T) {
	terminating := apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "", errors.New("it is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for _, tt := range []struct {
		name  string
		err   error
		lines int
	}{
		{"forbidden", apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "", nil), 1},
		{"namespace goes", terminating, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, api, log := newFake(t)
				errs := []error{tt.err, nil}
				failing(api, "create", "events", func() error {
					err := errs[0]
					errs = errs[1:]
					return err
				})
				stop := running(t, c)
				c.Event(Normal, "One", "one")
				c.Event(Normal, "Two", "two")
				synctest.Wait()
				if got := messages(api); !slices.Equal(got, []string{"one", "two"}) {
					t.Errorf("tries %q: a refused Event must not hold up the next", got)
				}
				if n := log.count("did not take an Event"); n != tt.lines {
					t.Errorf("%d lines", n)
				}
				stop()
			})
		})
	}
}

func TestRunFlushes(t *testing.T) {
	c, api, _ := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.Event(Normal, "CloneFinished", "last words")
	c.Run(ctx)
	if got := messages(api); !slices.Equal(got, []string{"last words"}) {
		t.Errorf("Events %q", got)
	}
}

func TestRunEndsInTime(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server roundTripper
		atMost time.Duration
	}{
		{"silent server", silent, flushTimeout},
		{"no server", func(*http.Request) (*http.Response, error) { return nil, errRefused }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, log := newOver(t, tt.server)
				stop := running(t, c)
				for i := range 10 {
					c.Event(Normal, "Step", fmt.Sprint("step ", i))
				}
				time.Sleep(time.Minute)
				if took := stop(); took > tt.atMost {
					t.Errorf("the end took %v", took)
				}
				if log.count(`"events":10`) != 1 {
					t.Errorf("the log does not say that ten Events were lost: %s", log.text.String())
				}
			})
		})
	}
}

func TestLongMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, api, _ := newFake(t)
		stop := running(t, c)
		c.Event(Warning, "Refused", strings.Repeat("ä", eventMessage))
		c.Event(Warning, "Refused", "a name of \xff bytes")
		synctest.Wait()
		stop()
		got := messages(api)
		if len(got) != 2 || len(got[0]) > eventMessage || !strings.HasSuffix(got[0], "ä…") || got[1] != "a name of ? bytes" || !utf8.ValidString(got[0]) {
			t.Errorf("Events %q", got)
		}
	})
}
