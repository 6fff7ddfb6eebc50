#!/usr/bin/env bash
# Adds collectors to a run, from any partition that sees its folder, at any time. They leave when the run is complete,
# and come back when they are preempted.
#
#   sbatch --array=0-15 --partition=<preemptible> slurm/collect.sh run=<run folder>
#   bash slurm/collect.sh --dry-run run=<run folder>      prints what each job would run
#
# MINEONLINE_SETUP, MINEONLINE_RUN: see train.sh.
#SBATCH --job-name=mineonline-collect
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=3
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail
# shellcheck source=/dev/null
. "${MINEONLINE_SETUP:-/dev/null}"
unset SLURM_EXPORT_ENV

run=()
if [ -n "${MINEONLINE_RUN:-}" ]; then read -ra run <<< "$MINEONLINE_RUN"; fi
collect=(srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-3}" "${run[@]}" python -m mineonline.collect)
if [ "${1:-}" = --dry-run ]; then
  shift
  printf '%q ' "${collect[@]}" "$@" && echo
  exit 0
fi
trap : TERM # srun ends first
code=0
"${collect[@]}" "$@" || code=$?
job=$SLURM_JOB_ID
if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi
shown=$(scontrol --oneliner show job "$job")
# Slurm itself requeues only one that has not ended when its grace time is over
if [[ $code != 0 && $shown == *" JobState=RUNNING "* && $shown =~ PreemptTime=[0-9] ]]; then
  scontrol requeue "$job"
  sleep 60 # until Slurm ends this script
fi
exit "$code"
