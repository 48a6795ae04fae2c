package main

import (
	"errors"
	"fmt"

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
	timings        failover.Timings
}

func (l *leadFlags) define(f *flagSet) {
	f.StringVar(&l.primary, "primary", primaryOrdinal, "`who` is the primary, the same for init and sidecar of all members:\n"+
		"ordinal: the first ordinal;\n"+
		"lease: the member that the set's Lease names. EXPERIMENTAL, not for data\n"+
		"that you cannot lose; MySQL 8.0 and later only. docs/failover.md says what is not built or proven")
}

func (l *leadFlags) defineTimings(f *flagSet) {
	t := failover.DefaultTimings
	f.StringVar(&l.fence, "fence", fenceRun, "`who` ends a leader whose permission has ended, with --primary=lease:\n"+
		"run: understudy run, the first process of the server's container, at --run-socket;\n"+
		"sidecar: this process alone, so that the server of a sidecar that hangs stays open")
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
	f.DurationVar(&l.timings.Stable, "stable-after", t.Stable, "`time` for which a leader has to lead for its term not to count as short; after three short\nterms in a row, elections wait longer and longer")
}

func (l *leadFlags) byLease() bool { return l.primary == primaryLease }

func (l *leadFlags) validate(f flavor.Flavor) error {
	switch {
	case l.primary != primaryOrdinal && l.primary != primaryLease:
		return fmt.Errorf("--primary=%s: it must be ordinal or lease", l.primary)
	case l.byLease() && f != flavor.MySQL:
		return errors.New("--primary=lease: MariaDB cannot do it yet: its leaders need a server_id of their term, which is not built; leave --primary=ordinal")
	}
	return nil
}

// validateLead checks what only the sidecar knows.
func (v *sidecarVerb) validateLead() error {
	l := &v.lead
	if err := l.validate(v.member.id.Flavor); err != nil || !l.byLease() {
		return err
	}
	switch longest := 32; {
	case v.kube.mode == kubeOff:
		return errors.New("--primary=lease: it takes Kubernetes, and --kube=off")
	case v.own.passwordFile == "":
		return errors.New("--primary=lease: --sidecar-password-file is required")
	case len(lead.Account(v.member.id.Name)) > longest: // https://dev.mysql.com/doc/refman/8.4/en/account-names.html
		return fmt.Errorf("--primary=lease: the account %s has more than the %d characters that MySQL takes", lead.Account(v.member.id.Name), longest)
	case l.fence != fenceRun && l.fence != fenceSidecar:
		return fmt.Errorf("--fence=%s: it must be run or sidecar", l.fence)
	}
	if err := l.timings.Validate(); err != nil {
		return fmt.Errorf("--primary=lease: %w", err)
	}
	return nil
}
