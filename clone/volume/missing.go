package volume

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"understudy/replicate/dictionary"
)

// tableFiles are the files of a table, by its engine. Engines that are not in it have none, or none
// that is known here.
var tableFiles = map[string][]string{
	"MyISAM": {".MYI", ".MYD"}, "Aria": {".MAI", ".MAD"}, "CSV": {".CSM", ".CSV"}, "ARCHIVE": {".ARZ"}, "MRG_MYISAM": {".MRG"},
}

// neverEmpty are the extensions of files that have a header.
var neverEmpty = []string{".frm", ".ibd", ".ibu", ".MYI", ".MAI", ".CSM", ".ARZ"}

// engines are the engines by the number that a .frm has of them: legacy_db_type in the servers'
// sources.
var engines = map[byte]string{9: "MyISAM", 10: "MRG_MYISAM", innoDB: "InnoDB", 16: "ARCHIVE", 17: "CSV", 42: "Aria"}

const (
	innoDB      = 12
	partitioned = 20
)

// Missing compares the live directory with the server's dictionary. What lies outside of the
// directory, as by DATA DIRECTORY or a link, is not looked for.
func (v *Volume) Missing(ctx context.Context, d dictionary.Dictionary) (dictionary.Lost, error) {
	s := &search{ctx: ctx, dir: v.Live()}
	for _, path := range d.Tablespaces {
		s.tablespace(path)
	}
	for _, path := range d.Defined {
		s.defined(path)
	}
	for _, t := range d.Others {
		s.table(t)
	}
	if d.Definitions {
		s.definitions(d.InnoDB)
	}
	if err := errors.Join(s.err, ctx.Err()); err != nil {
		return dictionary.Lost{}, fmt.Errorf("look for the files of the server's dictionary: %w", err)
	}
	return s.lost, nil
}

// search is one look through a data directory.
type search struct {
	ctx  context.Context //nolint:containedctx // it lives as long as one call
	dir  string
	lost dictionary.Lost
	// err is the first thing that could not be looked at; nothing is looked at after it.
	err error
}

func (s *search) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

// look returns what is known of a file, nil where it is not there. Links count for what they are.
func (s *search) look(name string) fs.FileInfo {
	if s.err != nil || s.ctx.Err() != nil {
		return nil
	}
	info, err := os.Lstat(s.path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		s.err = err
	}
	return info
}

// outside says that a file's folder is a link to a place that cannot be seen here.
func (s *search) outside(name string) bool {
	folder := s.path(filepath.Dir(name))
	info, err := os.Lstat(folder)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return false
	}
	_, err = os.Stat(folder)
	return err != nil
}

// must notes a file that is not there, or empty where it has to have a header. It returns one that
// is as it should be.
func (s *search) must(name string) fs.FileInfo {
	info := s.look(name)
	switch {
	case s.err != nil || s.ctx.Err() != nil:
		return nil
	case info == nil && s.outside(name):
		return nil
	case info == nil:
		s.lost.Absent = append(s.lost.Absent, name)
		return nil
	case info.Mode().IsRegular() && info.Size() == 0 && slices.Contains(neverEmpty, filepath.Ext(name)):
		s.lost.Short = append(s.lost.Short, name)
		return nil
	}
	return info
}

// tablespace looks for a file of InnoDB. In the place of one with DATA DIRECTORY is a file that
// says where it is.
func (s *search) tablespace(name string) {
	if link := strings.TrimSuffix(name, ".ibd") + ".isl"; link != name && s.look(name) == nil && s.look(link) != nil {
		return
	}
	info := s.must(name)
	if info == nil || !info.Mode().IsRegular() || filepath.Ext(name) != ".ibd" {
		return
	}
	size, err := tablespaceSize(s.path(name))
	if err != nil {
		s.err = errors.Join(s.err, err)
		return
	}
	if info.Size() < size {
		s.lost.Short = append(s.lost.Short, name)
	}
}

// tablespaceSize is the least size in bytes of a file of InnoDB, by its first page: FSP_SIZE, in
// pages, and FSP_SPACE_FLAGS, which say how large these are, in fsp0types.h of the servers'
// sources. A server extends the file before it writes there that it has.
func tablespaceSize(path string) (int64, error) {
	const sizeAt, flagsAt, end = 46, 54, 58
	header, err := readHeader(path, end)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return end, nil
	}
	if err != nil {
		return 0, err
	}
	flags := binary.BigEndian.Uint32(header[flagsAt:])
	page := pageSize(flags)
	if zip := flags >> 1 & 0xf; flags&0x10 == 0 && zip > 0 { // ROW_FORMAT=COMPRESSED
		page = 512 << zip
	}
	return int64(binary.BigEndian.Uint32(header[sizeAt:])) * page, nil
}

func readHeader(path string, size int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	header := make([]byte, size)
	_, err = io.ReadFull(f, header)
	return header, err
}

// defined looks for a .frm, of which there may be one of several.
func (s *search) defined(names string) {
	all := strings.Split(names, "|")
	if !slices.ContainsFunc(all[1:], func(name string) bool { return s.look(name+".frm") != nil }) {
		s.must(all[0] + ".frm")
	}
}

// table looks for the files of a table by its name.
func (s *search) table(t dictionary.Table) {
	schema, ok := s.encode(".", t.Schema)
	name, there := "", false
	if ok {
		name, there = s.encode(schema, t.Name, tableFiles[t.Engine]...)
	}
	if !ok || !there {
		if s.err == nil && !s.outside(schema+"/x") {
			s.lost.Absent = append(s.lost.Absent, t.Schema+"/"+t.Name+tableFiles[t.Engine][0])
		}
		return
	}
	for _, extension := range tableFiles[t.Engine] {
		s.must(schema + "/" + name + extension)
	}
}

