# Where the cluster's parts are, and how the scripts beside this file speak: read by them, never run.
# shellcheck shell=bash

cluster=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# One name per set of sources, so that a new version never meets the old one's binaries.
kubernetes=$(awk '$1 == "k8s.io/kubernetes" { sub("^v", "", $2); print $2; exit }' "$cluster/binaries/go.mod")
fingerprint=$(cat "$cluster"/binaries/go.{mod,sum} "$cluster"/binaries/coredns/*.go | sha256sum | cut -c1-12)
assets=${XDG_CACHE_HOME:-$HOME/.cache}/falcon-tests/k8s-$kubernetes-$(uname -m)-$fingerprint

# Administrators' tools (iptables, ip) are not on everybody's path. Ready-made binaries come first, where somebody has them.
PATH=${KUBEBUILDER_ASSETS:+$KUBEBUILDER_ASSETS:}$assets:$PATH:/usr/sbin:/sbin
export PATH

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }
# What this machine can't give is not a failure: the caller counts a skip.
skip() { say "skipped: $*"; exit 77; }
# Skips unless all of these can be run here.
need() {
    local name
    for name; do command -v "$name" >/dev/null || skip "no $name here: run tests/cluster/setup"; done
}
