package replicate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"understudy/replicate/dictionary"
)

// FileFacts are what was seen of the files that the server's dictionary names.
type FileFacts struct {
	// Missing are tables that lack a file, or have one that is too short, by schema and name.
	Missing []string
	// Unread is why that could not be seen; empty: it was. Tries is how often that was so.
	Unread string
	Tries  int
}

// unchecked says that nobody knows yet whether the data directory has all its files.
func (s Standing) unchecked() bool { return s.Unchecked && !s.Vouched }

// notLookedFor is the decision that askFiles changes.
var notLookedFor = Action{Wait, "the data directory was adopted, and it has not been seen yet whether it has all files that the server's dictionary names"}

func (s Standing) decideUnchecked(f Facts) Action {
	switch {
	case s.Vouched:
		return Action{MarkComplete, "the data directory was adopted, and " + dictionary.CompleteMark + " says that it is complete"}
	case f.Files == nil:
		return notLookedFor
	case f.Files.Unread != "":
		why := "the data directory was adopted, and whether it has all files that the server's dictionary names cannot be seen, will retry: " + f.Files.Unread +
			"; or, if you know that it is complete, make the empty file " + dictionary.CompleteMark + " in it"
		if f.Files.Tries >= unreadTries {
			return Action{Report, why}
		}
		return Action{Wait, why}
	case len(f.Files.Missing) > 0:
		return Action{Report, f.Files.missing(s)}
	}
	return Action{MarkComplete, "the adopted data directory has all files that the server's dictionary names"}
}

// missing says what is missing, and what to do.
func (f *FileFacts) missing(s Standing) string {
	const few = 5
	named := f.Missing[:min(few, len(f.Missing))]
	text := fmt.Sprintf("the data directory was adopted, and %d tables of the server's dictionary have no file, or one that is too short: %s", len(f.Missing), strings.Join(named, ", "))
	if len(f.Missing) > few {
		text += ", …"
	}
	text += ": a copy that was interrupted looks so; restore it again"
	if !s.Primary {
		text += ", or reseed this member, " + howToReseed
	}
	return text + "; or, if you know that nothing else is missing, make the empty file " + dictionary.CompleteMark + " in the data directory"
}

const (
	// lookThroughTimeout bounds one look at all files. A directory of 300 000 tables takes seconds
	// where its metadata are in memory, and minutes on a slow volume.
	lookThroughTimeout = 15 * time.Minute
	// lookThroughAgain is the time to the next one, at least, and in terms of its length.
	lookThroughAgain = 30 * time.Second
	// unreadTries is how many looks may fail before manual action is required.
	unreadTries       = 3
	lookThroughFactor = 10
)

// lookThrough is the last look at all files.
type lookThrough struct {
	said *FileFacts
	due  time.Time
}

func wantsFiles(_ view, action Action) bool { return action == notLookedFor }

// askFiles compares the data directory with the server's dictionary. MySQL's names all tables. In
// MariaDB's are those of InnoDB only; of the others, the .frm that were copied tell.
func (a *Agent) askFiles(ctx context.Context, _ Standing, f *Facts, _ Action) {
	if a.through.said != nil && time.Now().Before(a.through.due) {
		f.Files = a.through.said
		return
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, lookThroughTimeout)
	defer cancel()
	said := &FileFacts{}
	lost, err := a.lostFiles(ctx, dialectOf(f.Version))
	if err != nil {
		said.Unread, said.Tries = err.Error(), 1
		if a.through.said != nil {
			said.Tries += a.through.said.Tries
		}
	}
	for _, file := range slices.Concat(lost.Absent, lost.Short) {
		said.Missing = append(said.Missing, tableOf(file))
	}
	slices.Sort(said.Missing)
	said.Missing = slices.Compact(said.Missing)
	took := time.Since(began)
	a.log.Info("files of the server's dictionary looked for", "absent", len(lost.Absent), "short", len(lost.Short), "took", took.Round(time.Millisecond), "error", said.Unread)
	a.through = lookThrough{said, time.Now().Add(max(lookThroughAgain, lookThroughFactor*took))}
	f.Files = said
}

