package replicate

import (
	"crypto/sha1" //nolint:gosec // the hash of mysql_native_password is defined with it
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"understudy/replicate/flavor"
)

// The SQL of the accounts that the primary's sidecar makes, and what each may do: as little as it
// can work with.
//
// https://mariadb.com/kb/en/grant/
// https://dev.mysql.com/doc/refman/8.4/en/privileges-provided.html

// Where an account may come from: replicas from anywhere, all others from beside the server.
const (
	anyHost = "%"
	inPod   = "127.%"
	// bySocket is who comes over the server's socket: no pattern of addresses has it.
	bySocket = "localhost"
)

// privilege is a right of an account, and why it has it.
type privilege struct {
	name string
	// on is what it is for: SCHEMA.TABLE or SCHEMA.*; empty: everything.
	on string
	// needs is a statement that is refused without it. Where the server would answer with less
	// instead, it is empty, and why says what is for.
	needs, why string
	// only says when it is needed.
	only condition
}

// condition is on what a privilege depends.
type condition int

const (
	// always: on nothing.
	always condition = iota
	// withoutGTIDs: on sets that replicate by file and position.
	withoutGTIDs
	// withTool: where XtraBackup may make the backups.
	withTool
)

func (p privilege) String() string {
	if p.on == "" {
		return p.name
	}
	return p.name + " ON " + p.on
}

// replicationPrivileges are those of the replication account.
var replicationPrivileges = []privilege{{name: "REPLICATION SLAVE", why: "replicas follow the primary"}}

var mariaDBSidecar = []privilege{
	{name: "SLAVE MONITOR", needs: "SHOW ALL SLAVES STATUS"},
	{name: "BINLOG MONITOR", needs: queryBinlogs},
	{name: "REPLICATION SLAVE ADMIN", needs: "STOP SLAVE"},                                 // START, CHANGE, gtid_slave_pos, rpl_semi_sync_slave_*, too
	{name: "REPLICATION MASTER ADMIN", needs: "SET GLOBAL server_id = @@GLOBAL.server_id"}, // rpl_semi_sync_master_*, too
	{name: "READ_ONLY ADMIN", needs: "SET GLOBAL read_only = ON"},
	{name: "RELOAD", needs: "RESET SLAVE ALL"},
	{name: "PROCESS", needs: "SHOW ENGINE INNODB STATUS"},                                          // shows the applier's thread
	{name: "CONNECTION ADMIN", needs: "SET GLOBAL max_connections = @@GLOBAL.max_connections"},     // lets it in where clients have all connections
	{name: "SELECT", on: "mysql.global_priv", needs: "SELECT Priv FROM mysql.global_priv LIMIT 1"}, // whether the accounts are right
	{name: "SELECT", on: "mysql.tables_priv", needs: "SELECT Table_priv FROM mysql.tables_priv LIMIT 1"},
}

// mariaDBClone are what mariadb-backup needs. The statements are some of its own.
//
// https://mariadb.com/kb/en/mariabackup-overview/#authentication-and-privileges
var mariaDBClone = []privilege{
	{name: "RELOAD", needs: "BACKUP STAGE START"},
	{name: "PROCESS", needs: "SHOW ENGINE INNODB STATUS"},
	{name: "BINLOG MONITOR", needs: "SHOW MASTER STATUS"},
	{name: "SLAVE MONITOR", needs: "SHOW ALL SLAVES STATUS"},
	seesTables,
}

// seesTables lets a backup name the tables that it would lose.
var seesTables = privilege{name: "SHOW VIEW", why: "information_schema.tables names only tables to which there is a right, and this is the least of them"}

// selectPerformance is not on single tables: those of the clone plugin are there only where it is
// loaded, and a replica that lacks them would stop at a GRANT that names them.
var selectPerformance = privilege{name: "SELECT", on: "performance_schema.*", needs: "SELECT 1 FROM performance_schema.replication_applier_status_by_worker"}

