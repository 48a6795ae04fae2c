#!/bin/sh
# Starts MySQL the way the official image's docker-entrypoint.sh does, as far as the manifests rely on it, and only as
# the user mysql:
#   docker-entrypoint.sh [mysqld] [--OPTION...]
# An empty data directory is initialised behind a temporary server that listens on its socket only; then mysqld takes
# this process's place.
#   MYSQL_ROOT_PASSWORD, MYSQL_ROOT_PASSWORD_FILE   one of them, to initialise
#   MYSQL_ROOT_HOST                                 where root may log in from besides localhost, "%" if unset
set -eu

log() { echo "$(date '+%Y-%m-%d %H:%M:%S%z') [$1] [Entrypoint]: $2" >&2; }
die() {
  log ERROR "$1"
  exit 1
}

# setting NAME prints the value that the server would use for an option.
setting() { echo "$settings" | awk -v name="$1" '$1 == name && /^[^ \t]/ { print $2; exit }'; }

# escape makes a text fit between single quotes in SQL.
escape() { printf %s "$1" | sed "s/[\\\\']/\\\\&/g"; }

sql() { mysql --no-defaults --protocol=socket --socket="$socket" -uroot --database=mysql --comments; }

initialise() {
  if [ -z "${MYSQL_ROOT_PASSWORD-}" ]; then
    die "Database is uninitialized and password option is not specified: set MYSQL_ROOT_PASSWORD or MYSQL_ROOT_PASSWORD_FILE"
  fi
  log Note "Initializing database files"
  "$@" --initialize-insecure --default-time-zone=SYSTEM
  log Note "Database files initialized"

  log Note "Starting temporary server"
  "$@" --daemonize --skip-networking --default-time-zone=SYSTEM --socket="$socket" || die "Unable to start server."
  log Note "Temporary server started."

  # The official image loads all time zones here, and the binary log has them.
  echo "TRUNCATE TABLE time_zone; INSERT INTO time_zone (Use_leap_seconds) VALUES ('N');" | sql

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
  } | sql

  log Note "Stopping temporary server"
  MYSQL_PWD=$MYSQL_ROOT_PASSWORD mysqladmin --no-defaults --socket="$socket" -uroot shutdown || die "Unable to shut down server."
  log Note "Temporary server stopped"
  log Note "MySQL init process done. Ready for start up."
}

case ${1--} in -*) set -- mysqld "$@" ;; esac
if [ "$1" = mysqld ]; then
  [ "$(id -u)" != 0 ] || die "this image runs as the user mysql only"
  # The index of binary logs is not the server's: --help would make it.
  settings=$("$@" --verbose --help --log-bin-index=/nonexistent/index 2>/dev/null) ||
    die "mysqld failed while attempting to check config: command was: $*"
  datadir=$(setting datadir)
  socket=$(setting socket)
  if [ -n "${MYSQL_ROOT_PASSWORD_FILE-}" ]; then
    [ -z "${MYSQL_ROOT_PASSWORD-}" ] || die "Both MYSQL_ROOT_PASSWORD and MYSQL_ROOT_PASSWORD_FILE are set (but are exclusive)"
    MYSQL_ROOT_PASSWORD=$(cat "$MYSQL_ROOT_PASSWORD_FILE")
  fi
  unset MYSQL_ROOT_PASSWORD_FILE
  [ -d "$datadir/mysql" ] || initialise "$@"
  unset MYSQL_ROOT_PASSWORD
fi
exec "$@"
