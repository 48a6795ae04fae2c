package replicate

// files are the questions about the files that a server's dictionary names. They are asked once for
// a directory, of which the server may have hundreds of thousands of tables: each statement has a
// bound of a minute.
//
// MariaDB keeps the definition of each table in a file beside it, so that its dictionary is
// InnoDB's only. MySQL's is whole, in mysql.ibd.
//
// https://mariadb.com/kb/en/information-schema-innodb_sys_tables-table/
// https://dev.mysql.com/doc/refman/8.4/en/information-schema-files-table.html
type files struct {
	// queryInnoDB are the tables of InnoDB, partitions for themselves, by their paths, and whether
	// each has a file of its own. It is empty where the dictionary knows all files.
	queryInnoDB string
	// queryTablespaces are the files, and queryDiscarded those of them that are not there on
	// purpose. A server that is asked for the latter reads all files, and ends where one is short.
	queryTablespaces, queryDiscarded string
	// queryOthers are the tables of the other engines that have files: schema, name, engine.
	queryOthers string
	// always are what Dictionary.Defined has of every server.
	always []string
}

var mariaDBFiles = files{
	queryInnoDB: "SET STATEMENT max_statement_time = 300 FOR SELECT NAME, SPACE_TYPE = 'Single' FROM information_schema.INNODB_SYS_TABLES",
	// All are from MariaDB 10.0 or before.
	always: []string{
		"mysql/column_stats", "mysql/columns_priv", "mysql/db", "mysql/event", "mysql/func", "mysql/gtid_slave_pos", "mysql/help_category",
		"mysql/help_keyword", "mysql/help_relation", "mysql/help_topic", "mysql/index_stats", "mysql/innodb_index_stats", "mysql/innodb_table_stats",
		"mysql/plugin", "mysql/proc", "mysql/procs_priv", "mysql/proxies_priv", "mysql/roles_mapping", "mysql/servers", "mysql/table_stats",
		"mysql/tables_priv", "mysql/time_zone", "mysql/time_zone_leap_second", "mysql/time_zone_name", "mysql/time_zone_transition",
		"mysql/time_zone_transition_type", "mysql/global_priv|mysql/user",
	},
}

var mySQLFiles = files{
	queryTablespaces: "SELECT /*+ MAX_EXECUTION_TIME(300000) */ FILE_NAME, @@datadir FROM information_schema.FILES WHERE ENGINE = 'InnoDB' AND COALESCE(FILE_TYPE, '') NOT IN ('TEMPORARY', 'UNDO LOG')",
	queryDiscarded: "SELECT /*+ MAX_EXECUTION_TIME(300000) */ f.FILE_NAME, @@datadir FROM information_schema.FILES f " +
		"JOIN information_schema.INNODB_TABLESPACES t ON t.NAME = f.TABLESPACE_NAME WHERE t.STATE = 'discarded'",
	queryOthers: "SELECT /*+ MAX_EXECUTION_TIME(300000) */ TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE ENGINE IN ('MyISAM', 'MRG_MYISAM', 'CSV', 'ARCHIVE')",
}

var mySQL57Files = files{
	queryInnoDB: "SELECT /*+ MAX_EXECUTION_TIME(300000) */ NAME, SPACE_TYPE = 'Single' FROM information_schema.INNODB_SYS_TABLES",
}