var mysqlSidecar = []privilege{
	{name: "REPLICATION CLIENT", needs: "SHOW REPLICA STATUS"},
	{name: "REPLICATION_SLAVE_ADMIN", needs: "STOP REPLICA"},                             // START, CHANGE, too
	{name: "SYSTEM_VARIABLES_ADMIN", needs: "SET GLOBAL server_id = @@GLOBAL.server_id"}, // read_only, gtid_purged, rpl_semi_sync_*, too
	{name: "RELOAD", needs: "RESET REPLICA ALL"},
	{name: "CONNECTION_ADMIN", needs: "ALTER INSTANCE RELOAD TLS"}, // and lets it in where clients have all connections
	selectPerformance,
	{name: "SELECT", on: "mysql.user", needs: "SELECT User FROM mysql.user LIMIT 1"}, // whether the accounts are right
	{name: "SELECT", on: "mysql.global_grants", needs: "SELECT PRIV FROM mysql.global_grants LIMIT 1"},
	{name: "SELECT", on: "mysql.db", needs: "SELECT Db FROM mysql.db LIMIT 1"},
	{name: "SELECT", on: "mysql.tables_priv", needs: "SELECT Db FROM mysql.tables_priv LIMIT 1"},
}

// mysqlClone are what CLONE needs, and XtraBackup by its manual.
//
// https://dev.mysql.com/doc/refman/8.4/en/clone-plugin-local.html
// https://docs.percona.com/percona-xtrabackup/8.4/privileges.html
var mysqlClone = []privilege{
	{name: "BACKUP_ADMIN", needs: "LOCK INSTANCE FOR BACKUP"},
	{name: "PROCESS", needs: "SELECT path FROM information_schema.innodb_datafiles LIMIT 1"},
	selectPerformance,
	seesTables,
	{name: "REPLICATION_SLAVE_ADMIN", needs: "STOP REPLICA SQL_THREAD", only: withoutGTIDs},
	{name: "SELECT", on: "mysql.slave_relay_log_info", needs: "SELECT Master_log_name FROM mysql.slave_relay_log_info", only: withoutGTIDs},
	{name: "RELOAD", needs: "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS", only: withTool},
	{name: "LOCK TABLES", why: "LOCK TABLES FOR BACKUP of Percona Server", only: withTool},
	{name: "REPLICATION CLIENT", needs: "SHOW REPLICA STATUS", only: withTool},
}

// alsoHeld joins the questions about what an account may.
const alsoHeld = " UNION ALL "

// ofAccount ends the questions about an account.
const ofAccount = " WHERE User = ? AND Host = ?"

// heldMySQL ask for the privileges that an account holds: for everything, for schemas, for tables.
//
// https://dev.mysql.com/doc/refman/8.4/en/grant-tables.html
var heldMySQL = append(
	holding("mysql.user", map[string]string{
		"RELOAD": "Reload_priv = 'Y'", "PROCESS": "Process_priv = 'Y'", "SUPER": "Super_priv = 'Y'", "LOCK TABLES": "Lock_tables_priv = 'Y'",
		"REPLICATION SLAVE": "Repl_slave_priv = 'Y'", "REPLICATION CLIENT": "Repl_client_priv = 'Y'", "SHOW VIEW": "Show_view_priv = 'Y'",
	}),
	"SELECT CONCAT('SELECT ON ', Db, '.*') FROM mysql.db"+ofAccount+" AND Select_priv = 'Y'", heldTables,
)

const (
	heldDynamic = "SELECT PRIV FROM mysql.global_grants" + ofAccount // MySQL 8.0 and later
	heldTables  = "SELECT CONCAT('SELECT ON ', Db, '.', Table_name) FROM mysql.tables_priv" + ofAccount + " AND FIND_IN_SET('Select', Table_priv) > 0"
)

// heldMariaDB asks the same. The numbers are bits.
//
// https://github.com/MariaDB/server/blob/10.11/sql/privilege.h
var heldMariaDB = append(holding("mysql.global_priv", map[string]string{
	"RELOAD": access(6), "PROCESS": access(8), "REPLICATION SLAVE": access(19), "BINLOG MONITOR": access(20), "SHOW VIEW": access(22),
	"CONNECTION ADMIN": access(32), "READ_ONLY ADMIN": access(33), "REPLICATION SLAVE ADMIN": access(34), "REPLICATION MASTER ADMIN": access(35), "SLAVE MONITOR": access(38),
}), heldTables)

