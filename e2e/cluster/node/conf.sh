#!/usr/bin/env bash
# Writes the components' configuration files below $RUN.
set -euo pipefail
# shellcheck source=../vars.sh
. "$(dirname "$0")/../vars.sh"
mkdir -p "$RUN"/{cni,kubelet,log,pid,audit,volumes}

# restrict_oom_score_adj: without CAP_SYS_RESOURCE runc cannot lower a sandbox's oom_score_adj, and dies.
# bin_dir: where Debian keeps the CNI plugins.
cat >"$RUN/containerd.toml" <<END
version = 2
root = "$RUN/containerd/root"
state = "$RUN/containerd/state"
[grpc]
  address = "$RUN/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$RUN/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "local/pause:1"
  enable_selinux = false
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$RUN/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
END

# This plugin does not know NetworkPolicy: such objects are accepted and enforce nothing.
cat >"$RUN/cni/10-node.conflist" <<END
{"cniVersion": "0.4.0", "name": "node", "plugins": [
  {"type": "bridge", "bridge": "pods", "isGateway": true, "isDefaultGateway": true, "hairpinMode": true, "mtu": 1500,
   "ipam": {"type": "host-local", "dataDir": "$RUN/cni/leases",
            "ranges": [[{"subnet": "10.244.0.0/24", "rangeStart": "10.244.0.10", "gateway": "$BRIDGE"}]]}}]}
END

echo "nameserver $BRIDGE" >"$RUN/resolv.conf"
cat >"$RUN/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $BRIDGE
healthzBindAddress: 127.0.0.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $RUN/pki/ca.crt}}
authorization: {mode: AlwaysAllow}
tlsCertFile: $RUN/pki/kubelet-serving.crt
tlsPrivateKeyFile: $RUN/pki/kubelet-serving.key
containerRuntimeEndpoint: unix://$RUN/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
failCgroupV1: false
failSwapOn: false
clusterDNS: [$BRIDGE]
clusterDomain: cluster.local
resolvConf: $RUN/resolv.conf
podLogsDir: $RUN/podlogs
enforceNodeAllocatable: [pods]
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
syncFrequency: 5s
nodeStatusUpdateFrequency: 4s
serializeImagePulls: false
END

# Names that the cluster does not know do not exist: an error instead would make resolvers wait and try again.
# ttl 1 and no cache: a new pod's address is seen at once.
cat >"$RUN/Corefile" <<END
cluster.local:53 in-addr.arpa:53 {
    bind $BRIDGE
    errors
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa {
        kubeconfig $RUN/coredns.kubeconfig
        pods insecure
        ttl 1
    }
}
.:53 {
    bind $BRIDGE
    template ANY ANY . {
        rcode NXDOMAIN
    }
}
END

# What pods do with their service account's token, to be compared with what RBAC grants them.
cat >"$RUN/audit/policy.yaml" <<END
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- {level: None, userGroups: ["system:serviceaccounts:kube-system"]}
- {level: Metadata, userGroups: ["system:serviceaccounts"]}
- {level: None}
END
