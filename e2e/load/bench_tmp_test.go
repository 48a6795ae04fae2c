package load_test
import ("testing";"time";"os";"understudy/e2e/load";"understudy/e2e/testserver";"strconv";"os/exec";"context")
func TestTmpFill(t *testing.T) {
	mib, _ := strconv.Atoi(os.Getenv("FILL")); if mib == 0 { t.Skip() }
	in, _ := testserver.MariaDB1011(t.Context())
	s := started(t, in, "--innodb-log-file-size="+os.Getenv("LOGSZ"), "--sync-binlog=1", os.Getenv("OPT"))
	load.Create(t.Context(), s.DB())
	b := time.Now()
	if err := load.Fill(t.Context(), s.DB(), 1, int64(mib)<<20); err != nil { t.Fatal(err) }
	t.Log(mib, "MiB", time.Since(b))
	out, _ := exec.Command("sh","-c","du -sh "+s.Config().DataDir+"/shop/* "+s.Config().DataDir).CombinedOutput(); t.Log(string(out))
	c, err := load.Checksums(t.Context(), s.DB()); t.Log(c, err)
	l := load.New(s.DB(), load.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second); defer cancel()
	m := l.Mark(); t.Log(l.Run(ctx)); t.Logf("%+v", l.Since(m))
	b = time.Now(); t.Log(s.Stop(t.Context()), time.Since(b))
}
