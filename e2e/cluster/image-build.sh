#!/usr/bin/env bash
# image-build.sh NAME:TAG OUT DOCKERFILE CONTEXT [buildah build's options, such as --build-arg A=B]
# Builds a Dockerfile for real, with base images that came from no registry: local/golang:1 and local/server-mariadb:1
# (images.sh). OUT is a docker-archive for the node; layers of a base in it are byte for byte the base's own, so the
# node keeps them once. No RUN should stand in the last stage: it would leave empty folders of the caches. The machine's Go caches lie at /root/.cache/go-build and /go/pkg/mod, where the official golang
# images have theirs, also if the Dockerfile mounts a cache of its own there.
set -euo pipefail
# shellcheck source=vars.sh
. "$(dirname "$0")/vars.sh"
(($# >= 4)) || die "usage: image-build.sh NAME:TAG OUT DOCKERFILE CONTEXT [OPTION...]"
name=docker.io/$1 out=$2 dockerfile=$3 context=$4
shift 4

store=$CACHE/buildah
mkdir -p "$store/tmp" "$(dirname "$out")"
export TMPDIR=$store/tmp # where buildah would otherwise leave the Dockerfile's own caches in /var/tmp
# Two builds at once would lose each other's images to the pruning below.
exec 9>"$store/lock"
flock 9

# chroot: no container runtime, and so no cgroup or capability that the machine may lack.
buildah=(buildah --root "$store/root" --runroot "$store/run" --storage-driver overlay)
for base in "$BASES"/*.tar "$IMAGES/server-mariadb.tar"; do
  loaded=$store/$(basename "$base").loaded
  cmp -s "$base.inputs" "$loaded" && continue
  "${buildah[@]}" pull --quiet "docker-archive:$base" >/dev/null
  cp "$base.inputs" "$loaded"
done

# timestamp 0: the same files give the same image. What is said goes to a file, for builds that work say nothing of use.
"${buildah[@]}" build --isolation chroot --pull-never --timestamp 0 --tag "$name" --file "$dockerfile" \
  --volume "$(go env GOCACHE):/root/.cache/go-build" --volume "$(go env GOMODCACHE):/go/pkg/mod" "$@" "$context" \
  >"$store/build.log" 2>&1 || {
  tail -n 40 "$store/build.log" >&2
  die "$dockerfile does not build"
}
rm -f "$out.new" # buildah adds to no archive
"${buildah[@]}" push --quiet "$name" "docker-archive:$out.new:$name"
mv "$out.new" "$out"
"${buildah[@]}" rmi --prune --force >/dev/null
step "${name#docker.io/}, $(du -m "$out" | cut -f1) MB"
