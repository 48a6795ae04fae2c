#!/usr/bin/env bash
# Installs what the cluster needs from Debian, if it is not there. No service is started, and none is enabled: the node
# has a containerd of its own.
set -euo pipefail

# containerd, runc, CNI plugins and nftables run the node; openssl makes its certificates; e2fsprogs formats volumes of
# a limited size; debootstrap, busybox-static and bash-static make images, buildah builds the Dockerfile.
packages=(
  containerd runc containernetworking-plugins nftables iproute2 procps util-linux openssl e2fsprogs curl
  debootstrap busybox-static bash-static buildah golang-github-containers-common ca-certificates
)

missing=()
for package in "${packages[@]}"; do
  # shellcheck disable=SC2016 # dpkg-query fills it in
  [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

sudo=()
[[ $(id -u) == 0 ]] || sudo=(sudo)

# enabled lists the units that start with the machine.
enabled() { find /etc/systemd/system -path '*.wants/*' -type l 2>/dev/null | sort; }

# Debian's packages start their services unless this says no.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  trap '"${sudo[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
  "${sudo[@]}" chmod 755 "$policy"
fi
apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o Acquire::Retries=3)
# A third-party source of the machine that cannot be read is no reason to stop.
"${apt[@]}" update || echo "packages.sh: apt-get update failed, going on with the package lists there are" >&2
before=$(enabled)
"${apt[@]}" install --yes --no-install-recommends "${missing[@]}" >&2
# Debian's packages also enable their services: without this, containerd would start with the machine from now on.
comm -13 <(echo "$before") <(enabled) | while read -r link; do
  echo "packages.sh: disables ${link##*/}" >&2
  "${sudo[@]}" rm "$link"
done
