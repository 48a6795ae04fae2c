package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"understudy/e2e/network"
)

// distances are times of round trips.
type distances []time.Duration

// Set reads what String writes.
func (d *distances) Set(text string) error {
	*d = nil
	for one := range strings.SplitSeq(text, ",") {
		t, err := time.ParseDuration(one)
		if err != nil {
			return fmt.Errorf("read a distance: %w", err)
		}
		*d = append(*d, t)
	}
	return nil
}

func (d *distances) String() string {
	var all []string
	for _, t := range *d {
		all = append(all, t.String())
	}
	return strings.Join(all, ",")
}

// distanceRatios are the times over several connections as shares of those over one, near and over
// each distance, in one line.
func (r *report) distanceRatios() {
	if len(r.distances) == 0 {
		return
	}
	first := len(r.variants) - 2*(len(r.distances)+1)
	fmt.Fprintf(r, "\nbench-clone: wall time of %d connections/1 connection", overConnections)
	for i, away := range append(distances{0}, r.distances...) {
		one, several := r.median(first+2*i, wall), r.median(first+2*i+1, wall)
		fmt.Fprintf(r, ", %v away = %.2f", away, several/one)
	}
	_, _ = r.WriteString("\n")
}

// distantPort is where the donor answers from far away.
const distantPort = 3327

// overConnections is over how many connections the rows of that kind come.
const overConnections = 4

// connected are v over one connection and over several, near and over each distance; none without
// distances.
func (b *bench) connected(v variant) []variant {
	if len(b.distances) == 0 {
		return nil
	}
	several := v
	several.name = fmt.Sprintf("%s, %d connections", v.name, overConnections)
	several.joiner = func(dir string) []string {
		return append(v.joiner(dir), fmt.Sprintf("--connections=%d", overConnections))
	}
	one := v
	one.joiner = func(dir string) []string { return append(v.joiner(dir), "--connections=1") }
	one.name = v.name + ", 1 connection"
	all := []variant{one, several}
	for _, roundTrip := range b.distances {
		all = append(all, b.distant(one, roundTrip), b.distant(several, roundTrip))
	}
	return all
}

// distant is v, which asks the donor at host, over a distance.
func (b *bench) distant(v variant, roundTrip time.Duration) variant {
	near := v.joiner
	return variant{
		name: fmt.Sprintf("%s, %v away", v.name, roundTrip),
		prepare: func(ctx context.Context) (donor, error) {
			d, err := v.prepare(ctx)
			if err != nil {
				return d, err
			}
			end, err := network.Distance(context.WithoutCancel(ctx), b.distantAddr(), net.JoinHostPort(b.member.Host, "3307"), roundTrip)
			if err != nil {
				return d, err
			}
			stop := d.stop
			d.stop = func(ctx context.Context) error {
				end()
				return stop(ctx)
			}
			return d, nil
		},
		joiner: func(dir string) []string {
			argv := near(dir)
			for i, arg := range argv {
				if arg == b.member.Host {
					argv[i] = b.distantAddr()
				}
			}
			return argv
		},
	}
}

func (b *bench) distantAddr() string {
	return net.JoinHostPort(b.member.Host, strconv.Itoa(distantPort))
}