func (a *Agent) lostFiles(ctx context.Context, d dialect) (lost dictionary.Lost, err error) {
	if a.cfg.Missing == nil {
		return lost, errors.New("the volume is not known")
	}
	all, err := a.readDictionary(ctx, d)
	if err != nil {
		return lost, fmt.Errorf("read the server's dictionary: %w", err)
	}
	lost, err = a.cfg.Missing(ctx, all)
	if err != nil || len(lost.Absent) == 0 || len(lost.Short) > 0 || d.queryDiscarded == "" {
		return lost, err
	}
	discarded, err := a.readFiles(ctx, d.queryDiscarded)
	if err != nil {
		return lost, fmt.Errorf("read which tablespaces are discarded: %w", err)
	}
	lost.Absent = slices.DeleteFunc(lost.Absent, func(file string) bool { return slices.Contains(discarded, file) })
	return lost, nil
}

// partOf is what follows the name of a table in those of its partitions.
var partOf = regexp.MustCompile(`#[Pp]#.*$`)

// auxiliary are tables of full-text indexes, which have no .frm: FTS_, the table's id, and so on.
var auxiliary = regexp.MustCompile(`^FTS_[0-9a-f]{16}_`)

// tableOf is a table of which a file is, by schema and name. Characters that are not in names of
// files remain as the server writes them there.
func tableOf(file string) string {
	name := partOf.ReplaceAllString(strings.TrimSuffix(file, path.Ext(file)), "")
	return strings.Replace(name, "/", ".", 1)
}

// ofTable is InnoDB's name without the partition; false: it is no table of a schema's.
func ofTable(name string) (string, bool) {
	_, table, in := strings.Cut(name, "/")
	if !in || strings.HasPrefix(table, "#sql") {
		return "", false
	}
	return partOf.ReplaceAllString(name, ""), true
}

func (a *Agent) readDictionary(ctx context.Context, d dialect) (all dictionary.Dictionary, err error) {
	if d.queryInnoDB == "" {
		if all.Tablespaces, err = a.readFiles(ctx, d.queryTablespaces); err != nil {
			return all, err
		}
		err = a.eachRow(ctx, d.queryOthers, func(scan func(...any) error) error {
			var t dictionary.Table
			err := scan(&t.Schema, &t.Name, &t.Engine)
			all.Others = append(all.Others, t)
			return err
		})
		return all, err
	}
	all.Definitions, all.Defined = true, slices.Clone(d.files.always)
	last := ""
	return all, a.eachRow(ctx, d.queryInnoDB, func(scan func(...any) error) error {
		var name string
		var single bool
		if err := scan(&name, &single); err != nil {
			return err
		}
		table, ok := ofTable(name)
		if !ok {
			return nil
		}
		if single {
			all.Tablespaces = append(all.Tablespaces, name+".ibd")
		}
		if table != last && !auxiliary.MatchString(path.Base(table)) {
			all.Defined, all.InnoDB = append(all.Defined, table), append(all.InnoDB, table)
		}
		last = table
		return nil
	})
}

// readFiles reads names of files of InnoDB in the data directory.
func (a *Agent) readFiles(ctx context.Context, query string) (all []string, err error) {
	err = a.eachRow(ctx, query, func(scan func(...any) error) error {
		var file, dir string
		if err := scan(&file, &dir); err != nil {
			return err
		}
		file = path.Clean(strings.TrimPrefix(file, cmp.Or(dir, "./")))
		if !path.IsAbs(file) && !strings.HasPrefix(file, "../") && !strings.HasPrefix(path.Base(file), "#sql") {
			all = append(all, file)
		}
		return nil
	})
	return all, err
}

// eachRow asks as the administrator, who sees all tables. Where that account is refused, the one
// for clones does, which sees them, too.
func (a *Agent) eachRow(ctx context.Context, query string, read func(scan func(...any) error) error) error {
	if query == "" {
		return nil
	}
	err := each(ctx, a.logins.adminDB, query, read)
	if !refuses(err) {
		return err
	}
	db := a.logins.pool(a.logins.clone, a.logins.admin)
	defer func() { _ = db.Close() }()
	return each(ctx, db, query, read)
}

// each reads the rows of a query one after the other.
func each(ctx context.Context, db querier, query string, read func(scan func(...any) error) error, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := read(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
