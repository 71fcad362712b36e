#!/usr/bin/env bash
# Edits a corpus by a Slurm job array, one shard a task:
#
#   sbatch --array=0-31 examples/slurm.sh --model MODEL --input CORPUS --output OUT
#
# Each task writes name-00000-of-00032.ext and so on, and continues what an earlier run of it has left: after preemption, a
# node's failure, the time limit or `scontrol requeue` no document is edited twice but those of one frame, and the bytes are
# those of a run that was never interrupted. The same command, submitted again, only does what is missing. To run single
# shards again, name them in full, since a smaller array would be another division of the corpus:
#
#   sbatch --array=5,9 examples/slurm.sh --model MODEL --input CORPUS --output OUT --shard '%a/32'
#
# TOEDIT names the program (default: toedit on the PATH), MAX_RESTARTS bounds requeues (default 100).
#SBATCH --job-name=toedit
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
# Two minutes before the time limit: enough to finish a batch and commit it.
#SBATCH --signal=B:USR1@120
set -uo pipefail

task=${SLURM_ARRAY_TASK_ID:?submit this script with sbatch --array}
restarts=${SLURM_RESTART_COUNT:-0}
arguments=("${@//%a/$task}")
case " $* " in
*" --shard"[\ =]*) ;;
*) arguments+=(--shard auto) ;;
esac

# A signal goes to the program, which commits what it has and exits with 143.
child=
trap 'requeue=1; [ -z "$child" ] || kill -TERM "$child"' USR1
trap '[ -z "$child" ] || kill -TERM "$child"' TERM INT
requeue=
"${TOEDIT:-toedit}" edit "${arguments[@]}" --resume &
child=$!
# `wait` returns early when a signal arrives.
while wait "$child"; status=$?; kill -0 "$child" 2>/dev/null; do :; done

case $status in
0) exit 0 ;;
3) echo "task $task: done, but some documents were passed through or set aside: see the summary" >&2; exit 0 ;;
75) requeue=1 ;; # worth trying again: the output is locked, a GPU was lost
esac
# After a plain SIGTERM Slurm itself decides: it requeues preempted tasks, and cancelled ones stay so.
if [ -n "$requeue" ] && [ "$restarts" -lt "${MAX_RESTARTS:-100}" ]; then
    echo "task $task: status $status, requeued after $restarts restarts" >&2
    scontrol requeue "${SLURM_ARRAY_JOB_ID:?}_$task"
    exit
fi
exit "$status"
