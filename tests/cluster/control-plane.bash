# etcd, kube-apiserver, kube-controller-manager and, with pods, kube-scheduler: read by `within`.
# shellcheck shell=bash disable=SC2154 # run, logs, mode, audit: see within

services=10.96.0.0/16
pod_range=10.244.0.0/24
host=127.0.0.1 # where the API server is reached; with pods the node's own address

# certificate NAME SUBJECT [EXTENSION...]: a key and a certificate of the cluster's authority.
certificate() {
    local name=$1 subject=$2 authority=(-CA "$run/pki/ca.crt" -CAkey "$run/pki/ca.key") kind=CA:FALSE
    shift 2
    [ "$name" != ca ] || { authority=() && kind=CA:TRUE; }
    # Without any extension it would be of X.509's version 1, which rustls refuses.
    openssl req -x509 -days 7 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj "$subject" "${authority[@]}" \
        -config <(printf '[req]\ndistinguished_name=d\nx509_extensions=e\n[d]\n[e]\n'; printf '%s\n' "basicConstraints=critical,$kind" "$@") \
        -keyout "$run/pki/$name.key" -out "$run/pki/$name.crt" 2>"$logs/openssl.log" || die "$(cat "$logs/openssl.log")"
}

make_certificates() {
    mkdir -p "$run/pki"
    certificate ca /CN=falcon-tests
    certificate apiserver /CN=kube-apiserver \
        "subjectAltName=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1,IP:$host"
    certificate admin /O=system:masters/CN=admin
    openssl ecparam -genkey -noout -name prime256v1 -out "$run/pki/accounts.key"
    openssl ec -in "$run/pki/accounts.key" -pubout -out "$run/pki/accounts.pub" 2>/dev/null
}

# kubeconfig NAME: for the holder of the certificate NAME; everything is inside, so that it can be copied.
kubeconfig() {
    cat >"$run/$1.kubeconfig" <<EOF
apiVersion: v1
kind: Config
current-context: falcon
contexts: [{name: falcon, context: {cluster: falcon, user: $1}}]
clusters: [{name: falcon, cluster: {server: "https://$host:$port", certificate-authority-data: $(base64 -w0 "$run/pki/ca.crt")}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$run/pki/$1.crt"), client-key-data: $(base64 -w0 "$run/pki/$1.key")}}]
EOF
}

# admin ARGS...: kubectl as cluster admin.
admin() { kubectl --kubeconfig "$run/admin.kubeconfig" --request-timeout 5s "$@"; }

# A port of loopback that nobody listens on, below those that the kernel gives out by itself.
free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

start_apiserver() {
    # shellcheck disable=SC2054 # the commas are part of a flag
    local flags=(
        --etcd-servers "unix://$run/etcd.sock"
        --secure-port "$port" --tls-cert-file "$run/pki/apiserver.crt" --tls-private-key-file "$run/pki/apiserver.key"
        --client-ca-file "$run/pki/ca.crt"
        --service-account-key-file "$run/pki/accounts.pub" --service-account-signing-key-file "$run/pki/accounts.key"
        --service-account-issuer https://kubernetes.default.svc
        --authorization-mode Node,RBAC --service-cluster-ip-range "$services" --allow-privileged
        --advertise-address "$host"
    )
    if [ "$mode" = pods ]; then
        flags+=(
            --kubelet-preferred-address-types InternalIP # no DNS knows the node's name
            --kubelet-client-certificate "$run/pki/admin.crt" --kubelet-client-key "$run/pki/admin.key"
        )
    else
        flags+=(--bind-address "$host" --endpoint-reconciler-type none) # loopback is refused as an endpoint
    fi
    if [ -n "$audit" ]; then
        printf '%s\n' 'apiVersion: audit.k8s.io/v1' 'kind: Policy' 'omitStages: [RequestReceived]' 'rules: [{level: Metadata}]' >"$run/audit.yaml"
        flags+=(--audit-policy-file "$run/audit.yaml" --audit-log-path "$logs/audit.log")
    fi
    start kube-apiserver kube-apiserver "${flags[@]}"
}

answers() { admin get --raw /readyz; }
# The port may have been taken since it was chosen: then the process ends at once.
ready_or_gone() { ! alive kube-apiserver || answers; }

start_control_plane() {
    local try
    port=6443
    [ "$mode" = pods ] || port=$(free_port)
    make_certificates
    kubeconfig admin
    # A socket in our folder needs no free port; the address advertised is never used. Nobody mourns this data: no fsync.
    start etcd etcd --data-dir "$run/etcd" --listen-client-urls "unix://$run/etcd.sock" \
        --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:0 --unsafe-no-fsync --log-level warn
    await etcd 30 test -S "$run/etcd.sock"
    for try in 1 2 3; do
        start_apiserver
        await etcd 90 ready_or_gone
        ! alive kube-apiserver || break
        grep -q 'address already in use' "$logs/kube-apiserver.log" && [ "$mode" != pods ] || break
        say "port $port was taken (try $try)"
        port=$(free_port)
        kubeconfig admin
    done
    await kube-apiserver 1 answers

    start kube-controller-manager kube-controller-manager --kubeconfig "$run/admin.kubeconfig" --secure-port 0 \
        --service-account-private-key-file "$run/pki/accounts.key" --root-ca-file "$run/pki/ca.crt" \
        --use-service-account-credentials --leader-elect=false --kube-api-qps 200 --kube-api-burst 400 \
        --allocate-node-cidrs --cluster-cidr "$pod_range" --node-cidr-mask-size 24 --service-cluster-ip-range "$services" \
        --horizontal-pod-autoscaler-sync-period 2s
    [ "$mode" != pods ] ||
        start kube-scheduler kube-scheduler --kubeconfig "$run/admin.kubeconfig" --secure-port 0 --leader-elect=false
    # Pods are refused before their namespace has this account.
    await kube-controller-manager 60 admin get serviceaccount default
}
