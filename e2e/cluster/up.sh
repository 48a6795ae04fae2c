#!/usr/bin/env bash
# Brings a real Kubernetes of one node up, in namespaces of its own: nothing of it listens on this machine's addresses
# and no rule, route, mount or sysctl of the machine changes. Needs root, build.sh and images.sh.
# Look at it with k.sh; end it with down.sh.
set -euo pipefail
# shellcheck source=vars.sh
. "$(dirname "$0")/vars.sh"

[[ $(id -u) == 0 ]] || die "only root can make a node"
# The longest socket below is kubelet's; a socket's path ends at 107 bytes.
((${#RUN} <= 70)) || die "$RUN is too long a path for sockets: set CLUSTER_CACHE to a shorter folder"
[[ -x $BIN/kubenode ]] || die "no kubenode: run build.sh"
[[ -e $IMAGES/pause.tar ]] || die "no images: run images.sh"
node_pid >/dev/null && die "it is up already: run down.sh"
rm -rf "$RUN"
mkdir -p "$RUN/log" "$RUN/pid"

bash "$MODULE/node/pki.sh"
bash "$MODULE/node/conf.sh"
step "certificates, configuration"
# --kill-child: whoever kills unshare has killed the node.
setsid unshare --mount --net --pid --fork --kill-child=KILL --mount-proc \
  bash "$MODULE/node/init.sh" >"$RUN/log/init.log" 2>&1 </dev/null &
unshare=$!
echo "$unshare" >"$RUN/pid/unshare"

for _ in {1..3000}; do
  [[ -s $RUN/pid/init ]] || pgrep -P "$unshare" >"$RUN/pid/init" || true
  if [[ -e $RUN/ready ]]; then
    cat "$RUN/log/init.log"
    step "up"
    exit
  fi
  if [[ -e $RUN/failed ]] || ! kill -0 "$unshare" 2>/dev/null; then
    cat "$RUN/log/init.log" >&2
    die "the node did not come up; its logs are in $RUN/log"
  fi
  sleep 0.1
done
die "the node is not up after 5 minutes; its logs are in $RUN/log"