var plainName = regexp.MustCompile(`^[0-9A-Za-z_]+$`)

// encode returns the name of a table or schema as the server has it for files, and whether there is
// any such file. Of characters beyond ASCII it is not known here, and what is there is compared.
//
// https://dev.mysql.com/doc/refman/8.4/en/identifier-mapping.html
func (s *search) encode(folder, name string, extensions ...string) (string, bool) {
	if s.err != nil {
		return name, false
	}
	if len(extensions) == 0 {
		extensions = []string{""}
	}
	exists := func(as string) bool {
		return slices.ContainsFunc(extensions, func(e string) bool { return s.look(folder+"/"+as+e) != nil })
	}
	if plainName.MatchString(name) && exists(name) {
		return name, true
	}
	var pattern strings.Builder
	for _, c := range name {
		switch {
		case plainName.MatchString(string(c)):
			pattern.WriteRune(c)
		case c < 0x80:
			fmt.Fprintf(&pattern, "@%04x", c)
		default:
			pattern.WriteString("@(?:[0-9a-z]{4}|[0-9A-Za-z]{2})")
		}
	}
	like, err := regexp.Compile("^(" + pattern.String() + "(?:@@@)?)(?:" + strings.ReplaceAll(strings.Join(extensions, "|"), ".", `\.`) + ")$")
	if err != nil {
		s.err = err
		return name, false
	}
	entries, err := os.ReadDir(s.path(folder))
	if err != nil {
		return name, false
	}
	for _, e := range entries {
		if found := like.FindStringSubmatch(e.Name()); found != nil {
			return found[1], true
		}
	}
	return name, false
}

// definitions looks for the files of all tables that have a .frm. Those that have an .ibd, too, are
// InnoDB's, of which the dictionary tells.
func (s *search) definitions(ofInnoDB []string) {
	known := make(map[string]bool, len(ofInnoDB))
	for _, name := range ofInnoDB {
		known[name] = true
	}
	entries, err := os.ReadDir(s.dir)
	s.err = errors.Join(s.err, err)
	for _, e := range entries {
		if s.err != nil || s.ctx.Err() != nil {
			return
		}
		if info, err := os.Stat(s.path(e.Name())); err != nil || !info.IsDir() || strings.HasPrefix(e.Name(), "#") || e.Name() == lostFound {
			continue
		}
		s.schema(e.Name(), known)
	}
}

func (s *search) schema(schema string, known map[string]bool) {
	entries, err := os.ReadDir(s.path(schema))
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return // it is not the server's, which reads as this account does, or was dropped meanwhile
	}
	if err != nil {
		s.err = err
		return
	}
	there := make(map[string]bool, len(entries))
	for _, e := range entries {
		there[e.Name()] = true
	}
	for _, e := range entries {
		name, isTable := strings.CutSuffix(e.Name(), ".frm")
		if !isTable || strings.HasPrefix(name, "#sql") || there[name+".ibd"] || s.err != nil || s.ctx.Err() != nil {
			continue
		}
		s.definition(schema+"/"+name, known)
	}
}

// definition looks for the files of a table that has a .frm, which says what engine it has: FRM
// format in the servers' sources.
func (s *search) definition(table string, known map[string]bool) {
	const engineAt, partsEngineAt, end = 3, 61, 64
	header, err := readHeader(s.path(table+".frm"), end)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		if !bytes.HasPrefix(header, []byte("TYPE=")) {
			s.lost.Short = append(s.lost.Short, table+".frm")
		}
		return
	case errors.Is(err, fs.ErrNotExist): // dropped meanwhile
		return
	case err != nil:
		s.err = err
		return
	case !bytes.HasPrefix(header, []byte{0xfe, 0x01}): // a view
		return
	}
	engine, names := header[engineAt], []string{table}
	if engine == partitioned {
		engine = header[partsEngineAt]
		names = s.partitions(table)
	}
	switch {
	case engine == innoDB && !known[table]:
		s.lost.Absent = append(s.lost.Absent, table+".ibd")
	case engine == innoDB:
		return
	}
	for _, name := range names {
		for _, extension := range tableFiles[engines[engine]] {
			s.must(name + extension)
		}
	}
}

// partitions are the names of a table's parts, which stand in its file .par: its length and a
// checksum, the number of parts, an engine for each, the length of all names, and the names. All
// lengths are of four bytes: see ha_partition.cc in MariaDB's sources.
func (s *search) partitions(table string) []string {
	if s.must(table+".par") == nil {
		return nil
	}
	text, err := os.ReadFile(s.path(table + ".par"))
	if err != nil {
		s.err = err
		return nil
	}
	const countAt, enginesAt, word = 8, 12, 4
	short := func() []string {
		s.lost.Short = append(s.lost.Short, table+".par")
		return nil
	}
	if len(text) < enginesAt || int64(len(text)) < int64(binary.LittleEndian.Uint32(text))*word {
		return short()
	}
	count := int(binary.LittleEndian.Uint32(text[countAt:]))
	at := enginesAt + (count+word-1)/word*word + word
	if at < 0 || at > len(text) {
		return short()
	}
	var names []string
	for _, part := range bytes.SplitN(text[at:], []byte{0}, count+1) {
		if len(names) < count {
			names = append(names, table+"#P#"+string(part))
		}
	}
	return names
}
