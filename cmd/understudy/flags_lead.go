package main

import (
	"errors"
	"fmt"
	"time"

	"understudy/cmd/understudy/internal/member"
	"understudy/replicate/failover"
	"understudy/replicate/flavor"
	"understudy/replicate/lead"
)

const (
	primaryOrdinal = "ordinal"
	primaryLease   = "lease"

	fenceRun     = "run"
	fenceSidecar = "sidecar"
)

// leadFlags say who the primary is.
type leadFlags struct {
	primary, fence string
	never          bool
	timings        failover.Timings
	drain, maxLag  time.Duration
}

func (l *leadFlags) define(f *flagSet) {
	f.StringVar(&l.primary, "primary", primaryOrdinal, "`who` is the primary, the same for init and sidecar of all members:\n"+
		"ordinal: the first ordinal;\n"+
		"lease: the member that the set's Lease names. EXPERIMENTAL, not for data\n"+
		"that you cannot lose; MySQL 8.0, MariaDB 10.6, and later. docs/failover.md says what is not built\nor proven")
}

func (l *leadFlags) defineTimings(f *flagSet) {
	t := failover.DefaultTimings
	f.StringVar(&l.fence, "fence", fenceRun, "`who` ends a leader whose permission has ended, with --primary=lease:\n"+
		"run: understudy run, the first process of the server's container, at --run-socket;\n"+
		"sidecar: this process alone, so that the server of a sidecar that hangs stays open")
	f.BoolVar(&l.never, "never-lead", false, "with --primary=lease, this member is never elected, and acknowledges no commits")
	f.DurationVar(&l.drain, "switchover-drain", 0, "`time` that transactions which run when a planned change begins get to end before writes\nare blocked; with understudy run, its --stop-wait has to be longer")
	f.DurationVar(&l.maxLag, "failover-max-lag", 0, "`time` by which a member may have been behind the last leader's last sign of life and still be\nelected, with --semi-sync=off; 0: any. What that leader committed after it, for --lease-permission\nat most, comes on top")
	f.DurationVar(&l.timings.Renew, "lease-renew", t.Renew, "`time` between two renewals of the Lease by its leader")
	f.DurationVar(&l.timings.Request, "lease-request", t.Request, "`time` for the API server to answer one request about the Lease")
	f.DurationVar(&l.timings.Permission, "lease-permission", t.Permission, "`time` for which a leader may write after it has sent a renewal that succeeded")
	f.DurationVar(&l.timings.Kill, "lease-kill", t.Kill, "`time` that ending a server by SIGKILL may take")
	f.DurationVar(&l.timings.Duration, "lease-duration", t.Duration, "`time` for which the others see the Lease unrenewed before they elect a leader")
	f.DurationVar(&l.timings.Report, "report-timeout", t.Report, "`time` for a member to report to an election")
	f.DurationVar(&l.timings.Electing, "election-timeout", t.Electing, "`time` after which an election that has no heir is given up")
	f.DurationVar(&l.timings.Promotion, "promotion-timeout", t.Promotion, "`time` for an heir to apply what it has received and to open; then the election begins again")
	f.DurationVar(&l.timings.Degrade, "degrade-after", t.Degrade, "`time` without an acknowledging replica after which --semi-sync=preferred goes on without")
	f.DurationVar(&l.timings.Unhealthy, "unhealthy-after", t.Unhealthy, "`time` for which a leader renews the Lease whose server does not answer")
	f.DurationVar(&l.timings.Disk, "disk-unhealthy-after", t.Disk, "`time` for which a leader leads on whose volume takes no writes, if another member could lead")
	f.DurationVar(&l.timings.Stable, "stable-after", t.Stable, "`time` for which a leader has to lead for its term not to count as short; after three short\nterms in a row, elections wait longer and longer")
}

func (l *leadFlags) byLease() bool { return l.primary == primaryLease }

// termIDs is where the server_ids of terms begin on MariaDB, see failover.ServerID.
const termIDs = 1 << 30

func (l *leadFlags) validate(id member.Identity) error {
	switch {
	case l.primary != primaryOrdinal && l.primary != primaryLease:
		return fmt.Errorf("--primary=%s: it must be ordinal or lease", l.primary)
	case l.byLease() && id.Flavor == flavor.MariaDB && id.ServerID() >= termIDs:
		return fmt.Errorf("--primary=lease: the server_id %d is one of those that leaders take on MariaDB: --server-id-base has to leave it below %d", id.ServerID(), termIDs)
	}
	return nil
}

// validateLead checks what only the sidecar knows.
func (v *sidecarVerb) validateLead() error {
	l := &v.lead
	if err := l.validate(v.member.id); err != nil || !l.byLease() {
		return err
	}
	switch longest := 32; {
	case v.kube.mode == kubeOff:
		return errors.New("--primary=lease: it takes Kubernetes, and --kube=off")
	case v.own.passwordFile == "":
		return errors.New("--primary=lease: --sidecar-password-file is required")
	case len(lead.Account(v.member.id.Name)) > longest: // https://dev.mysql.com/doc/refman/8.4/en/account-names.html
		return fmt.Errorf("--primary=lease: the account %s has more than the %d characters that MySQL takes", lead.Account(v.member.id.Name), longest)
	case l.never && v.member.id.IsFirst():
		return errors.New("--never-lead: the first ordinal cannot take it: it opens the first term")
	case l.maxLag < 0, l.maxLag > 0 && l.maxLag < 2*l.timings.Renew:
		return fmt.Errorf("--failover-max-lag=%s: it must be 0, or at least two renewals of the Lease: %s", l.maxLag, 2*l.timings.Renew)
	case l.drain < 0:
		return errors.New("--switchover-drain must not be less than 0")
	case l.fence != fenceRun && l.fence != fenceSidecar:
		return fmt.Errorf("--fence=%s: it must be run or sidecar", l.fence)
	}
	if err := l.timings.Validate(); err != nil {
		return fmt.Errorf("--primary=lease: %w", err)
	}
	return nil
}
