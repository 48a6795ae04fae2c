#!/usr/bin/env bash
# component.sh NAME: becomes that component, inside the node's namespaces. Its output is added to $RUN/log/NAME.log and
# its pid, as the node's own pid namespace counts, is in $RUN/pid/NAME.
set -euo pipefail
# shellcheck source=../vars.sh
. "$(dirname "$0")/../vars.sh"
name=$1
echo $$ >"$RUN/pid/$name"
exec >>"$RUN/log/$name.log" 2>&1 </dev/null

case $name in
containerd)
  exec containerd --config "$RUN/containerd.toml"
  ;;
etcd)
  exec etcd --data-dir "$RUN/etcd" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster default=http://127.0.0.1:2380
  ;;
kube-apiserver)
  exec kube-apiserver --etcd-servers http://127.0.0.1:2379 \
    --bind-address 0.0.0.0 --secure-port 6443 --advertise-address "$BRIDGE" --service-cluster-ip-range "$SERVICES" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged=true \
    --tls-cert-file "$RUN/pki/apiserver.crt" --tls-private-key-file "$RUN/pki/apiserver.key" --client-ca-file "$RUN/pki/ca.crt" \
    --kubelet-client-certificate "$RUN/pki/apiserver-kubelet-client.crt" \
    --kubelet-client-key "$RUN/pki/apiserver-kubelet-client.key" \
    --kubelet-certificate-authority "$RUN/pki/ca.crt" --kubelet-preferred-address-types InternalIP \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-key-file "$RUN/pki/sa.pub" --service-account-signing-key-file "$RUN/pki/sa.key" \
    --audit-policy-file "$RUN/audit/policy.yaml" --audit-log-path "$RUN/audit/audit.log" --profiling=false
  ;;
kube-controller-manager)
  # The default limits of its client alone would take 10 s to make the first service account.
  exec kube-controller-manager --kubeconfig "$RUN/$name.kubeconfig" --bind-address 127.0.0.1 --leader-elect=false \
    --use-service-account-credentials=true --service-account-private-key-file "$RUN/pki/sa.key" \
    --root-ca-file "$RUN/pki/ca.crt" --cluster-signing-cert-file "$RUN/pki/ca.crt" \
    --cluster-signing-key-file "$RUN/pki/ca.key" --kube-api-qps 100 --kube-api-burst 200 --profiling=false
  ;;
kube-scheduler)
  # Without the gate's being off, a pod that waits for a volume is tried again before the scheduler's own list of volumes
  # has the new one, and then not for five minutes: seen with every second volume that was added late.
  exec kube-scheduler --kubeconfig "$RUN/$name.kubeconfig" --bind-address 127.0.0.1 --leader-elect=false --profiling=false \
    --feature-gates SchedulerPopFromBackoffQ=false
  ;;
kubelet)
  exec kubelet --config "$RUN/kubelet.yaml" --kubeconfig "$RUN/$name.kubeconfig" --root-dir "$RUN/kubelet" \
    --hostname-override "$NODE" --node-ip "$BRIDGE"
  ;;
coredns)
  exec coredns -conf "$RUN/Corefile"
  ;;
kube-proxy)
  # Zero: the conntrack sysctls are the whole machine's, leave them.
  exec kube-proxy --kubeconfig "$RUN/$name.kubeconfig" --hostname-override "$NODE" --proxy-mode nftables \
    --cluster-cidr 10.244.0.0/24 --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0 \
    --conntrack-tcp-timeout-close-wait 0 --nodeport-addresses primary
  ;;
*)
  die "no component is called $name"
  ;;
esac
