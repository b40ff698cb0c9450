#!/usr/bin/env bash
# A Slurm of one node on loopback, and the sweep that must survive on it. See README.md beside this file.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=$(command -v "${PYTHON:-python}")
for program in munged slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || { echo "no $program: apt-get install slurmctld slurmd slurm-client munge" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "slurmd needs root" >&2; exit 1; }

base=$(mktemp -d)
chmod 755 "$base"
mkdir "$base"/{munge,state,spool,work}
export SLURM_CONF=$base/slurm.conf
pids=()

cleanup() {
    scancel --quiet --user root 2>/dev/null || true
    for _ in $(seq 30); do [ -z "$(squeue --noheader 2>/dev/null)" ] && break; sleep 1; done
    for pid in $(printf '%s\n' "${pids[@]}" | tac); do kill "$pid" 2>/dev/null || true; done
    for _ in $(seq 10); do [ -z "$(jobs -pr)" ] && break; sleep 1; done
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    if [ -n "${KEEP:-}" ]; then echo "kept: $base"; else rm -rf "$base"; fi
}
trap cleanup EXIT

# munge authenticates the daemons to each other: its own key and socket, its own user.
dd if=/dev/urandom of="$base/munge/key" bs=1024 count=1 status=none
chown -R munge: "$base/munge"
chmod 400 "$base/munge/key"
chmod 755 "$base/munge"
runuser -u munge -- munged --foreground --key-file="$base/munge/key" --socket="$base/munge/socket" \
    --pid-file="$base/munge/pid" --log-file="$base/munge/log" --seed-file="$base/munge/seed" >/dev/null 2>&1 &
pids+=($!)

host=$(hostname -s)
cat >"$SLURM_CONF" <<EOF
ClusterName=vem
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$base/munge/socket
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$base/state
SlurmdSpoolDir=$base/spool
SlurmctldPidFile=$base/slurmctld.pid
SlurmdPidFile=$base/slurmd.pid
SlurmctldLogFile=$base/slurmctld.log
SlurmdLogFile=$base/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=2,batch_sched_delay=1
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
EOF

for _ in $(seq 100); do [ -S "$base/munge/socket" ] && break; sleep 0.1; done
slurmctld -D >/dev/null 2>&1 &
pids+=($!)
slurmd -D >/dev/null 2>&1 &
pids+=($!)
for _ in $(seq 120); do sinfo --noheader --format=%t 2>/dev/null | grep -q idle && break; sleep 0.5; done
sinfo

cd "$base/work"
export OMP_NUM_THREADS=1 PYTHONPATH=$here/../..
if [ $# -gt 0 ]; then  # a command of one's own, in this cluster
    "$@"
else
    "$python" "$here/../cli/survival.py" launcher=slurm hydra.launcher.timeout_min=30 hydra.launcher.partition=main
fi
