#!/bin/bash
# The first script that the server's image runs when it makes the data directory. It marks there
# that the scripts have begun, for the sidecar: see ../statefulset.yaml and docs/images.md.
# The image's entrypoint reads it: no name of the entrypoint's may be changed here.
: >"${DATADIR:-/var/lib/mysql}/.understudy-begun"
# The image's temporary server reads the member's configuration, which is read-only, and lets no
# script write as another account than root. No client reaches that server, and the real one
# starts read-only again. "mysql" is the entrypoint's way to run SQL.
# shellcheck disable=SC2154 # the entrypoint's
if [ "${#mysql[@]}" -gt 0 ]; then
  "${mysql[@]}" <<<'SET GLOBAL read_only = OFF'
fi
