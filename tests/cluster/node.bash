# The one node, with real containers: read by `within`, which has namespaces of its own by then.
# shellcheck shell=bash disable=SC2154,SC2034 # run, logs, images, host: see within

node=10.99.0.1

prepare_network() {
    ip link set lo up
    # kube-apiserver and the kubelet want an address and a default route; nothing is behind it.
    ip link add eth0 type veth peer name eth1 2>/dev/null || skip "no veth links here"
    ip address add "$node/24" dev eth0
    ip link set eth0 up
    ip link set eth1 up
    ip route add default via 10.99.0.254
    iptables -t nat -L -n >/dev/null 2>&1 || skip "no iptables here"
    host=$node # read by control-plane.bash
    export FALCON_CLUSTER_HOST=$node
}

# What is written to fixed places is written to memory, and seen by nobody outside.
prepare_mounts() {
    local folder
    for folder in /run /var/log /var/lib/kubelet /var/lib/cni; do
        mkdir -p "$folder"
        mount -t tmpfs none "$folder"
    done
    printf 'nameserver %s\nsearch svc.cluster.local cluster.local\n' "$node" >"$run/resolv.conf"
    local resolv
    resolv=$(realpath -m /etc/resolv.conf) # often a link into /run, which is empty by now
    [ -e "$resolv" ] || { mkdir -p "${resolv%/*}" && touch "$resolv"; }
    mount --bind "$run/resolv.conf" "$resolv"
}

start_containerd() {
    local folder archive
    mkdir -p "$run/cni"
    # Each pod a link of its own to the host: what goes from pod to pod passes the host's rules without br_netfilter.
    cat >"$run/cni/10-falcon.conflist" <<EOF
{"cniVersion": "0.4.0", "name": "falcon", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pod_range"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
EOF
    # Sandboxed machines withhold CAP_SYS_RESOURCE: without restrict_oom_score_adj no container would start there.
    cat >"$run/containerd.toml" <<EOF
version = 2
root = "$run/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/pause:latest"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$run/cni"
EOF
    export CONTAINERD_ADDRESS=/run/containerd/containerd.sock CONTAINERD_NAMESPACE=k8s.io
    start containerd containerd --config "$run/containerd.toml"
    await containerd 30 ctr version
    while read -r folder; do
        for archive in "$folder"/*.tar; do
            ctr images import "$archive" >>"$logs/images.log" 2>&1 || die "import of $archive: $(tail -n 1 "$logs/images.log")"
        done
    done <<<"$assets/images${images:+$'\n'}${images%$'\n'}"
}

# The folder of this run's pods in each hierarchy, so that two runs never meet in one.
make_cgroups() {
    local name=${run##*/} controller
    if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
        for controller in cpu cpuset memory pids io hugetlb; do
            echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true # what the kernel has
        done
        mkdir -p "/sys/fs/cgroup/$name"
    else
        for controller in /sys/fs/cgroup/*/; do
            mkdir -p "$controller$name" 2>/dev/null || true # `unified` may be read-only
        done
    fi
}

start_kubelet() {
    make_cgroups
    certificate node /O=system:nodes/CN=system:node:node1
    kubeconfig node
    # failCgroupV1: from 1.35 on the kubelet refuses cgroup v1 otherwise.
    cat >"$run/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $run/pki/ca.crt}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /${run##*/}
clusterDNS: [$node]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://$CONTAINERD_ADDRESS
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
podLogsDir: $logs/pods
resolvConf: $run/resolv.conf
EOF
    # --node-ip: else the kubelet asks DNS for the node's name, and registers half a minute late.
    start kubelet kubelet --config "$run/kubelet.yaml" --kubeconfig "$run/node.kubeconfig" --root-dir "$run/kubelet" \
        --cert-dir "$run/kubelet-pki" --hostname-override node1 --node-ip "$node" \
        --node-labels topology.kubernetes.io/region=here,topology.kubernetes.io/zone=here-a
}

start_node() {
    start_containerd
    start_kubelet
    # Sysctls are not ours to set: hence no conntrack maximum.
    start kube-proxy kube-proxy --kubeconfig "$run/admin.kubeconfig" --hostname-override node1 --proxy-mode iptables \
        --cluster-cidr "$pod_range" --conntrack-max-per-core 0 --iptables-min-sync-period 100ms
    cat >"$run/Corefile" <<EOF
cluster.local in-addr.arpa {
    bind $node
    errors
    kubernetes {
        kubeconfig $run/admin.kubeconfig falcon
    }
}
# What is not in the cluster does not exist, as a DNS behind it would say.
. {
    bind $node
    template ANY ANY {
        rcode NXDOMAIN
    }
}
EOF
    start coredns coredns -conf "$run/Corefile"
    await kubelet 60 admin wait --for=condition=Ready --timeout=1s node/node1
    await coredns 30 getent hosts kubernetes.default.svc.cluster.local
    await kube-proxy 30 kubectl --kubeconfig "$run/admin.kubeconfig" --server https://10.96.0.1 get --raw /readyz --request-timeout 1s
}
