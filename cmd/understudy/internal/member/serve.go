package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"understudy/clone/wire"

	"golang.org/x/sync/errgroup"
)

// Listen opens all addresses or none.
func Listen(ctx context.Context, addrs ...string) ([]net.Listener, error) {
	var open []net.Listener
	for _, addr := range addrs {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			for _, l := range open {
				err = errors.Join(err, l.Close())
			}
			return nil, fmt.Errorf("listen on %s: %w", addr, err)
		}
		open = append(open, l)
	}
	return open, nil
}

// Serve runs a server of short answers until ctx ends.
func Serve(ctx context.Context, group *errgroup.Group, s *http.Server, l net.Listener) {
	group.Go(func() error {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", l.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return s.Close()
	})
}

// lastBytes is the time, at the end, for bytes that were written to be sent.
const lastBytes = 5 * time.Second

// ServeClones answers peers until ctx ends. Running clones then have drain to end.
func (m *Member) ServeClones(ctx context.Context, group *errgroup.Group, server *wire.Server, l net.Listener, drain time.Duration) {
	config := m.TLS.Server
	h := server.HTTP(config)
	group.Go(func() error {
		var err error
		if config != nil {
			err = h.ServeTLS(wire.Gather(l), "", "")
		} else {
			err = h.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve clones: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		drained, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		server.Drain(drained)
		// The last bytes, and the reason of an early end, may still be unsent.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastBytes)
		defer cancel()
		return errors.Join(h.Shutdown(last), h.Close())
	})
}
