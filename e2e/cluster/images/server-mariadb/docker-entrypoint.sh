#!/usr/bin/env bash
# Starts MariaDB the way the official image's docker-entrypoint.sh does, as far as the tests use it:
#   docker-entrypoint.sh [mariadbd] [--OPTION...]
# An empty data directory is initialised behind a temporary server that listens on its socket only; then mariadbd takes
# this process's place. As root it goes on as the user mysql.
#   MARIADB_ROOT_PASSWORD, MARIADB_ROOT_PASSWORD_FILE, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD   one of them, to initialise
#   MARIADB_ROOT_HOST     where root may log in from besides localhost, "%" if unset
#   /docker-entrypoint-initdb.d/*.sql    run at the end of the initialisation
set -euo pipefail

log() { echo "$(date --rfc-3339=seconds) [$1] [Entrypoint]: $2" >&2; }
die() {
  log ERROR "$1"
  exit 1
}

# setting NAME COMMAND... prints the value that the server would use for an option. Read to its end: a server whose
# output is cut off would fail. Lines that begin with a blank are descriptions.
setting() {
  local name=$1
  shift
  "$@" --verbose --help 2>/dev/null | awk -v name="$name" '$1 == name && /^[^ \t]/ { print $2 }'
}

# from_file takes a variable's value from the file that VARIABLE_FILE names.
from_file() {
  local file=${1}_FILE
  if [[ -n ${!1-} && -n ${!file-} ]]; then
    die "Both $1 and $file are set (but are exclusive)"
  fi
  if [[ -n ${!file-} ]]; then
    export "$1=$(<"${!file}")"
  fi
  unset "$file"
}

# escape makes a text fit between single quotes in SQL.
escape() {
  local text=${1//\\/\\\\}
  echo "${text//"'"/"\'"}"
}

initialise() {
  local i server password host script
  if [[ -z ${MARIADB_ROOT_PASSWORD-} && -z ${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD-} ]]; then
    die "Database is uninitialized and password option is not specified: set MARIADB_ROOT_PASSWORD, MARIADB_ROOT_PASSWORD_FILE or MARIADB_ALLOW_EMPTY_ROOT_PASSWORD"
  fi
  log Note "Initializing database files"
  mariadb-install-db --datadir="$datadir" --rpm --auth-root-authentication-method=normal \
    --skip-test-db --cross-bootstrap --default-time-zone=SYSTEM --enforce-storage-engine= --skip-log-bin \
    --expire-logs-days=0 --loose-innodb_buffer_pool_load_at_startup=0 --loose-innodb_buffer_pool_dump_at_shutdown=0 >&2
  log Note "Database files initialized"

  log Note "Starting temporary server"
  "$@" --skip-networking --default-time-zone=SYSTEM --socket="$socket" --wsrep_on=OFF --expire-logs-days=0 \
    --skip-slave-start --loose-innodb_buffer_pool_load_at_startup=0 &
  server=$!
  for i in {120..0}; do
    sql <<<'SELECT 1' >/dev/null 2>&1 && break
    kill -0 "$server" 2>/dev/null || die "Unable to start server."
    sleep 0.5
  done
  ((i > 0)) || die "Unable to start server."
  log Note "Temporary server started."
  sleep 3 # as on a slower disk: one of the tests kills the image here

  password=$(escape "${MARIADB_ROOT_PASSWORD-}")
  host=$(escape "${MARIADB_ROOT_HOST-%}")
  # Not into the binary log: every member has accounts of its own until it replicates.
  {
    echo "SET @@SESSION.SQL_LOG_BIN=0; SET @@SESSION.SQL_MODE=REPLACE(@@SESSION.SQL_MODE, 'NO_BACKSLASH_ESCAPES', '');"
    echo "DROP USER IF EXISTS root@'127.0.0.1', root@'::1';"
    if [[ -n $host && $host != localhost ]]; then
      echo "CREATE USER root@'$host' IDENTIFIED BY '$password'; GRANT ALL ON *.* TO root@'$host' WITH GRANT OPTION;"
    fi
    echo "SET PASSWORD FOR root@localhost = PASSWORD('$password');"
  } | sql
  for script in /docker-entrypoint-initdb.d/*.sql; do
    if [[ -e $script ]]; then
      log Note "running $script"
      MYSQL_PWD=${MARIADB_ROOT_PASSWORD-} sql <"$script"
    fi
  done

  log Note "Stopping temporary server"
  kill "$server"
  wait "$server" || true
  log Note "Temporary server stopped"
  log Note "MariaDB init process done. Ready for start up."
}

sql() { mariadb --no-defaults --protocol=socket --socket="$socket" -uroot --database=mysql --binary-mode; }

if [[ $# == 0 || ${1:0:1} == - ]]; then
  set -- mariadbd "$@"
fi
if [[ $1 == mariadbd || $1 == mysqld ]]; then
  datadir=$(setting datadir "$@") || die "mariadbd failed while attempting to check config: command was: $*"
  socket=$(setting socket "$@")
  if [[ $(id -u) == 0 ]]; then
    mkdir -p "$datadir" "${socket%/*}"
    find "$datadir" "${socket%/*}" \! -user mysql -exec chown mysql: {} +
    log Note "Switching to dedicated user 'mysql'"
    exec setpriv --reuid=mysql --regid=mysql --clear-groups "$0" "$@"
  fi
  from_file MARIADB_ROOT_PASSWORD
  [[ -d $datadir/mysql ]] || initialise "$@"
  unset MARIADB_ROOT_PASSWORD
fi
exec "$@"
