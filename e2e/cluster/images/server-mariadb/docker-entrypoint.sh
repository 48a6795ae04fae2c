#!/usr/bin/env bash
# Starts MariaDB the way the official image's docker-entrypoint.sh does, as far as the tests use it:
#   docker-entrypoint.sh [mariadbd] [--OPTION...]
# An empty data directory is initialised behind a temporary server that listens on its socket only; then mariadbd takes
# this process's place. As root it goes on as the user mysql.
#   MARIADB_ROOT_PASSWORD, MARIADB_ROOT_PASSWORD_FILE, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD, MARIADB_RANDOM_ROOT_PASSWORD
#                         one of them, to initialise
#   MARIADB_ROOT_HOST     where root may log in from besides localhost, "%" if unset
#   MARIADB_DATABASE, MARIADB_USER, MARIADB_PASSWORD   a database and an account that may use it
#   /docker-entrypoint-initdb.d/*    run at the end of the initialisation: *.sh, *.sql, *.sql.gz
# A container that ends before the end of all that, and finds the folder "mysql" when it is started again, skips the rest.
set -eo pipefail
shopt -s nullglob

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
  local i server
  if [[ -z $MARIADB_ROOT_PASSWORD && -z $MARIADB_ALLOW_EMPTY_ROOT_PASSWORD && -z $MARIADB_RANDOM_ROOT_PASSWORD ]]; then
    die "Database is uninitialized and password option is not specified: set MARIADB_ROOT_PASSWORD, MARIADB_ROOT_PASSWORD_FILE, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD or MARIADB_RANDOM_ROOT_PASSWORD"
  fi
  log Note "Initializing database files"
  mariadb-install-db --datadir="$DATADIR" --rpm --auth-root-authentication-method=normal \
    --skip-test-db --cross-bootstrap --default-time-zone=SYSTEM --enforce-storage-engine= --skip-log-bin \
    --expire-logs-days=0 --loose-innodb_buffer_pool_load_at_startup=0 --loose-innodb_buffer_pool_dump_at_shutdown=0 >&2
  log Note "Database files initialized"

  log Note "Starting temporary server"
  "$@" --skip-networking --default-time-zone=SYSTEM --socket="$SOCKET" --wsrep_on=OFF --expire-logs-days=0 \
    --skip-slave-start --loose-innodb_buffer_pool_load_at_startup=0 &
  server=$!
  for i in {120..0}; do
    MYSQL_PWD='' as_root <<<'SELECT 1' >/dev/null 2>&1 && break
    kill -0 "$server" 2>/dev/null || die "Unable to start server."
    sleep 0.5
  done
  ((i > 0)) || die "Unable to start server."
  log Note "Temporary server started."
  sleep 3 # as on a slower disk: one of the tests kills the image here

  if [[ -n $MARIADB_RANDOM_ROOT_PASSWORD ]]; then
    MARIADB_ROOT_PASSWORD=$(head -c 24 /dev/urandom | base64)
    log Note "GENERATED ROOT PASSWORD: $MARIADB_ROOT_PASSWORD"
  fi
  export MARIADB_ROOT_PASSWORD MYSQL_ROOT_PASSWORD=$MARIADB_ROOT_PASSWORD
  accounts | MYSQL_PWD='' as_root --database=mysql --binary-mode
  run_scripts /docker-entrypoint-initdb.d/*

  log Note "Stopping temporary server"
  kill "$server"
  wait "$server"
  log Note "Temporary server stopped"
  log Note "MariaDB init process done. Ready for start up."
}

as_root() { mariadb --no-defaults --protocol=socket --socket="$SOCKET" -uroot "$@"; }

# docker_process_sql is the way of scripts to run SQL, which they find in the array "mysql", too.
docker_process_sql() {
  if [[ -n $MARIADB_DATABASE ]]; then
    set -- --database="$MARIADB_DATABASE" "$@"
  fi
  MYSQL_PWD=$MARIADB_ROOT_PASSWORD as_root "$@"
}

# accounts prints what makes root's accounts, those of health checks, and a database with its account.
accounts() {
  local password host health name
  password=$(escape "$MARIADB_ROOT_PASSWORD")
  host=$(escape "${MARIADB_ROOT_HOST-%}")
  # Not into the binary log: every member has accounts of its own until it replicates.
  echo "SET @@SESSION.SQL_LOG_BIN=0; SET @@SESSION.SQL_MODE=REPLACE(@@SESSION.SQL_MODE, 'NO_BACKSLASH_ESCAPES', '');"
  echo "DROP USER IF EXISTS root@'127.0.0.1', root@'::1';"
  echo "SET PASSWORD FOR root@localhost = PASSWORD('$password');"
  if [[ -n $host && $host != localhost ]]; then
    echo "CREATE USER root@'$host' IDENTIFIED BY '$password'; GRANT ALL ON *.* TO root@'$host' WITH GRANT OPTION;"
  fi
  health=$(head -c 24 /dev/urandom | base64 | tr -d =)
  for name in 127.0.0.1 ::1 localhost; do
    echo "CREATE USER IF NOT EXISTS healthcheck@'$name' IDENTIFIED BY '$health'; GRANT USAGE ON *.* TO healthcheck@'$name';"
  done
  (
    umask 0077
    printf '[mariadb-client]\nport=%s\nsocket=%s\nuser=healthcheck\npassword=%s\n' "$PORT" "$SOCKET" "$health" >"$DATADIR/.my-healthcheck.cnf"
  )
  echo "SET @@SESSION.SQL_LOG_BIN=1;"
  if [[ -n $MARIADB_DATABASE ]]; then
    echo "CREATE DATABASE IF NOT EXISTS \`$MARIADB_DATABASE\`;"
  fi
  if [[ -n $MARIADB_USER && -n $MARIADB_PASSWORD ]]; then
    echo "CREATE USER '$MARIADB_USER'@'%' IDENTIFIED BY '$(escape "$MARIADB_PASSWORD")';"
    if [[ -n $MARIADB_DATABASE ]]; then
      echo "GRANT ALL ON \`$MARIADB_DATABASE\`.* TO '$MARIADB_USER'@'%';"
    fi
  fi
}

# shellcheck source=e2e/cluster/images/run-scripts.sh
. /usr/local/bin/run-scripts.sh

if [[ $# == 0 || ${1:0:1} == - ]]; then
  set -- mariadbd "$@"
fi
if [[ $1 == mariadbd || $1 == mysqld ]]; then
  # What the server says goes along, as it does with the official image.
  errors=$("$@" --verbose --help 2>&1 >/dev/null) || die "mariadbd failed while attempting to check config"$'
	'"command was: $*"$'
	'"$errors"
  DATADIR=$(setting datadir "$@")
  SOCKET=$(setting socket "$@")
  PORT=$(setting port "$@")
  if [[ $(id -u) == 0 ]]; then
    mkdir -p "$DATADIR" "${SOCKET%/*}"
    find "$DATADIR" "${SOCKET%/*}" \! -user mysql -exec chown mysql: {} +
    log Note "Switching to dedicated user 'mysql'"
    exec setpriv --reuid=mysql --regid=mysql --clear-groups "$0" "$@"
  fi
  from_file MARIADB_ROOT_PASSWORD
  [[ -d $DATADIR/mysql ]] || initialise "$@"
  unset MARIADB_ROOT_PASSWORD MYSQL_ROOT_PASSWORD MARIADB_PASSWORD
fi
exec "$@"
