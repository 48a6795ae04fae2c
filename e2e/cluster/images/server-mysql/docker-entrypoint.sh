#!/bin/bash
# Starts MySQL the way the official image's docker-entrypoint.sh does, as far as the manifests rely on it, and only as
# the user mysql:
#   docker-entrypoint.sh [mysqld] [--OPTION...]
# An empty data directory is initialised behind a temporary server that listens on its socket only; then mysqld takes
# this process's place.
#   MYSQL_ROOT_PASSWORD, MYSQL_ROOT_PASSWORD_FILE   one of them, to initialise
#   MYSQL_ROOT_HOST                                 where root may log in from besides localhost, "%" if unset
#   MYSQL_DATABASE, MYSQL_USER, MYSQL_PASSWORD      a database and an account that may use it
#   /docker-entrypoint-initdb.d/*                   run at the end of the initialisation: *.sh, *.sql, *.sql.gz
# A container that ends before the end of all that, and finds the folder "mysql" when it is started again, skips the rest.
set -eo pipefail
shopt -s nullglob

log() { echo "$(date '+%Y-%m-%d %H:%M:%S%z') [$1] [Entrypoint]: $2" >&2; }
die() {
  log ERROR "$1"
  exit 1
}

# setting NAME prints the value that the server would use for an option.
setting() { echo "$settings" | awk -v name="$1" '$1 == name && /^[^ \t]/ { print $2; exit }'; }

# escape makes a text fit between single quotes in SQL.
escape() { printf %s "$1" | sed "s/[\\\\']/\\\\&/g"; }

as_root() { mysql --no-defaults --protocol=socket --socket="$SOCKET" -uroot --comments "$@"; }

# docker_process_sql is the way of scripts to run SQL, which they find in the array "mysql", too.
docker_process_sql() {
  if [ -n "$MYSQL_DATABASE" ]; then
    set -- --database="$MYSQL_DATABASE" "$@"
  fi
  MYSQL_PWD=$MYSQL_ROOT_PASSWORD as_root "$@"
}

# shellcheck source=e2e/cluster/images/run-scripts.sh
. /usr/local/bin/run-scripts.sh

initialise() {
  if [ -z "${MYSQL_ROOT_PASSWORD-}" ]; then
    die "Database is uninitialized and password option is not specified: set MYSQL_ROOT_PASSWORD or MYSQL_ROOT_PASSWORD_FILE"
  fi
  log Note "Initializing database files"
  "$@" --initialize-insecure --default-time-zone=SYSTEM
  log Note "Database files initialized"

  log Note "Starting temporary server"
  "$@" --daemonize --skip-networking --default-time-zone=SYSTEM --socket="$SOCKET" || die "Unable to start server."
  log Note "Temporary server started."

  # The official image loads all time zones here, and the binary log has them.
  echo "TRUNCATE TABLE time_zone; INSERT INTO time_zone (Use_leap_seconds) VALUES ('N');" | as_root --database=mysql

  password=$(escape "$MYSQL_ROOT_PASSWORD")
  host=$(escape "${MYSQL_ROOT_HOST-%}")
  # Not into the binary log: every member has accounts of its own until it replicates.
  {
    echo "SET @@SESSION.SQL_LOG_BIN=0;"
    echo "ALTER USER root@localhost IDENTIFIED BY '$password'; GRANT ALL ON *.* TO root@localhost WITH GRANT OPTION;"
    if [ -n "$host" ] && [ "$host" != localhost ]; then
      echo "CREATE USER root@'$host' IDENTIFIED BY '$password'; GRANT ALL ON *.* TO root@'$host' WITH GRANT OPTION;"
    fi
    echo "FLUSH PRIVILEGES; DROP DATABASE IF EXISTS test;"
  } | as_root --database=mysql
  if [ -n "$MYSQL_DATABASE" ]; then
    MYSQL_PWD=$MYSQL_ROOT_PASSWORD as_root <<<"CREATE DATABASE IF NOT EXISTS \`$MYSQL_DATABASE\`;"
  fi
  if [ -n "$MYSQL_USER" ] && [ -n "$MYSQL_PASSWORD" ]; then
    docker_process_sql <<<"CREATE USER '$MYSQL_USER'@'%' IDENTIFIED BY '$(escape "$MYSQL_PASSWORD")'; GRANT ALL ON \`$MYSQL_DATABASE\`.* TO '$MYSQL_USER'@'%';"
  fi
  run_scripts /docker-entrypoint-initdb.d/*

  log Note "Stopping temporary server"
  MYSQL_PWD=$MYSQL_ROOT_PASSWORD mysqladmin --no-defaults --socket="$SOCKET" -uroot shutdown || die "Unable to shut down server."
  log Note "Temporary server stopped"
  log Note "MySQL init process done. Ready for start up."
}

case ${1--} in -*) set -- mysqld "$@" ;; esac
if [ "$1" = mysqld ]; then
  [ "$(id -u)" != 0 ] || die "this image runs as the user mysql only"
  # The index of binary logs is not the server's: --help would make it.
  settings=$("$@" --verbose --help --log-bin-index=/nonexistent/index 2>/dev/null) ||
    die "mysqld failed while attempting to check config: command was: $*"
  DATADIR=$(setting datadir)
  SOCKET=$(setting socket)
  if [ -n "${MYSQL_ROOT_PASSWORD_FILE-}" ]; then
    [ -z "${MYSQL_ROOT_PASSWORD-}" ] || die "Both MYSQL_ROOT_PASSWORD and MYSQL_ROOT_PASSWORD_FILE are set (but are exclusive)"
    MYSQL_ROOT_PASSWORD=$(cat "$MYSQL_ROOT_PASSWORD_FILE")
  fi
  unset MYSQL_ROOT_PASSWORD_FILE
  [ -d "$DATADIR/mysql" ] || initialise "$@"
  unset MYSQL_ROOT_PASSWORD MYSQL_PASSWORD
fi
exec "$@"
