#!/usr/bin/env bash
# Trains in one Slurm job: a trainer process for each task, one a GPU, and on each node collectors; from two nodes on, also
# a relay on each, which they join through, so that weights come to a node once.
#
#   sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 slurm/train.sh task=hunt_cow
#   SLURM_NNODES=2 SLURM_NTASKS_PER_NODE=4 bash slurm/train.sh --dry-run ...      prints what such a job would run
#
# Submit it in a folder that all nodes share: the run is in runs/slurm/<job id> there. Warned before its time limit, or
# preempted, it saves, is requeued and goes on. It is requeued after a failure too, if it has saved since it started.
#
# Partition, account and time are options of sbatch, or SBATCH_PARTITION, SBATCH_ACCOUNT and SBATCH_TIMELIMIT. Also:
#   MINEONLINE_SETUP           file to source on the first node: modules, virtual environment      (none)
#   MINEONLINE_RUN             words before `python` in each step: apptainer exec --nv image.sif    (none)
#   MINEONLINE_COLLECTORS      collectors on each node                                              (1)
#   MINEONLINE_COLLECTOR_CPUS  CPUs of each; they may use the trainers' as well                     (the node's, divided)
#   MINEONLINE_MAX_REQUEUES    how often the job starts again at most, preemptions included          (20)
# The warning comes 300 s before the time limit; sbatch --signal=B:USR2@60 gives another time, and that signal. B: is
# needed: it is this script that is warned, which tells the trainer, whatever that is doing.
#SBATCH --job-name=mineonline
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
warned=false training=false
# from the first line on. The trainer is step 0; to kill srun itself would kill its tasks without a grace. Only while it
# is there: in a job that is requeued, scancel would wait for the next step 0
trap 'warned=true; if $training; then scancel --signal=TERM "$SLURM_JOB_ID.0" || true; fi' USR1 USR2 TERM
# shellcheck source=/dev/null
. "${MINEONLINE_SETUP:-/dev/null}"
unset SLURM_EXPORT_ENV # of sbatch --export=NONE: srun would start the tasks without an environment

dry_run=false
if [ "${1:-}" = --dry-run ]; then dry_run=true; shift; fi
nodes=${SLURM_NNODES:-1} devices=${SLURM_NTASKS_PER_NODE:-1} cpus=${SLURM_CPUS_PER_TASK:-8}
collectors=${MINEONLINE_COLLECTORS:-1}
collector_cpus=${MINEONLINE_COLLECTOR_CPUS:-$((devices * cpus / (collectors > 0 ? collectors : 1)))}
run_dir=${SLURM_SUBMIT_DIR:-$PWD}/runs/slurm/${SLURM_JOB_ID:-<job id>}

gpus=${SLURM_GPUS_ON_NODE:-0}
if [ "$gpus" -gt "$devices" ]; then
  echo "warning: $gpus GPUs on a node, but $devices trainer processes, one a GPU: sbatch --ntasks-per-node=$gpus" >&2
fi

run=()
if [ -n "${MINEONLINE_RUN:-}" ]; then read -ra run <<< "$MINEONLINE_RUN"; fi
resume=()
if [ -e "$run_dir/checkpoints/last.ckpt" ]; then resume=(checkpoint=latest); else rm -f "$run_dir/metrics.csv"; fi
# collectors share the nodes with the trainer: without --overlap the second step would wait for the first to end
train=(
  srun --overlap --kill-on-bad-exit=1 --nodes="$nodes" --ntasks="$((nodes * devices))" --ntasks-per-node="$devices"
  --cpus-per-task="$cpus" "${run[@]}" python -m mineonline.train network.host=auto "$@" "${resume[@]}" "run_dir=$run_dir"
  trainer.num_nodes="$nodes" trainer.devices="$devices" collector.count=0
)
collect=(
  srun --overlap --nodes="$nodes" --ntasks="$((nodes * collectors))" --ntasks-per-node="$collectors"
  --cpus-per-task="$collector_cpus" "${run[@]}" python -m mineonline.collect "run=$run_dir"
)
relay=(
  srun --overlap --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpus-per-task=1
  "${run[@]}" python -m mineonline.relay "run=$run_dir"
)
beside=() # the trainer: the steps that are told to end when it has
if [ "$collectors" -gt 0 ]; then
  if [ "$nodes" -gt 1 ]; then beside+=(relay); fi
  beside+=(collect)
fi
if $dry_run; then
  for step in train "${beside[@]}"; do
    declare -n words=$step
    printf '%q ' "${words[@]}" && echo
  done
  exit 0
fi

mkdir -p "$run_dir"
touch "$run_dir/started"
code=1 others=()
if ! $warned; then
  code=0
  "${train[@]}" &
  trainer=$!
  until scontrol show step "$SLURM_JOB_ID.0" &> /dev/null || ! kill -0 "$trainer" 2>/dev/null; do sleep 0.2; done
  training=true
  if $warned; then scancel --signal=TERM "$SLURM_JOB_ID.0" || true; fi # before there was a step 0
  if kill -0 "$trainer" 2>/dev/null; then
    for step in "${beside[@]}"; do
      declare -n words=$step
      "${words[@]}" &
      others+=($!)
    done
  fi
  wait "$trainer" || code=$?
  while kill -0 "$trainer" 2>/dev/null; do # it was a signal that ended the wait
    code=0
    wait "$trainer" || code=$?
  done
  training=false
fi
for process in "${others[@]}"; do
  while kill -0 "$process" 2>/dev/null; do
    for ((step = 1; step <= ${#beside[@]}; step++)); do
      timeout 10 scancel --signal=TERM "$SLURM_JOB_ID.$step" 2>/dev/null || true
    done
    sleep 3 & wait $! || true
  done
done

# complete, or ended by a limit of its own (trainer.max_time)
if [ -e "$run_dir/done" ] || [ "$code" = 0 ]; then exit 0; fi
job=$(scontrol --oneliner show job "$SLURM_JOB_ID")
# one that was cancelled is no longer running, and Slurm itself requeues one that is preempted without a grace time
if [[ $job != *" JobState=RUNNING "* ]]; then exit "$code"; fi
# an exit code would not tell: srun gives that of the ranks which --kill-on-bad-exit ended
if $warned || [[ $job =~ PreemptTime=[0-9] || $run_dir/checkpoints/last.ckpt -nt $run_dir/started ]]; then :; else
  exit "$code"
fi
if [ "${SLURM_RESTART_COUNT:-0}" -ge "${MINEONLINE_MAX_REQUEUES:-20}" ]; then
  echo "job $SLURM_JOB_ID was started again ${SLURM_RESTART_COUNT:-0} times (MINEONLINE_MAX_REQUEUES): it ends" >&2
  exit "$code"
fi
scontrol requeue "$SLURM_JOB_ID"
sleep 60 # until Slurm ends this script
