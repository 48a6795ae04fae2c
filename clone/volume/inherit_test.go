package volume

import (
	"os"
	"path/filepath"
	"testing"

	"understudy/replicate/origin"

	"github.com/google/go-cmp/cmp"
)

// Whose volume it is. One whose writer is not known, of an older program, is this member's.
func TestDecideInherit(t *testing.T) {
	for _, tt := range []struct {
		owner, wrote string
		want         bool
	}{
		{"db-1", "db-0", true},
		{"db-0", "db-1", true},
		{"db-1", "db-10", true},
		{"test-1", "db-0", true},
		{"db-1", "db-1", false},
		{"test-1", "db-1", false},
		{"db-1", "", false},
		{"", "db-1", false},
	} {
		for _, phase := range []Phase{Initialising, Transferring, Extracted, Preparing, Prepared, Swapping, Published, Attached} {
			for _, c := range []Content{Empty, Server, Copy, Incomplete, Foreign} {
				f := Facts{Owner: tt.owner, Journal: &Journal{Phase: phase, Owner: tt.wrote}, SameCopy: true, Live: Live{Content: c}, Request: &Request{}}
				got, why := Decide(f)
				want := tt.want && (phase == Published || phase == Attached) && (c == Server || c == Copy)
				if (got == Inherit) != want {
					t.Errorf("%q wrote it, and is %q; %s, %s: %s (%s)", tt.wrote, tt.owner, phase, c, got, why)
				}
			}
		}
	}
}

func TestInherit(t *testing.T) {
	known := &origin.Origin{Mode: origin.GTID, Of: origin.Source, GTID: "0-100-7"}
	executed := &origin.Origin{Mode: origin.Executed, Of: origin.Donor}
	for _, tt := range []struct {
		name     string
		was      Journal
		want     Journal
		keptGTID bool
	}{
		{"the primary's", Journal{Phase: Attached, SemiSynced: true}, Journal{Donor: "db-0", Origin: executed}, false},
		{"a replica's", Journal{Phase: Attached, ID: "x", Configured: true, Origin: known}, Journal{Donor: "db-0", Origin: executed}, false},
		{"one with lost transactions of the primary", Journal{Phase: Attached, Origin: known, Parted: "0-100-8"}, Journal{Donor: "db-0", Origin: executed, Parted: "0-100-8"}, false},
		{"an adopted one's", Journal{Phase: Attached, Adopted: true}, Journal{Donor: "db-0", KeepsGTIDMode: true, Origin: executed}, true},
		{"one that was configured, and had not replicated", Journal{Phase: Published, Configured: true, Origin: known}, Journal{Donor: "db-0", Origin: executed}, false},
		{"a copy that had not replicated", Journal{Phase: Published, ID: "x", Donor: "db-2", Origin: known}, Journal{ID: "x", Donor: "db-2", Origin: known}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			theirs := open(t, root)
			theirs.OwnedBy("db-0")
			fill(t, root, map[string]string{"mysql/auto.cnf": "server-uuid=x", "mysql/ibdata1": "", "mysql/mysql.ibd": ""})
			if err := theirs.WriteJournal(tt.was); err != nil {
				t.Fatal(err)
			}
			if err := theirs.Close(); err != nil {
				t.Fatal(err)
			}
			v := open(t, root)
			v.OwnedBy("db-1")
			f, err := v.Facts(false, false)
			if verdict, _ := Decide(f); err != nil || verdict != Inherit {
				t.Fatalf("verdict %s, %v", verdict, err)
			}
			if err := v.Inherit(*f.Journal, origin.Donor, tt.keptGTID); err != nil {
				t.Fatal(err)
			}
			got, err := v.ReadJournal()
			tt.want.Format, tt.want.Phase, tt.want.Owner = journalFormat, Published, "db-1"
			if d := cmp.Diff(&tt.want, got); d != "" || err != nil {
				t.Error(d, err)
			}
			if _, err := os.Stat(filepath.Join(v.Live(), "auto.cnf")); err == nil {
				t.Error("the other member's identity is left")
			}
		})
	}
}
