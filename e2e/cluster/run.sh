#!/usr/bin/env bash
# run.sh [go test's options]: everything, from Debian packages to the tests' end, and nothing left behind whatever happens;
# with KEEP=1 the cluster stays: down.sh ends it.
set -euo pipefail
# shellcheck source=vars.sh
. "$(dirname "$0")/vars.sh"
cd "$MODULE"

./packages.sh
step "packages"
go -C "$TOP" mod download # the image is built without a network
step "modules"
./build.sh
step "kubenode"
root=()
# Not "sudo -E": sudo has a PATH of its own, and root's home has another Go cache.
[[ $(id -u) == 0 ]] || root=(sudo env "PATH=$PATH" "HOME=$HOME" "GOFLAGS=${GOFLAGS-}" "CLUSTER_CACHE=$CACHE" "ENGINE=${ENGINE-}" "KEEP=${KEEP-}")
"${root[@]}" ./images.sh
step "images"
[[ -n ${KEEP-} ]] || trap '"${root[@]}" ./down.sh >&2' EXIT # a test that ran into its time limit cleans nothing up
"${root[@]}" go test -count=1 -timeout 90m "$@" .