func access(bit int) string { return fmt.Sprintf("JSON_VALUE(Priv, '$.access') & (1 << %d)", bit) }

func holding(table string, when map[string]string) []string {
	var all []string
	for name, condition := range when {
		all = append(all, "SELECT '"+name+"' FROM "+table+ofAccount+" AND "+condition)
	}
	return all
}

// accounts sets what is about accounts in a dialect of MySQL.
func (d *dialect) accounts(v flavor.Version) {
	second := "''"
	if d.second = never; v.AtLeast(8, 0, 14) {
		d.second, second = retained, "COALESCE(User_attributes->>'$.additional_password', '')"
	}
	d.queryAccount = "SELECT authentication_string, plugin, " + second + ", " + mysqlBar + " FROM mysql.user" + ofAccount
	d.sidecar, d.clone, d.held = mysqlSidecar, mysqlClone, append([]string{heldDynamic}, heldMySQL...)
	if !v.AtLeast(8, 0, 0) {
		// It has SUPER in place of the privileges with an underscore, and no CLONE.
		newer := func(p privilege) bool {
			return strings.Contains(p.name, "_") || p.on == "mysql.global_grants" || p.only == withoutGTIDs
		}
		d.sidecar = append(slices.DeleteFunc(slices.Clone(d.sidecar), newer), privilege{name: "SUPER", needs: "STOP SLAVE"})
		d.clone, d.held = slices.DeleteFunc(slices.Clone(d.clone), newer), heldMySQL
	}
}

// queryMariaDBAccount reads the alternatives as an array, in which an empty object stands for what
// is beside it.
const queryMariaDBAccount = `SELECT COALESCE(JSON_VALUE(Priv, '$.authentication_string'), ''), COALESCE(JSON_VALUE(Priv, '$.plugin'), ''), CASE
	WHEN COALESCE(JSON_LENGTH(Priv, '$.auth_or'), 1) = 1 THEN ''
	WHEN JSON_LENGTH(Priv, '$.auth_or') = 2 AND JSON_VALUE(Priv, '$.auth_or[1].plugin') = JSON_VALUE(Priv, '$.plugin')
		THEN JSON_VALUE(Priv, '$.auth_or[1].authentication_string')
	ELSE '` + otherPassword + `' END, CASE
	WHEN JSON_VALUE(Priv, '$.account_locked') = 1 THEN '` + barLocked + `'
	WHEN JSON_VALUE(Priv, '$.password_last_changed') = 0 THEN '` + barExpired + `'
	WHEN COALESCE(NULLIF(JSON_VALUE(Priv, '$.password_lifetime'), -1), @@GLOBAL.default_password_lifetime) <> 0 THEN '` + barExpires + `'
	ELSE '' END FROM mysql.global_priv` + ofAccount

// mysqlBar is what bars an account of MySQL, or will.
const mysqlBar = `CASE
	WHEN account_locked = 'Y' THEN '` + barLocked + `'
	WHEN password_expired = 'Y' THEN '` + barExpired + `'
	WHEN COALESCE(password_lifetime, @@GLOBAL.default_password_lifetime) <> 0 THEN '` + barExpires + `'
	ELSE '' END`

// What bars an account whose password is right.
const (
	barLocked  = "is locked"
	barExpired = "has expired"
	barExpires = "has a password that expires"
)

// queryLogin is the account as which we are in, user@host.
const queryLogin = "SELECT CURRENT_USER()"

// scheme is a way to prove oneself by a password.
type scheme struct {
	plugin string
	// identified follows an account's name; the hash is its value.
	identified string
	// hash makes what the plugin stores of a password, with a new salt if it has one.
	hash func(password string) string
	// isHash compares what is stored with a password.
	isHash func(stored, password string) bool
}

// MySQL's schemes.
var (
	cachingScheme = scheme{"caching_sha2_password", "IDENTIFIED WITH caching_sha2_password AS ?", cachingSHA2, isCachingSHA2}
	nativeScheme  = scheme{nativePlugin, "IDENTIFIED WITH mysql_native_password AS ?", nativeHash, isNativeHash}
)

