#!/usr/bin/env bash
# Pid 1 of the node's own pid, mount and network namespaces. When it dies, the kernel ends all the rest: components,
# containers, mounts, bridge, routes and firewall rules.
set -euo pipefail
# shellcheck source=../vars.sh
. "$(dirname "$0")/../vars.sh"

fail() {
  step "FAILED: $*"
  touch "$RUN/failed"
  exit 1
}

# wait_for SECONDS WHAT COMMAND...
wait_for() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || fail "no $what"
    sleep 0.1
  done
  step "$what"
}

start() { bash "$MODULE/node/component.sh" "$1" & }

mounts() {
  mount --make-rprivate /
  local folder setting file
  # containerd, CNI and kubelet write to these, whatever they are told.
  for folder in /run/containerd /run/netns /var/lib/cni /var/lib/kubelet /var/log/containers /usr/libexec/kubernetes; do
    if [[ ! -d $folder ]]; then
      mkdir -p "$folder"
      echo "$folder" >>"$RUN/folders" # for down.sh, to leave none behind
    fi
    mount -t tmpfs -o mode=755 node "$folder"
  done
  mount --make-shared /run/netns
  # Images and etcd live in memory: quick, and gone with this namespace. CLUSTER_TMPFS=0 where memory is short.
  if [[ ${CLUSTER_TMPFS:-1} == 1 ]]; then
    for folder in containerd etcd; do
      mkdir -p "$RUN/$folder"
      mount -t tmpfs -o mode=700 node "$RUN/$folder"
    done
  fi
  # kubelet sets these for the whole machine unless they read as it likes.
  mkdir -p "$RUN/sysctl"
  for setting in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
    file=$RUN/sysctl/${setting//[\/=]/-}
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${setting%=*}"
  done
}

cgroups() {
  local hierarchy
  if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then # version 2: one hierarchy
    mkdir -p "/sys/fs/cgroup/$CGROUP"
    return
  fi
  for hierarchy in /sys/fs/cgroup/*/; do
    mkdir -p "$hierarchy$CGROUP" 2>/dev/null || true
  done
  # A cpuset that names no processor takes no process.
  for file in cpuset.cpus cpuset.mems; do
    cat "/sys/fs/cgroup/cpuset/$file" >"/sys/fs/cgroup/cpuset/$CGROUP/$file"
  done
}

network() {
  ip link set lo up
  # Without an address of its own the bridge takes its ports' lowest, and pods lose their gateway for 20 s when that pod goes.
  ip link add pods address 0a:58:0a:f4:00:01 type bridge
  ip addr add "$BRIDGE/24" dev pods
  ip link set pods up
  ip route add "$SERVICES" dev pods
  echo 1 >/proc/sys/net/ipv4/ip_forward
}

import() {
  local image
  for image in "$IMAGES"/*.tar; do
    ctr -a "$RUN/containerd.sock" -n k8s.io images import "$image"
  done
}

mounts
cgroups
network
step "namespaces, bridge"
start containerd
start etcd
start kube-apiserver
wait_for 60 "containerd answers" ctr -a "$RUN/containerd.sock" version
import >"$RUN/log/import.log" 2>&1 & # while the API server starts
importing=$!
wait_for 120 "kube-apiserver is ready" kubectl get --raw /readyz
for component in kube-controller-manager kube-scheduler kubelet coredns kube-proxy; do
  start "$component"
done
kubectl apply -f "$MODULE/node/storage.yaml" >"$RUN/log/storage.log" 2>&1 || fail "no storage class: $(<"$RUN/log/storage.log")"
wait_for 60 "node is Ready" kubectl wait --for=condition=Ready "node/$NODE" --timeout=1s
wait_for 60 "CoreDNS is ready" curl -fsS http://127.0.0.1:8181/ready
wait_for 60 "service account is there" kubectl -n default get serviceaccount default
wait "$importing" || fail "images not imported: $(tail -n 3 "$RUN/log/import.log")"
step "images are imported"
touch "$RUN/ready"

# Reaps whatever is orphaned, until somebody kills it.
while :; do
  sleep 3600 &
  wait $! || true
done
