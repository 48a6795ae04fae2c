package failover

import "testing"

func TestForesee(t *testing.T) {
	at := func(changes ...func(*Record)) Record { return record(append([]func(*Record){isOpened}, changes...)...) }
	// The leader's report would have an election succeed: it is the one who is gone.
	leader := report("db-0", "", uuidA+":1-300")
	one, two := report("db-1", "r1", uuidA+":1-300"), report("db-2", "r2", uuidA+":1-100")
	alone := func(r *Record) { r.Members, r.Acknowledgers = []string{"db-0"}, nil }
	for _, tt := range []struct {
		name     string
		r        Record
		reports  []Report
		troubles map[string]string
		want     string
	}{
		{"all report", at(), []Report{leader, one, two}, nil, "failover: possible, to db-1"},
		{"the ordinal decides", at(), []Report{report("db-2", "r2", uuidA+":1-300"), one}, nil, "failover: possible, to db-1"},
		{"an acknowledger is silent", at(), []Report{leader, one}, nil, "failover: not possible: db-2 does not answer"},
		{
			"its server is away", at(),
			[]Report{leader, one},
			map[string]string{"db-2": "its server does not answer"},
			"failover: not possible: db-2: its server does not answer",
		},
		{
			"one was restarted", at(),
			[]Report{one, report("db-2", "other", uuidA+":1-100")},
			nil,
			"failover: not possible: db-2 was restarted and is 200 transactions behind",
		},
		{"one was restarted, and is level", at(), []Report{one, report("db-2", "other", uuidA+":1-300")}, nil, "failover: not possible: db-2 was restarted"},
		{
			"degraded", at(noneNamed),
			[]Report{leader, one},
			nil,
			"failover: not possible: no acknowledger is named: only db-0 has all acknowledged commits; db-2 does not answer",
		},
		{"forbidden", at(forbidden), []Report{one, two}, nil, "failover: not possible: failover is forbidden: maintenance"},
		{"one may not lead, and nobody can fetch", at(), []Report{report("db-1", "r1", uuidA+":1-300", barred, silent), two}, nil, "failover: not possible: db-1 may not lead (it is paused)"},
		{
			"none may lead", at(),
			[]Report{report("db-1", "r1", uuidA+":1-300", barred), report("db-2", "r2", uuidA+":1-300,"+uuidB+":1", ofDataB)},
			nil,
			"failover: not possible: db-1 may not lead (it is paused); db-2 may not lead (it has errant transactions " + uuidB + ":1)",
		},
		{"off", at(off), []Report{two}, nil, "failover: possible, to db-2"},
		{"a set of one", at(alone), nil, nil, "failover: not possible: db-0 is the only member"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Foresee(tt.r, Sight{tt.reports, tt.troubles, uuidA + ":1-300"}, 0)
			if got.String() != tt.want || got.Possible != (got.Heir != "") {
				t.Errorf("%+v\n%q, want\n%q", got, got, tt.want)
			}
		})
	}
}
