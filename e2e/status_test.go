package e2e

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
)

// status runs `understudy status` for the first three members, and checks its exit code and what it
// prints: one regular expression for each line of wants.
func status(ctx context.Context, t *testing.T, s *set.Set, code int, wants ...string) {
	t.Helper()
	checkStatus(t, callStatus(ctx, t, s), code, wants...)
}

func checkStatus(t *testing.T, r set.Run, code int, wants ...string) {
	t.Helper()
	t.Logf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	if r.Code != code {
		t.Errorf("the exit code is %d, want %d", r.Code, code)
	}
	for _, want := range wants {
		blanks := strings.ReplaceAll(want, "  ", " +") // columns are as wide as they have to be
		if !regexp.MustCompile("(?m)^" + blanks + "$").MatchString(r.Stdout) {
			t.Errorf("no line is %q", want)
		}
	}
}

func callStatus(ctx context.Context, t *testing.T, s *set.Set, more ...string) set.Run {
	t.Helper()
	args := []string{"status", "--set=db", "--members=3", "--peer-host=" + s.Host(0)[:len(s.Host(0))-1] + "{ordinal}", "--secret-file=" + s.SecretFile()}
	r, err := s.Call(ctx, nil, append(args, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// status from outside of the set while a member is missing, while it is cloned, when all members
// are ready, and when a server is down.
func TestStatus(t *testing.T) {
	t.Parallel()
	limits, limit := limitsFile(t)
	limit("0")
	ctx, s := newSet(t, install(t), func(c *set.Config) { c.SidecarFlags = []string{"--limits-file=" + limits} })
	m0, m1, m2 := primary(ctx, t, s, 16<<20), s.Member(1), s.Member(2)
	up(ctx, t, m1)
	const (
		source  = `db-0  primary  attached  yes  -  -  `
		replica = `  replica  attached  yes  \d+ s  `
		gtid    = `  0-100-\d+`
	)
	from := regexp.QuoteMeta(m0.Host) + ":3306  "
	status(ctx, t, s, 1, source+"-"+gtid, "db-1"+replica+from+"-"+gtid, "db-2  -  .*", "db-2 does not answer: .* connection refused")

	limit("1MiB")
	time.Sleep(5 * time.Second) // the limit is read every two seconds
	joiner, err := m2.StartInit()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the joiner says how far it is", func() bool {
		return regexp.MustCompile(`from db-1 [1-9]\d* %`).MatchString(callStatus(ctx, t, s).Stdout)
	})
	status(
		ctx, t, s, 1, source+"-"+gtid, "db-1"+replica+from+`to db-2 \d+ %`+gtid,
		`db-2  replica  cloning  no  -  -  from db-1 [1-9]\d* %  -`, "db-2 is not ready: it is being cloned",
	)
	limit("0")
	<-joiner.Exited()
	if err := joiner.Err(); err != nil {
		t.Fatal(err)
	}
	up(ctx, t, m2)
	status(ctx, t, s, 0, source+"-"+gtid, "db-1"+replica+from+"-"+gtid, "db-2"+replica+from+"-"+gtid)

	if err := m2.StopServer(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the status tells of the server that is down", func() bool {
		return strings.Contains(callStatus(ctx, t, s).Stdout, "db-2 is not ready: ")
	})
	r := callStatus(ctx, t, s, "-o", "json")
	var all []struct {
		Name, Host, Role, Source, Reason string
		Ready                            bool
		ServerID                         uint32 `json:"server_id"`
	}
	if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil || len(all) != 3 || r.Code != 1 {
		t.Fatalf("it ended with %d (%v), and printed %s", r.Code, err, r.Stdout)
	}
	t.Logf("%s\n%s", r.Stdout, r.LastLine())
	if m := all[1]; m.Name != "db-1" || m.Host != m1.Host || m.Role != "replica" || m.Source != m0.Host+":3306" || !m.Ready || m.ServerID != 101 {
		t.Errorf("of db-1 it says %+v", m)
	}
	if m := all[2]; m.Ready || m.Reason == "" {
		t.Errorf("of db-2 it says %+v", m)
	}
	if want := "understudy status: the set is unhealthy: 2 of 3 members ready"; r.LastLine() != want {
		t.Errorf("its last word is %q, want %q", r.LastLine(), want)
	}
}
