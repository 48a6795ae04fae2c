#!/usr/bin/env bash
# archive.sh ROOT NAME:TAG OUT CONFIG: makes the folder ROOT an image of one layer, without daemon or registry.
# OUT is a docker-archive, which containerd ("ctr images import") and buildah ("docker-archive:OUT") read.
# CONFIG is JSON as in the image specification: {"Env": [...], "Entrypoint": [...], "Cmd": [...], "User": "..."}
# The same files give the same image.
set -euo pipefail
root=$1 name=$2 out=$3 config=$4

work=$(mktemp -d "$(dirname "$out")/.archive-XXXXXX")
trap 'rm -rf "$work"' EXIT
tar --numeric-owner --sort=name --mtime=@0 -C "$root" -cf "$work/layer.tar" .
layer=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
cat >"$work/config.json" <<END
{"architecture": "$(dpkg --print-architecture)", "os": "linux", "created": "1970-01-01T00:00:00Z", "config": $config,
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]},
 "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "archive.sh"}]}
END
digest=$(sha256sum "$work/config.json" | cut -d' ' -f1)
mv "$work/config.json" "$work/$digest.json"
printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$digest" "$name" >"$work/manifest.json"
tar -C "$work" -cf "$work/out" manifest.json "$digest.json" layer.tar
mv "$work/out" "$out"
