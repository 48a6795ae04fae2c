#!/usr/bin/env bash
# kubectl, as the running cluster's administrator: k.sh get pods -A
set -euo pipefail
# shellcheck source=vars.sh
. "$(dirname "$0")/vars.sh"
exec nsenter -t "$(node_pid || die "no cluster is up")" -n -- kubectl "$@"