const nativePlugin = "mysql_native_password"

// second names the statements that give an account two passwords.
type second int

const (
	// never: it cannot have two.
	never second = iota
	// retained: a change of the password can keep the one before, on MySQL from 8.0.14 on.
	// https://dev.mysql.com/doc/refman/8.4/en/password-management.html#dual-passwords
	retained
	// alternative: it can have several ways to prove itself, on MariaDB from 10.4 on.
	// https://mariadb.com/kb/en/authentication-from-mariadb-10-4/
	alternative
)

// otherPassword stands for a second password that we did not set.
const otherPassword = "?"

// schemes are those by which an account may prove itself that is not ours.
func (d dialect) schemes() []scheme {
	if d.second == alternative {
		return []scheme{d.scheme}
	}
	return []scheme{cachingScheme, nativeScheme}
}

// nativeHash is what mysql_native_password stores: "*" and the hex of SHA-1 over the SHA-1 of the
// password. With it in the statement, no password enters the binary log.
//
// https://mariadb.com/kb/en/authentication-plugin-mysql_native_password/
func nativeHash(password string) string {
	once := sha1.Sum([]byte(password)) //nolint:gosec // as above
	twice := sha1.Sum(once[:])         //nolint:gosec // as above
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:]))
}

func isNativeHash(stored, password string) bool {
	return strings.EqualFold(stored, nativeHash(password))
}

// account is one that the primary's sidecar makes.
type account struct {
	user, host string
	passwords
	privileges []privilege
}

func (a account) name() string { return a.user + "@" + a.host }

// accountStatements make an account, or make it right. What it may do beyond that is left.
func (d dialect) accountStatements(a account) []statement {
	all := []statement{{"CREATE USER IF NOT EXISTS ?@? " + d.identified, []any{a.user, a.host, d.hash(a.current)}}}
	all = append(all, d.passwordStatements(a.user, a.host, d.scheme, a.passwords)...)
	// default_password_lifetime is for people, who can choose the next password. On a replica that
	// does not have the account this must not stop replication.
	all = append(all, statement{"ALTER USER IF EXISTS ?@? PASSWORD EXPIRE NEVER ACCOUNT UNLOCK", []any{a.user, a.host}})
	var on []string
	names := map[string][]string{}
	for _, p := range a.privileges {
		if names[p.on] == nil {
			on = append(on, p.on)
		}
		names[p.on] = append(names[p.on], p.name)
	}
	for _, to := range on {
		what := to
		if to == "" {
			what = "*.*"
		}
		all = append(all, statement{"GRANT " + strings.Join(names[to], ", ") + " ON " + what + " TO ?@?", []any{a.user, a.host}})
	}
	return all
}

// admitted lets the administrator make the statements on a server that is fenced, and fences it
// again afterwards.
func (d dialect) admitted(all []statement, readOnly bool) []statement {
	if readOnly && d.admit != "" {
		all = append(append([]statement{{text: d.admit}}, all...), statement{text: d.fence})
	}
	return all
}

// passwordStatements give an account its password and, where the server can, the one before it,
// whatever it had.
func (d dialect) passwordStatements(user, host string, by scheme, p passwords) []statement {
	alter := func(more string, values ...any) statement {
		// On a replica that does not have the account this must not stop replication.
		return statement{"ALTER USER IF EXISTS ?@? " + more, append([]any{user, host}, values...)}
	}
	switch {
	case d.second == alternative && p.previous != "":
		return []statement{alter(by.identified+" OR "+by.plugin+" USING ?", by.hash(p.current), by.hash(p.previous))}
	case d.second == retained && p.previous != "":
		return []statement{alter(by.identified, by.hash(p.previous)), alter(by.identified+" RETAIN CURRENT PASSWORD", by.hash(p.current))}
	case d.second == retained:
		// A new password alone does not end the second one.
		return []statement{alter(by.identified, by.hash(p.current)), alter("DISCARD OLD PASSWORD")}
	}
	return []statement{alter(by.identified, by.hash(p.current))}
}

// queryAdmitted is a statement that only an expired account is refused.
const queryAdmitted = "DO 0"
