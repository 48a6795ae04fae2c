#!/usr/bin/env bash
# Makes the certificates of one cluster below $RUN/pki: an authority, the servers' certificates, a kubeconfig for each
# component, and the key that signs service account tokens.
set -euo pipefail
# shellcheck source=../vars.sh
. "$(dirname "$0")/../vars.sh"
mkdir -p "$RUN/pki"
cd "$RUN/pki"

quiet() { "$@" 2>>openssl.log; }
key() { quiet openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

# certificate NAME SUBJECT EXTENSIONS
certificate() {
  key "$1.key"
  quiet openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  quiet openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile <(echo "$3") -out "$1.crt"
}

# client NAME SUBJECT makes a certificate to log in with, and $RUN/NAME.kubeconfig
client() {
  certificate "$1" "$2" extendedKeyUsage=clientAuth
  cat >"$RUN/$1.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters: [{name: node, cluster: {server: "https://$BRIDGE:6443", certificate-authority: $RUN/pki/ca.crt}}]
users: [{name: $1, user: {client-certificate: $RUN/pki/$1.crt, client-key: $RUN/pki/$1.key}}]
contexts: [{name: node, context: {cluster: node, user: $1}}]
current-context: node
END
}

key ca.key
quiet openssl req -x509 -new -key ca.key -days 3650 -subj /CN=understudy-e2e -out ca.crt \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign

service=kubernetes.default.svc.cluster.local
certificate apiserver /CN=kube-apiserver "extendedKeyUsage=serverAuth
subjectAltName=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:$service,DNS:localhost,IP:127.0.0.1,IP:${SERVICES%.*}.1,IP:$BRIDGE"
certificate kubelet-serving "/CN=$NODE" "extendedKeyUsage=serverAuth
subjectAltName=DNS:$NODE,IP:127.0.0.1,IP:$BRIDGE"

client admin /O=system:masters/CN=admin
client apiserver-kubelet-client /O=system:masters/CN=apiserver-kubelet-client
client coredns /O=system:masters/CN=coredns
client kube-controller-manager /CN=system:kube-controller-manager
client kube-scheduler /CN=system:kube-scheduler
client kube-proxy /CN=system:kube-proxy
client kubelet "/O=system:nodes/CN=system:node:$NODE"

quiet openssl genrsa -out sa.key 2048
quiet openssl rsa -in sa.key -pubout -out sa.pub
