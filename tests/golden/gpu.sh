#!/bin/bash
#SBATCH --job-name=carme-gpu
#SBATCH --comment=carme:0123abcd:rosa/
#SBATCH --partition=gpu
#SBATCH --account=research
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --time=90
#SBATCH --chdir=/
#SBATCH --mem=4096M
#SBATCH --gres=gpu:h100:2
#SBATCH --output=/dev/null
#SBATCH --error=/dev/null
#SBATCH --export=ALL
#SBATCH --propagate=NONE
#SBATCH --no-requeue

set -euo pipefail

fail() {
  printf 'carme: %s\n' "$2"
  exit "$1"
}

mask=$(umask)
umask 077
log=/srv/home/rosa/.carme/session-$SLURM_JOB_ID.log
{ mkdir -p -- /srv/home/rosa/.carme && : >>"$log"; } 2>/dev/null || exit 91
exec >>"$log" 2>&1
umask "$mask"

command -v -- apptainer >/dev/null || fail 97 "there is no "apptainer" on $(hostname)"
image=/srv/images/ml.sif
[[ -r $image ]] || fail 95 "the image $image cannot be read on $(hostname)"
scratch=$(mktemp -d -- "${TMPDIR:-/tmp}/carme-$SLURM_JOB_ID.XXXXXXXXXX") \
  || fail 94 "no private folder can be made on $(hostname)"
trap 'rm -rf -- "$scratch"' EXIT

unset "${!SLURM_CPU_BIND@}" SLURM_PROCID SLURM_LOCALID SLURM_NODEID SLURM_GTIDS SLURM_TASK_PID
export SLURM_OVERLAP=1 SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"
for name in "${!SLURM_@}" SRUN_CPUS_PER_TASK \
  CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ZE_AFFINITY_MASK GPU_DEVICE_ORDINAL; do
  if [[ -v $name ]]; then
    export "APPTAINERENV_$name=${!name}"
  fi
done
export APPTAINER_WORKDIR="$scratch"
zone=$(readlink -f /etc/localtime || true)
if [[ $zone == */zoneinfo/* && ! -v APPTAINERENV_TZ ]]; then
  export APPTAINERENV_TZ="${zone##*/zoneinfo/}"
fi

child=
trap '[[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true' TERM
apptainer --quiet exec --containall --pid --ipc --no-eval --no-mount hostfs,cwd,bind-paths --home /srv/home/rosa:/srv/home/rosa --pwd /srv/home/rosa --nv --bind /etc/hosts:/etc/hosts:ro --bind /srv/datasets:/data:ro --bind /etc/slurm:/etc/slurm:ro --bind /run/munge:/run/munge:rw /srv/images/ml.sif python3 -I -S - jupyterhub-singleuser --debug <<'CARME_REPORTER_ENDS_HERE' &
print("reporter")
CARME_REPORTER_ENDS_HERE
child=$!
status=0
wait "$child" || status=$?
while kill -0 "$child" 2>/dev/null; do
  status=0
  wait "$child" || status=$?
done
exit "$status"
