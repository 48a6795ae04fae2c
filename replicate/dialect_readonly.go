package replicate

// The variables by whose origin it is told how a server has started.
const (
	variableReadOnly      = "read_only"
	variableSuperReadOnly = "super_read_only"
	variableEvents        = "event_scheduler"
)

const (
	// queryMySQLOrigin does not take what an init_file does for a statement of anybody: its account
	// is "boot".
	//
	// https://dev.mysql.com/doc/refman/8.4/en/performance-schema-variables-info-table.html
	queryMySQLOrigin = "SELECT VARIABLE_SOURCE = 'DYNAMIC' AND COALESCE(SET_USER, 'boot') <> 'boot', VARIABLE_SOURCE, COALESCE(VARIABLE_PATH, '') " +
		"FROM performance_schema.variables_info WHERE VARIABLE_NAME = ?"
	// https://mariadb.com/kb/en/information-schema-system_variables-table/
	queryMariaDBOrigin = "SELECT GLOBAL_VALUE_ORIGIN = 'SQL', GLOBAL_VALUE_ORIGIN, COALESCE(GLOBAL_VALUE_PATH, '') " +
		"FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_NAME = ?"
	// https://dev.mysql.com/doc/refman/8.4/en/performance-schema-persisted-variables-table.html
	queryMySQLPersisted = "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.persisted_variables " +
		"WHERE VARIABLE_NAME IN ('read_only', 'super_read_only', 'event_scheduler')"
)

// eventsDisabled is the state of an event scheduler that no statement starts.
const eventsDisabled = "DISABLED"

// originDefault is MySQL's word for a value that nobody has set.
const originDefault = "COMPILED"

// unpersistStatements remove them from mysqld-auto.cnf. The values in force stay.
func unpersistStatements(names []string) []statement {
	var all []statement
	for _, name := range names {
		all = append(all, statement{text: "RESET PERSIST IF EXISTS " + name})
	}
	return all
}

// fenceStatements do that whatever the server is. MySQL's super_read_only binds nobody while
// read_only is off, which is so where only the former was set at the start; and setting it once
// more sets nothing then.
func (d dialect) fenceStatements() []statement {
	if d.admit == "" {
		return []statement{{text: d.fence}}
	}
	return []statement{{text: "SET GLOBAL read_only = ON"}, {text: d.fence}}
}

// The statements of the event scheduler.
//
// https://mariadb.com/kb/en/server-system-variables/#event_scheduler
// https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html#sysvar_event_scheduler
var (
	eventsOff = []statement{{text: "SET GLOBAL event_scheduler = OFF"}}
	eventsOn  = []statement{{text: "SET GLOBAL event_scheduler = ON"}}
)
