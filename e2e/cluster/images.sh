#!/usr/bin/env bash
# Makes the images that come from no registry. One whose inputs are those of the last time is left alone; to get newer
# Debian packages remove .cache/cluster/images.
#
#   local/pause:1           holds a pod's namespaces
#   local/server-mariadb:1  Debian's MariaDB, with an entrypoint that behaves like the official image's; also the base
#                           of the project's own image, which needs mariadb-backup; with ncat, for the tutorial's set
#   local/server-mysql:1    MySQL as make servers unpacks it, with bash and busybox for an entrypoint of the same kind
#   local/golang:1          the machine's Go, to build the project's Dockerfile with; not imported into the node
set -euo pipefail
# shellcheck source=vars.sh
. "$(dirname "$0")/vars.sh"
cd "$MODULE"
mkdir -p "$IMAGES" "$BASES"

suite=bookworm
work=$(mktemp -d "$CACHE/.images-XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
archive() { bash images/archive.sh "$@"; }

# inputs FUNCTION FILE...: what an image is made of: the function that makes it, and files.
inputs() {
  declare -f "$1"
  shift
  echo "$suite $path"
  cat images/archive.sh "$@"
}
path='"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"'

pause() {
  local out=$IMAGES/pause.tar inputs
  inputs=$(inputs pause images/pause/main.go | digest)
  fresh "$out" "$inputs" && return
  mkdir "$work/pause"
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$work/pause/pause" ./images/pause
  archive "$work/pause" docker.io/local/pause:1 "$out" '{"Entrypoint": ["/pause"], "User": "65535:65535"}'
  done_with "$out" "$inputs"
  step "local/pause:1"
}

server_mariadb() {
  local out=$IMAGES/server-mariadb.tar root=$work/server-mariadb inputs
  inputs=$(inputs server_mariadb images/run-scripts.sh images/server-mariadb/* | digest)
  fresh "$out" "$inputs" && return
  say "makes local/server-mariadb:1, about a minute"
  mkdir -p "$CACHE/debs"
  debootstrap --variant=minbase --cache-dir="$CACHE/debs" --include=mariadb-server-core,mariadb-client-core,mariadb-backup,ncat \
    "$suite" "$root" "$(bash "$TOP/e2e/testserver/packages.sh" mirror)" >"$CACHE/debootstrap.log" ||
    die "debootstrap failed, see $CACHE/debootstrap.log and its debootstrap/debootstrap.log"
  rm -rf "${root:?}"/dev/* "$root"/var/{cache/apt,lib/apt/lists,log}/* "$root"/usr/share/{doc,man,locale,info}/*
  # The official image's user, folders and files.
  chroot "$root" groupadd --system --gid 999 mysql
  chroot "$root" useradd --system --uid 999 --gid 999 --home-dir /var/lib/mysql --no-create-home mysql
  install -d -o 999 -g 999 -m 1777 "$root/run/mysqld"
  install -d -o 999 -g 999 -m 755 "$root/var/lib/mysql"
  install -d "$root/docker-entrypoint-initdb.d"
  install -m 644 images/server-mariadb/docker.cnf "$root/etc/mysql/mariadb.conf.d/05-docker.cnf"
  install -m 755 images/server-mariadb/docker-entrypoint.sh "$root/usr/local/bin/docker-entrypoint.sh"
  install -m 644 images/run-scripts.sh "$root/usr/local/bin/run-scripts.sh"
  archive "$root" docker.io/local/server-mariadb:1 "$out" \
    '{"Env": ['"$path"'], "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["mariadbd"], "ExposedPorts": {"3306/tcp": {}},
      "Volumes": {"/var/lib/mysql": {}}, "WorkingDir": "/"}'
  done_with "$out" "$inputs"
  step "local/server-mariadb:1, $(du -m "$out" | cut -f1) MB"
}

# server_mysql is MySQL and all that it links to, bash and busybox for the entrypoint, and nothing else.
server_mysql() {
  local out=$IMAGES/server-mysql.tar root=$work/server-mysql inputs folder
  [[ -e $MYSQL/VERSION ]] || die "no MySQL in $MYSQL: run make servers"
  inputs=$(inputs server_mysql images/run-scripts.sh images/server-mysql/* "$MYSQL/VERSION" | digest)
  fresh "$out" "$inputs" && return
  say "makes local/server-mysql:1, half a minute"
  mkdir "$root"
  cp -a "$MYSQL/root/usr" "$root/"
  for folder in bin sbin lib lib64; do
    ln -s "usr/$folder" "$root/$folder"
  done
  cp /bin/busybox "$root/bin/busybox" # busybox-static
  chroot "$root" /bin/busybox --install -s /bin
  cp /bin/bash-static "$root/bin/bash" # bash-static
  # The official image's user, folders and files.
  install -d "$root"/{docker-entrypoint-initdb.d,dev,proc,sys,run,var/lib,etc/mysql/conf.d}
  install -d -m 1777 "$root/tmp"
  ln -s ../run "$root/var/run"
  install -d -o 999 -g 999 -m 1777 "$root/run/mysqld" "$root/var/lib/mysql"
  install -d -o 999 -g 999 -m 750 "$root/var/lib/mysql-files"
  printf '%s\n' root:x:0:0:root:/root:/bin/sh mysql:x:999:999::/var/lib/mysql:/bin/false >"$root/etc/passwd"
  printf '%s\n' root:x:0: mysql:x:999: >"$root/etc/group"
  install -m 644 images/server-mysql/my.cnf "$root/etc/my.cnf"
  install -D -m 755 images/server-mysql/docker-entrypoint.sh "$root/usr/local/bin/docker-entrypoint.sh"
  install -m 644 images/run-scripts.sh "$root/usr/local/bin/run-scripts.sh"
  archive "$root" docker.io/local/server-mysql:1 "$out" \
    '{"Env": ['"$path"'], "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["mysqld"], "ExposedPorts": {"3306/tcp": {}, "33060/tcp": {}},
      "Volumes": {"/var/lib/mysql": {}}, "WorkingDir": "/"}'
  done_with "$out" "$inputs"
  step "local/server-mysql:1, $(du -m "$out" | cut -f1) MB"
}

# golang is like the official Alpine image: Go and busybox, no C compiler, no git.
golang() {
  local out=$BASES/golang.tar root=$work/golang inputs
  inputs=$(inputs golang "$(go env GOROOT)/VERSION" | digest)
  fresh "$out" "$inputs" && return
  say "makes local/golang:1, half a minute"
  mkdir -p "$root"/{bin,etc/ssl/certs,usr/local,go/pkg,root/.cache,tmp}
  chmod 1777 "$root/tmp"
  cp /bin/busybox "$root/bin/busybox" # busybox-static
  chroot "$root" /bin/busybox --install -s /bin
  echo root:x:0:0:root:/root:/bin/sh >"$root/etc/passwd"
  echo root:x:0: >"$root/etc/group"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  cp -a "$(go env GOROOT)" "$root/usr/local/go"
  rm -rf "$root"/usr/local/go/{test,api,doc,.git}
  archive "$root" docker.io/local/golang:1 "$out" \
    '{"Env": ['"${path/=/=/usr/local/go/bin:}"', "GOPATH=/go", "GOTOOLCHAIN=local"], "Cmd": ["sh"], "WorkingDir": "/go"}'
  done_with "$out" "$inputs"
  step "local/golang:1, $(du -m "$out" | cut -f1) MB"
}

pause
server_mariadb
[[ ${ENGINE-} == *mariadb ]] || server_mysql
golang
