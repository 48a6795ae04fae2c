package engine

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// need is a privilege without which a backup fails, perhaps after hours.
type need struct {
	// name is the privilege; or are others that suffice.
	name string
	or   []string
	// tables are those for which it is needed, of performance_schema, or of the schema in; empty: it is
	// needed globally.
	tables []string
	in     string
}

// schema is the one of its tables.
func (n need) schema() string { return cmp.Or(n.in, "performance_schema") }

// object is what a statement names that grants it.
func (n need) object() string {
	switch {
	case len(n.tables) == 0:
		return "*.*"
	case n.in != "":
		return n.in + "." + n.tables[0]
	}
	return n.schema() + ".*"
}

func (n need) String() string {
	if len(n.tables) > 0 {
		return n.name + " ON " + n.object()
	}
	return n.name
}

// seesTables is what information_schema.tables requires for a table to be visible. Without it,
// tables that a copy would lack stay unseen.
var seesTables = need{name: "SHOW VIEW", or: []string{
	"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "REFERENCES", "INDEX", "ALTER", "CREATE VIEW", "TRIGGER",
}}

// mariaDBNeeds are the privileges for mariadb-backup.
//
// https://mariadb.com/kb/en/mariabackup-overview/#authentication-and-privileges
var mariaDBNeeds = []need{
	{name: "RELOAD"},
	{name: "PROCESS"},
	{name: "BINLOG MONITOR", or: []string{"REPLICATION CLIENT", "SUPER"}},
	{name: "SLAVE MONITOR", or: []string{"REPLICA MONITOR", "REPLICATION CLIENT", "SUPER"}},
	seesTables,
}

// xtraNeeds are the privileges for XtraBackup from 8.0 on, xtra24Needs those for 2.4. LOCK TABLES,
// which its manual also names, is used on Percona Server only.
//
// https://docs.percona.com/percona-xtrabackup/8.4/privileges.html
// https://docs.percona.com/percona-xtrabackup/2.4/using_xtrabackup/privileges.html
var (
	xtraNeeds = []need{
		{name: "BACKUP_ADMIN"},
		{name: "PROCESS"},
		{name: "RELOAD"},
		{name: "REPLICATION CLIENT", or: []string{"SUPER"}},
		{name: "SELECT", tables: []string{"log_status"}},
		seesTables,
	}
	xtra24Needs = []need{
		{name: "PROCESS"},
		{name: "RELOAD"},
		{name: "REPLICATION CLIENT", or: []string{"SUPER"}},
		seesTables,
	}
)

// cloneNeeds are the privileges for CLONE LOCAL and for watching it.
var cloneNeeds = []need{
	{name: "BACKUP_ADMIN"},
	{name: "PROCESS"},
	{name: "SELECT", tables: []string{"clone_progress", "clone_status", "threads", "metadata_locks", "replication_connection_configuration"}},
	seesTables,
}

// applierNeeds are those for a copy of a replica without GTIDs, whose applier stands still meanwhile.
var applierNeeds = []need{
	{name: "REPLICATION_SLAVE_ADMIN", or: []string{"SUPER"}},
	{name: "SELECT", in: "mysql", tables: []string{"slave_relay_log_info"}},
}

// checkPrivileges returns ErrUnable with all privileges that the account lacks.
func checkPrivileges(ctx context.Context, db *sql.DB, needs []need) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var account string
	if err := db.QueryRowContext(ctx, "SELECT CURRENT_USER()").Scan(&account); err != nil {
		return fmt.Errorf("ask for the account of backups: %w", err)
	}
	lines, err := column(ctx, db, "SHOW GRANTS")
	if err != nil {
		return fmt.Errorf("ask what the account of backups may do: %w", err)
	}
	return parseGrants(lines).check(account, needs)
}

// grants are an account's privileges by object: "*.*", "schema.*" or "schema.table".
type grants map[string][]string

// parseGrants parses SHOW GRANTS, which includes the active roles'.
//
// https://dev.mysql.com/doc/refman/8.4/en/show-grants.html
func parseGrants(lines []string) grants {
	unquote := strings.NewReplacer("`", "", `"`, "")
	g := grants{}
	for _, line := range lines {
		line, granted := strings.CutPrefix(line, "GRANT ")
		names, rest, on := strings.Cut(line, " ON ")
		what, _, to := strings.Cut(rest, " TO ")
		if !granted || !on || !to {
			continue // a granted role, or a password
		}
		what = strings.ToLower(unquote.Replace(what))
		for name := range strings.SplitSeq(names, ",") {
			g[what] = append(g[what], strings.ToUpper(strings.TrimSpace(name)))
		}
	}
	return g
}

func (g grants) check(account string, needs []need) error {
	var lacks, global, objects []string
	for _, n := range needs {
		if g.has(n) {
			continue
		}
		lacks = append(lacks, n.String())
		if len(n.tables) == 0 {
			global = append(global, n.name)
		} else if o := n.object(); !slices.Contains(objects, o) {
			objects = append(objects, o)
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	user, host, _ := strings.Cut(account, "@")
	to := fmt.Sprintf(" TO '%s'@'%s'", user, host)
	var statements []string
	if len(global) > 0 {
		statements = append(statements, "GRANT "+strings.Join(global, ", ")+" ON *.*"+to)
	}
	for _, o := range objects {
		statements = append(statements, "GRANT SELECT ON "+o+to)
	}
	return fmt.Errorf("%w: the account %s of backups lacks %s: on the primary, %s", ErrUnable, account, strings.Join(lacks, ", "), strings.Join(statements, "; "))
}

func (g grants) has(n need) bool {
	may := func(on string) bool {
		return slices.ContainsFunc(g[on], func(name string) bool {
			return name == "ALL PRIVILEGES" || name == n.name || slices.Contains(n.or, name)
		})
	}
	schema := n.schema() + "."
	if may("*.*") || len(n.tables) > 0 && may(schema+"*") {
		return true
	}
	missing := func(table string) bool { return !may(schema + table) }
	return len(n.tables) > 0 && !slices.ContainsFunc(n.tables, missing)
}
