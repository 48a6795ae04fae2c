# shellcheck shell=bash
# shellcheck disable=SC2034 # read by the scripts that source this
# Names and places that every script here shares. Sourced, not run.

MODULE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) # this nested module
TOP=$(cd "$MODULE/../.." && pwd)                     # the repository
CACHE=${CLUSTER_CACHE:-$TOP/.cache/cluster}          # what is kept between runs: binaries, images, packages
BIN=$CACHE/bin                                       # kubenode and a link to it for each component
IMAGES=$CACHE/images                                 # docker-archives that the node imports when it comes up
BASES=$CACHE/bases                                   # docker-archives that only Dockerfiles build upon
MYSQL=$TOP/.cache/servers/mysql-9.7                  # MySQL, unpacked by make servers
RUN=$CACHE/run                                       # all state of the running cluster; down.sh removes it

NODE=node1
BRIDGE=10.244.0.1         # in the node's network namespace: node address, API server, DNS, the pods' gateway
SERVICES=10.96.0.0/24     # addresses of Services
CGROUP=understudy-$(cksum <<<"$RUN" | cut -d' ' -f1) # every pod's cgroup lies below this one

# The programs are found before those of the same name that the machine may have (kubectl).
PATH=$BIN:$PATH:/usr/sbin:/sbin
export KUBECONFIG=$RUN/admin.kubeconfig KUBECACHEDIR=$RUN/kubectl

say() { echo "${0##*/}: $*" >&2; }
die() {
  say "$@"
  exit 1
}

# milliseconds since the script began, for lines that say how long each step took.
began=$(date +%s%N)
step() { printf '%6d ms  %s\n' $((($(date +%s%N) - began) / 1000000)) "$*"; }

# fresh FILE INPUTS: FILE was made from exactly these inputs (a digest), see done_with.
fresh() { [[ -e $1 && -e $1.inputs && $(<"$1.inputs") == "$2" ]]; }
done_with() { echo "$2" >"$1.inputs"; }
digest() { sha256sum | cut -d' ' -f1; }

# alive FILE SCRIPT prints the pid that FILE holds, if that process really is the one that runs SCRIPT: the file may be
# older than the machine's last boot.
alive() {
  local pid
  pid=$(cat "$1" 2>/dev/null) && [[ -n $pid ]] && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$2" && echo "$pid"
}

# node_pid prints the pid of the node's init as this machine sees it; fails if there is none.
node_pid() { alive "$RUN/pid/init" "$MODULE/node/init.sh"; }
