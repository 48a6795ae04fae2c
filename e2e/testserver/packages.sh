#!/usr/bin/env bash
# Brings real database servers onto this machine for the tests.
#
#   packages.sh machine
#       makes sure that MariaDB 10.11's programs are installed on the machine.
#   packages.sh unpack SUITE DEST PACKAGE...
#       unpacks packages of another Debian suite, with all they depend on, below DEST and makes their programs
#       runnable from DEST/bin. The machine's own packages, package sources and package lists are left alone.
#       Does nothing if DEST holds them already; remove DEST to get newer ones. Needs no root.
#   packages.sh mirror
#       prints where the machine gets Debian's packages from.
set -euo pipefail

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

say() { echo "packages.sh: $*" >&2; }
die() { say "$@"; exit 1; }

# again runs a command up to four times: mirrors fail now and then.
again() {
  local try
  for try in 1 2 3; do
    "$@" && return
    say "try $try failed: $*"
    sleep $((try * 2))
  done
  "$@"
}

need_apt() { command -v apt-get >/dev/null || die "apt-get is not on this machine: the servers come from Debian's packages"; }

# have_10_11 says whether the machine's own programs are there. mariadbd lies outside an ordinary user's PATH.
have_10_11() {
  local program
  for program in mariadbd mariadb mariadb-backup mbstream; do
    command -v "$program" >/dev/null || return
  done
  [[ $(mariadbd --no-defaults --version) == *" 10.11."* ]]
}

machine() {
  # Never mariadb-server: it would start a service.
  local -a packages=(mariadb-server-core mariadb-client-core mariadb-backup) apt=(apt-get -qq) sudo=()
  PATH=$PATH:/usr/sbin:/sbin
  have_10_11 && return
  need_apt
  [[ $(id -u) == 0 ]] || sudo=(sudo)
  apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
  # A third-party source of the machine that cannot be read is no reason to stop.
  again "${apt[@]}" update || say "apt-get update failed, going on with the package lists there are"
  again "${apt[@]}" install --yes --no-install-recommends "${packages[@]}" >&2
  have_10_11 || die "this machine's MariaDB is not 10.11 but $(mariadbd --no-defaults --version): use Debian 12, or 'unpack bookworm'"
}

# mirror prints where the machine gets Debian itself from, if it does.
mirror() {
  local found
  # shellcheck disable=SC2016 # apt-get fills these in
  found=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    awk '($1 == "Debian" && NF == 2) || $NF ~ /\/debian\/?$/ { print $NF; exit }') || true
  echo "${found:-http://deb.debian.org/debian}"
}

# configure_apt writes the configuration of an apt that knows one suite, no installed package, and keeps everything it
# has below $1. Only how the machine reaches the network is taken over from the machine.
configure_apt() {
  local work=$1 suite=$2
  mkdir -p "$work"/lists/partial "$work"/archives/partial
  : >"$work/status"
  echo "deb [signed-by=$keyring] $(mirror) $suite main" >"$work/sources.list"
  apt-config dump | grep -E '^Acquire::(http|https|ForceIPv[46]|Check-Valid-Until)[ :]' >"$work/apt.conf" || true
  cat >>"$work/apt.conf" <<EOF
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$work";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work";
Dir::Cache::archives "$work/archives";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Update::Error-Mode "any";
EOF
}

# wanted are the programs that tests and people use. MySQL has twenty more, with all of its client library in each.
wanted='mariadbd?|mariadb-backup|mbstream|mysqld?|mysqladmin|mysqlbinlog'

# programs prints the wanted programs of a package file as paths: usr/bin/mariadb.
programs() { dpkg-deb --fsys-tarfile "$1" | tar -tf - | sed -nE "s#^\./(usr/s?bin/($wanted))\$#\1#p"; }

# wrap writes $tree/bin/NAME, which runs a program of $tree/root with that root's own loader and libraries: the machine's
# C library may be older. The wrapper finds the tree from its own path, so that the tree can be moved.
wrap() {
  local tree=$1 program=$2 name loader triplet libraries
  name=$(basename "$program")
  program=$(realpath --relative-to="$tree/root" "$tree/root/$program")
  [[ $(head -c 4 "$tree/root/$program" | tail -c 3) == ELF ]] || return 0 # a script
  loader=$(find "$tree/root" -name 'ld-linux*.so.*' -type f -printf '%P\n' | head -n 1)
  triplet=$(basename "${loader%/*}")
  libraries="\$root/usr/lib/$triplet:\$root/lib/$triplet:\$root/usr/lib/mysql/private" # MySQL has some of its own
  cat >"$tree/bin/$name" <<EOF
#!/bin/sh
root=\$(cd "\${0%/*}/../root" && pwd) || exit
exec "\$root/$loader" --library-path "$libraries" "\$root/$program" "\$@"
EOF
  chmod 755 "$tree/bin/$name"
}

# prune removes what no server program reads.
prune() {
  local root=$1 folder
  for folder in "$root"/* "$root"/usr/*; do
    case ${folder#"$root"/} in
    usr | usr/bin | usr/sbin | usr/share | lib | lib64 | usr/lib | usr/lib64) ;;
    *) rm -rf "$folder" ;;
    esac
  done
  find "$root/usr/share" -mindepth 1 -maxdepth 1 ! -name mysql ! -name mysql-\* ! -name mariadb -exec rm -rf {} +
  find "$root" \( -name gconv -o -name perl \) -type d -prune -exec rm -rf {} +
  find "$root"/usr/{bin,sbin} -regextype posix-extended ! -type d ! -regex ".*/($wanted)" -delete
  # The plugins of MySQL that are as big for the same reason: ways to log in elsewhere, and telemetry.
  find "$root" \( -name 'libperl.so.*' -o -name 'authentication_*_client.so' -o -name '*telemetry*.so' \) -delete
}

unpack() {
  (($# >= 3)) || die "usage: packages.sh unpack SUITE DEST PACKAGE..."
  local suite=$1 dest=$2 package deb program
  shift 2
  if [[ -f $dest/VERSION ]]; then # written last, and moved into place with all the rest
    cat "$dest/VERSION"
    return
  fi
  need_apt
  [[ -f $keyring ]] || die "$keyring is not on this machine: install debian-archive-keyring"
  mkdir -p "$(dirname "$dest")"
  tree=$(mktemp -d "$(realpath "$(dirname "$dest")")/.unpack-XXXXXX")
  trap 'rm -rf "$tree"' EXIT
  mkdir "$tree/root" "$tree/bin"
  chmod 755 "$tree"

  configure_apt "$tree/apt" "$suite"
  export APT_CONFIG=$tree/apt/apt.conf
  again apt-get -qq update
  again apt-get -qq install --yes --no-install-recommends --download-only "$@" >&2

  for deb in "$tree"/apt/archives/*.deb; do
    dpkg -x "$deb" "$tree/root"
  done
  for package in "$@"; do
    deb=$(echo "$tree/apt/archives/${package}"_*.deb)
    for program in $(programs "$deb"); do
      wrap "$tree" "$program"
    done
    # shellcheck disable=SC2016 # dpkg-deb fills these in
    dpkg-deb --show --showformat '${Package} ${Version}\n' "$deb" >>"$tree/apt/VERSION"
  done
  prune "$tree/root"
  mv "$tree/apt/VERSION" "$tree/VERSION"
  rm -rf "$tree/apt" "$dest"
  mv -T "$tree" "$dest"
  cat "$dest/VERSION"
}

case ${1-} in
machine | unpack | mirror) "$@" ;;
*) die "usage: packages.sh machine | unpack SUITE DEST PACKAGE... | mirror" ;;
esac
