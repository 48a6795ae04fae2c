#!/usr/bin/env bash
# Ends the cluster and leaves nothing of it: no process, mount, namespace, cgroup, firewall rule, loop device or file.
# Does nothing if there is none. With "keep" the state folder (logs, audit log) stays, until the next up.sh.
set -euo pipefail
# shellcheck source=vars.sh
. "$(dirname "$0")/vars.sh"
[[ -d $RUN ]] || exit 0

# The pid namespace ends with its init, and everything in it; unshare ends when all of that is gone.
unshare=$(alive "$RUN/pid/unshare" "$MODULE/node/init.sh") || true
if pid=$(node_pid); then
  kill -KILL "$pid"
fi
for _ in {1..600}; do
  if [[ -z $unshare ]] || ! kill -0 "$unshare" 2>/dev/null; then
    break
  fi
  sleep 0.1
done
step "processes, mounts and network are gone"

for folder in "/sys/fs/cgroup/$CGROUP" /sys/fs/cgroup/*/"$CGROUP"; do
  for _ in {1..50}; do
    [[ -d $folder ]] || break
    find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
  done
done
step "cgroups are gone"

# Folders that had to be made to mount upon. Removing one takes away every mount upon it, also another checkout's node's:
# then it stays.
while read -r folder; do
  grep -qsF " $folder " /proc/[0-9]*/mountinfo || rmdir --ignore-fail-on-non-empty "$folder" || true
done < <(cat "$RUN/folders" 2>/dev/null)
[[ ${1-} == keep ]] || rm -rf "$RUN"
step "down"
