#!/usr/bin/env bash
# A Ray cluster of two nodes on this machine, and the sweep that must survive on it. See README.md beside this file.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=$(command -v "${PYTHON:-python}")
"$python" -c 'import ray' || { echo "no Ray: pip install -c constraints.txt -e '.[ray]'" >&2; exit 1; }

base=$(mktemp -d)
mkdir "$base"/{head,second,work}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1
export RAY_raylet_start_wait_time_s=180  # a machine with other work to do
export PYTHONPATH=$here/../..  # the nodes need vem: this checkout's
RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | base64 | tr -d '/+=')
ray() { "$python" -m ray.scripts.scripts "$@"; }
pids=()

cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ -n "${KEEP:-}" ]; then echo "kept: $base"; else rm -rf "$base"; fi
}
trap cleanup EXIT

# Each node starts in a folder of its own, elsewhere than the sweep, as on two machines.
port=6399
node() {  # NAME, further options of `ray start`
    (cd "$base/$1" && exec "$python" -m ray.scripts.scripts start --block --num-cpus=1 --min-worker-port=0 \
        --max-worker-port=0 --dashboard-agent-listen-port=0 "${@:2}" >"$base/$1.log" 2>&1) &
    pids+=($!)
}
nodes() { ray status --address=127.0.0.1:$port 2>/dev/null | grep -c '^ 1 node_' || true; }
await() {  # NAME, how many nodes there are once it has joined
    for _ in $(seq 120); do
        kill -0 "${pids[-1]}" 2>/dev/null || { cat "$base/$1.log" >&2; exit 1; }
        [ "$(nodes)" = "$2" ] && return
        sleep 1
    done
    cat "$base/$1.log" >&2
    exit 1
}
node head --head --node-ip-address=127.0.0.1 --port=$port --include-dashboard=false --temp-dir="$base/head"
await head 1
node second --address=127.0.0.1:$port
await second 2
ray status --address=127.0.0.1:$port

cd "$base/work"
"$python" "$here/../cli/survival.py" launcher=ray hydra.launcher.ray.init.address=127.0.0.1:$port
