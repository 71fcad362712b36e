#!/usr/bin/env bash
# Runs examples/slurm.sh under a real Slurm on this machine alone: installs Debian's packages, sets up one node, submits an
# array, requeues one of its tasks in the middle and compares the shards with an edit without any. Needs root.
#
#   scripts/slurm_node.sh target/release/toedit
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(realpath "${1:?the program, as target/release/toedit}")
count=4
place=$(mktemp -d /tmp/toedit-slurm.XXXXXX)
chmod 755 "$place"
export SLURM_CONF=$place/slurm.conf

if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
    apt-get update -qq
    # The packages would start daemons of their own.
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends slurm-wlm munge >"$place/apt.log"
fi
node=$(hostname -s)
mkdir -p "$place"/{state,spool,run}
cat >"$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$place/run/munge.socket,cred_expire=5
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldPidFile=$place/run/slurmctld.pid
SlurmdPidFile=$place/run/slurmd.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
ReturnToService=2
KillWait=10
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
# No control groups, which containers may not have: before Slurm 23 the plugin for the first version, which touches none
# unless another plugin asks for it.
plugin=disabled
[[ $(slurmd -V) == *" 22."* ]] && plugin=cgroup/v1
echo "CgroupPlugin=$plugin" >"$place/cgroup.conf"

daemons=()
stop() {
    trap - EXIT
    scancel --quiet --user=root 2>/dev/null || true
    for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
}
trap stop EXIT

dd if=/dev/urandom of="$place/run/key" bs=1024 count=1 status=none
chmod 400 "$place/run/key"
munged --foreground --force --key-file="$place/run/key" --socket="$place/run/munge.socket" --pid-file="$place/run/munge.pid" \
    --seed-file="$place/run/seed" --log-file="$place/munge.log" &
daemons+=($!)
until [ -S "$place/run/munge.socket" ]; do sleep 0.1; done
slurmctld -D -i >/dev/null 2>&1 &
daemons+=($!)
slurmd -D -N "$node" >/dev/null 2>&1 &
daemons+=($!)
for _ in $(seq 100); do
    [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ] && break
    sleep 0.3
done
sinfo
[ "$(sinfo --noheader --format=%t)" = idle ] || { tail -n 5 "$place"/slurm*.log; exit 1; }

# Long enough to be interrupted.
for _ in $(seq 80); do cat assets/sample.jsonl; done >"$place/corpus.jsonl"
words=(--model "$PWD/assets/tiny" --input "$place/corpus.jsonl" --resample-above 0 --provenance --threads 1)
"$program" edit "${words[@]}" --output "$place/whole.jsonl" --quiet

cd "$place"
export TOEDIT=$program
job=$(sbatch --parsable --array=0-$((count - 1)) --cpus-per-task=1 "$OLDPWD/examples/slurm.sh" "${words[@]}" --output "$place/out.jsonl")
echo "job $job of $count tasks"
for _ in $(seq 300); do
    [ -z "$(squeue --noheader --array --states=RUNNING --jobs="$job" 2>/dev/null)" ] || break
    sleep 0.2
done
sleep 3
task=$(squeue --noheader --array --states=RUNNING --format=%K --jobs="$job" | head -n 1)
if [ -n "$task" ]; then
    echo "requeuing task $task"
    scontrol requeue "${job}_$task"
fi
for _ in $(seq 600); do
    [ -z "$(squeue --noheader --jobs="$job" 2>/dev/null)" ] && break
    sleep 1
done
squeue --array --jobs="$job" 2>/dev/null || true
cat out-*-of-*.jsonl >union.jsonl
cmp union.jsonl whole.jsonl
ls -l out-*-of-*.jsonl
grep -h -e requeued -e documents toedit-*.log || true
echo "logs in $place"
echo "the union of $count shards is the unsharded edit, byte for byte"
