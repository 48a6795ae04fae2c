package volume

import (
	"os"
	"testing"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"

	"github.com/google/go-cmp/cmp"
)

// restored is what --copy-back leaves of a MariaDB server's backup.
var restored = map[string]string{
	"ibdata1": "x", "mysql/db.frm": "", "shop/orders.ibd": "", "ib_logfile0": toolRedo,
	"xtrabackup_info": mariadb + "binlog_pos = filename 'b.000001', position '330', GTID of the last change '0-1-2'\n",
}

// A person's mark is a file in the live directory.
func TestCompleteMark(t *testing.T) {
	v := open(t, t.TempDir())
	for _, want := range []bool{false, true} {
		if got, err := v.Vouched(); got != want || err != nil {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
		fill(t, v.Live(), map[string]string{CompleteMark: ""})
	}
	if err := v.RemoveMarks(); err != nil {
		t.Fatal(err)
	}
	if got, err := v.Vouched(); got || err != nil {
		t.Errorf("removed: %v, %v", got, err)
	}
}

// A restored directory is adopted, found again at the next start, also with a volume that another
// member inherits, and known from one that was restored into its place.
func TestAdoptRestored(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"by a tool": restored,
		"by CLONE":  {"ibdata1": "x", "mysql.ibd": "x", "#innodb_redo/#ib_redo0": cloneRedo, "#clone/#view_status": "1"},
	} {
		t.Run(name, func(t *testing.T) {
			v := open(t, t.TempDir())
			fill(t, v.Live(), files)
			verdict := func(want Verdict) Facts {
				t.Helper()
				f, err := v.Facts(false, false)
				if got, why := Decide(f); err != nil || got != want {
					t.Fatalf("%s (%s), %v; want %s", got, why, err, want)
				}
				return f
			}
			again := func() {
				t.Helper()
				if err := os.RemoveAll(v.Live()); err != nil {
					t.Fatal(err)
				}
				fill(t, v.Live(), files)
			}
			verdict(Adopt)
			if err := v.Adopt(Journal{}); err != nil {
				t.Fatal(err)
			}
			f := verdict(Keep)
			if f.Journal.Phase != Published || !f.Journal.Adopted {
				t.Errorf("%+v", f.Journal)
			}
			again()
			verdict(Adopt)
			if err := v.Inherit(*f.Journal, origin.Donor, false); err != nil { // a copy, file by file, of the volume
				t.Fatal(err)
			}
			verdict(Keep)
			again()
			verdict(Adopt)
		})
	}
}

// A coordinate that a tool left holds until a server has run.
func TestAdoptedOrigin(t *testing.T) {
	at := &origin.Origin{Mode: origin.GTID, Of: origin.Donor, GTID: "0-1-2", File: "b.000001", Position: 330}
	tests := []struct {
		name  string
		more  map[string]string
		want  *origin.Origin
		wants Content
	}{
		{"not run", nil, at, Restored},
		{"run", map[string]string{"multi-master.info": ""}, nil, Server},
		{
			"the tutorial's, not configured",
			map[string]string{"multi-master.info": "", "change_master_to.sql.in": "CHANGE MASTER TO MASTER_LOG_FILE='b.000002', MASTER_LOG_POS=671"},
			&origin.Origin{Mode: origin.Position, Of: origin.Source, File: "b.000002", Position: 671}, Server,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, restored)
			fill(t, dir, tt.more)
			live, err := Inspect(dir)
			if err != nil || live.Content != tt.wants {
				t.Fatal(live, err)
			}
			got, err := AdoptedOrigin(dir, live.Content, flavor.MariaDB)
			if d := cmp.Diff(tt.want, got); err != nil || d != "" {
				t.Error(err, d)
			}
		})
	}
}
