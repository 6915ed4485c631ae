# The Python tools of the checks, at pinned versions, under target/venv-cluster: read by the scripts beside this file.
# shellcheck shell=bash disable=SC2154 # cluster, die: see environment.bash

venv=$cluster/../../target/venv-cluster
if ! cmp -s "$cluster/requirements.txt" "$venv/installed.txt"; then
    mkdir -p "$venv"
    {
        python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --requirement "$cluster/requirements.txt"
    } >&2 || die "no Python tools"
    cp "$cluster/requirements.txt" "$venv/installed.txt"
fi
PATH=$venv/bin:$PATH
