package volume

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/replicate/dictionary"

	"github.com/google/go-cmp/cmp"
)

// definition is the beginning of a .frm of an engine, and of that of its partitions.
func definition(engine, parts byte) string {
	frm := make([]byte, 96)
	frm[0], frm[1], frm[2], frm[3], frm[61] = 0xfe, 1, 10, engine, parts
	return string(frm)
}

// space is a file of InnoDB that says that it has so many pages, and has so many bytes.
func space(flags, pages uint32, bytes int) string {
	file := make([]byte, bytes)
	if bytes >= 58 {
		binary.BigEndian.PutUint32(file[46:], pages)
		binary.BigEndian.PutUint32(file[54:], flags)
	}
	return string(file)
}

// parts is the file of a table's partitions, as MariaDB writes it.
const parts = "\x07\x00\x00\x00K9\x00p\x02\x00\x00\x00\x09\x09\x00\x00\x06\x00\x00\x00p0\x00p1\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// Each table is looked for by what its engine has of it.
func TestMissing(t *testing.T) {
	const full, old = 0x15, 0 // MariaDB's flags of today, and those of all servers before
	kib := func(n int) int { return n << 10 }
	defined := func(names ...string) dictionary.Dictionary {
		return dictionary.Dictionary{Definitions: true, Defined: names, InnoDB: names}
	}
	spaces := func(names ...string) dictionary.Dictionary { return dictionary.Dictionary{Tablespaces: names} }
	others := func(engine string, names ...string) (d dictionary.Dictionary) {
		for _, name := range names {
			schema, table, _ := strings.Cut(name, "/")
			d.Others = append(d.Others, dictionary.Table{Schema: schema, Name: table, Engine: engine})
		}
		return d
	}
	view := "TYPE=VIEW\nquery=select 1"
	tests := []struct {
		name  string
		files map[string]string
		d     dictionary.Dictionary
		want  dictionary.Lost
	}{
		{"a tablespace", map[string]string{"s/t.ibd": space(full, 4, kib(64))}, spaces("s/t.ibd"), dictionary.Lost{}},
		{"one that is not there", nil, spaces("s/t.ibd"), dictionary.Lost{Absent: []string{"s/t.ibd"}}},
		{"one that is larger than it knows yet", map[string]string{"s/t.ibd": space(full, 4, kib(128))}, spaces("s/t.ibd"), dictionary.Lost{}},
		{"one that is too short", map[string]string{"s/t.ibd": space(full, 4, kib(63))}, spaces("s/t.ibd"), dictionary.Lost{Short: []string{"s/t.ibd"}}},
		{"an old one that is too short", map[string]string{"s/t.ibd": space(old, 4, kib(63))}, spaces("s/t.ibd"), dictionary.Lost{Short: []string{"s/t.ibd"}}},
		{"pages of 4 KiB", map[string]string{"s/t.ibd": space(3<<1|0x21, 7, kib(28))}, spaces("s/t.ibd"), dictionary.Lost{}},
		{"pages of 64 KiB", map[string]string{"s/t.ibd": space(0x17, 4, kib(255))}, spaces("s/t.ibd"), dictionary.Lost{Short: []string{"s/t.ibd"}}},
		{"an empty one", map[string]string{"s/t.ibd": ""}, spaces("s/t.ibd"), dictionary.Lost{Short: []string{"s/t.ibd"}}},
		{"some bytes of one", map[string]string{"s/t.ibd": "x"}, spaces("s/t.ibd"), dictionary.Lost{Short: []string{"s/t.ibd"}}},
		{"one elsewhere", map[string]string{"s/t.isl": "/elsewhere/s/t.ibd"}, spaces("s/t.ibd"), dictionary.Lost{}},
		{"a definition", map[string]string{"s/t.frm": definition(12, 0)}, defined("s/t"), dictionary.Lost{}},
		{"one that is missing", map[string]string{"s/t.ibd": "x"}, defined("s/t"), dictionary.Lost{Absent: []string{"s/t.frm"}}},
		{"one by another name", map[string]string{"m/user.frm": view}, dictionary.Dictionary{Definitions: true, Defined: []string{"m/global_priv|m/user"}}, dictionary.Lost{}},
		{"by neither", nil, dictionary.Dictionary{Definitions: true, Defined: []string{"m/global_priv|m/user"}}, dictionary.Lost{Absent: []string{"m/global_priv.frm"}}},
		{"a table that InnoDB does not know", map[string]string{"s/t.frm": definition(12, 0)}, defined(), dictionary.Lost{Absent: []string{"s/t.ibd"}}},
		{"half a definition", map[string]string{"s/t.frm": definition(9, 0)[:50]}, defined(), dictionary.Lost{Short: []string{"s/t.frm"}}},
		{"a view, and a short one", map[string]string{"s/v.frm": view, "s/w.frm": view + strings.Repeat(" ", 99)}, defined(), dictionary.Lost{}},
		{"MyISAM", map[string]string{"s/t.frm": definition(9, 0), "s/t.MYI": "x", "s/t.MYD": ""}, defined(), dictionary.Lost{}},
		{"half of MyISAM", map[string]string{"s/t.frm": definition(9, 0), "s/t.MYI": ""}, defined(), dictionary.Lost{Absent: []string{"s/t.MYD"}, Short: []string{"s/t.MYI"}}},
		{"half of Aria", map[string]string{"s/t.frm": definition(42, 0), "s/t.MAI": "x"}, defined(), dictionary.Lost{Absent: []string{"s/t.MAD"}}},
		{"MEMORY, and what is not known", map[string]string{"s/t.frm": definition(6, 0), "s/u.frm": definition(99, 0)}, defined(), dictionary.Lost{}},
		{"partitions", map[string]string{"s/t.frm": definition(20, 9), "s/t.par": parts, "s/t#P#p0.MYI": "x", "s/t#P#p0.MYD": "", "s/t#P#p1.MYI": "x"}, defined(), dictionary.Lost{Absent: []string{"s/t#P#p1.MYD"}}},
		{"no list of them", map[string]string{"s/t.frm": definition(20, 9)}, defined(), dictionary.Lost{Absent: []string{"s/t.par"}}},
		{"half a list", map[string]string{"s/t.frm": definition(20, 9), "s/t.par": parts[:20]}, defined(), dictionary.Lost{Short: []string{"s/t.par"}}},
		{"what a server throws away", map[string]string{"s/#sql-1.frm": "x", "#x/t.frm": "x"}, defined(), dictionary.Lost{}},
		{"by name", map[string]string{"s/t.MYI": "x", "s/t.MYD": "x"}, others("MyISAM", "s/t"), dictionary.Lost{}},
		{"by name, without one of them", map[string]string{"s/t.MYD": "x"}, others("MyISAM", "s/t"), dictionary.Lost{Absent: []string{"s/t.MYI"}}},
		{"by name, without both", map[string]string{"s/u.MYD": "x"}, others("MyISAM", "s/t"), dictionary.Lost{Absent: []string{"s/t.MYI"}}},
		{"by name, without the schema", nil, others("CSV", "s/t"), dictionary.Lost{Absent: []string{"s/t.CSM"}}},
		{"odd names", map[string]string{"we@002dird@0p/a@002eb@0p@6211.ARZ": "x"}, others("ARCHIVE", "we-irdé/a.bé我"), dictionary.Lost{}},
		{"names that only look alike", map[string]string{"s/a@002eb.ARZ": "x"}, others("ARCHIVE", "s/a-b"), dictionary.Lost{Absent: []string{"s/a-b.ARZ"}}},
		{"a name that no file may have", map[string]string{"s/con@@@.CSM": "x", "s/con@@@.CSV": "x"}, others("CSV", "s/con"), dictionary.Lost{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := open(t, t.TempDir())
			fill(t, v.Live(), tt.files)
			if err := os.MkdirAll(v.Live(), DirMode); err != nil {
				t.Fatal(err)
			}
			got, err := v.Missing(t.Context(), tt.d)
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%v, %s", err, diff)
			}
		})
	}
}

// A schema behind a link that leads out of what is mounted here is not looked for.
func TestMissingElsewhere(t *testing.T) {
	v := open(t, t.TempDir())
	fill(t, v.Live(), map[string]string{"s/t.ibd": space(0x15, 4, 64<<10)})
	if err := os.Symlink("/nowhere/else", filepath.Join(v.Live(), "far")); err != nil {
		t.Fatal(err)
	}
	got, err := v.Missing(t.Context(), dictionary.Dictionary{
		Tablespaces: []string{"s/t.ibd", "far/t.ibd"}, Definitions: true, Defined: []string{"far/t"},
		Others: []dictionary.Table{{Schema: "far", Name: "m", Engine: "MyISAM"}},
	})
	if diff := cmp.Diff(dictionary.Lost{}, got); err != nil || diff != "" {
		t.Errorf("%v, %s", err, diff)
	}
}
