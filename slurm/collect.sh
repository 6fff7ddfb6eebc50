#!/usr/bin/env bash
# Adds collectors to a run, from any partition that sees its folder, at any time. They leave when the run is complete.
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
exec "${collect[@]}" "$@"
