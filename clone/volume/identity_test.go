package volume

import "testing"

// A data directory is another one after each clone, and on each new volume; else it stays what it is.
func TestDataID(t *testing.T) {
	seen := map[string]bool{}
	for range 2 {
		v := open(t, t.TempDir())
		for _, clone := range []string{"", "a", "b"} {
			if err := v.WriteJournal(Journal{Phase: Attached, ID: clone}); err != nil {
				t.Fatal(err)
			}
			id, err := v.DataID()
			if err != nil || id == "" || seen[id] {
				t.Errorf("clone %q: %q, %v", clone, id, err)
			}
			seen[id] = true
			if again, err := v.DataID(); err != nil || again != id {
				t.Errorf("clone %q: %q, and then %q, %v", clone, id, again, err)
			}
		}
	}
}
