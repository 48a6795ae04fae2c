#!/bin/bash
# The last script that the server's image runs when it makes the data directory. It marks there
# that all have run: without that mark, and without another proof, the sidecar takes the
# directory for one whose image was interrupted. See ../statefulset.yaml and docs/images.md.
for understudy_last in "${BASH_SOURCE[0]%/*}"/*; do :; done
if [ "$understudy_last" != "${BASH_SOURCE[0]}" ]; then
  echo "ERROR: ${understudy_last##*/} would run after ${BASH_SOURCE[0]##*/}, which has to be the last script: give it another name" >&2
  exit 1
fi
# What the scripts have written is on stable storage before the mark is there, and the mark
# before the image goes on.
understudy_data=${DATADIR:-/var/lib/mysql}
sync -f "$understudy_data" || sync
: >"$understudy_data/.understudy-ended"
sync -f "$understudy_data" || sync
