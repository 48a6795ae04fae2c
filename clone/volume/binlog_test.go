package volume

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// What an index lists tells where the logs are, and what they are called.
func TestBinlogBasenameByIndex(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		but   []string
		want  string
	}{
		{"named by its first option", map[string]string{"mysql-bin.index": "./mysql-bin.000001\n", "mysql-bin.000001": ""}, nil, "mysql-bin"},
		{"an index of another name", map[string]string{"logs.index": "./mysql-bin.000001\n./mysql-bin.000002\n", "mysql-bin.000002": ""}, nil, "mysql-bin"},
		{"the server's own directory", map[string]string{"mysql-bin.index": "/var/lib/mysql/mysql-bin.000003\n", "mysql-bin.000003": ""}, nil, "mysql-bin"},
		{"another directory", map[string]string{"mysql-bin.index": "/binlogs/mysql-bin.000003\n"}, nil, "/binlogs/mysql-bin"},
		{"logs that are gone", map[string]string{"mysql-bin.index": "./mysql-bin.000003\n"}, nil, "mysql-bin"},
		{"nothing listed", map[string]string{"db.2.index": ""}, nil, "db.2"},
		{"only relay logs", map[string]string{"db-1-relay-bin.index": "./db-1-relay-bin.000001\n"}, nil, ""},
		{"relay logs of another name", map[string]string{"rl.index": "./rl.000001\n"}, []string{"rl.index"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, tt.files)
			if got, err := BinlogBasename(dir, tt.but...); got != tt.want || err != nil {
				t.Errorf("%q (%v), want %q", got, err, tt.want)
			}
			if got, err := BinlogElsewhere(dir); got != "" || err != nil {
				t.Errorf("a directory without tablespaces tells of %q (%v)", got, err)
			}
		})
	}
}

// Whatever is in the files, no more than nothing is told.
func TestBinlogElsewhereIsCareful(t *testing.T) {
	dir := t.TempDir()
	random := rand.NewChaCha8([32]byte{1}) // the same each time
	for _, size := range []int{0, 10, 58, 16 << 10, 6 * 16 << 10} {
		text := make([]byte, size)
		_, _ = random.Read(text) // never fails
		if err := os.WriteFile(filepath.Join(dir, systemSpace), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := BinlogElsewhere(dir); got != "" || err != nil {
			t.Errorf("%d bytes tell of %q (%v)", size, got, err)
		}
	}
}
