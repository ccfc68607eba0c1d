#!/bin/bash
#SBATCH --job-name=carme-ml101
#SBATCH --comment=carme:0123abcd:rosa/
#SBATCH --partition=teaching
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
#SBATCH --time=120
#SBATCH --chdir=/
#SBATCH --mem=1024M
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
image=/srv/images/base.sif
[[ -r $image ]] || fail 95 "the image $image cannot be read on $(hostname)"
scratch=$(mktemp -d -- "${TMPDIR:-/tmp}/carme-$SLURM_JOB_ID.XXXXXXXXXX") \
  || fail 94 "no private folder can be made on $(hostname)"
trap 'rm -rf -- "$scratch"' EXIT

copy_course() {
  local source=$1 target=$2 path from to part
  [[ -d $source && -r $source && -x $source ]] \
    || fail 92 "the course material $source cannot be read on $(hostname)"
  mkdir -p -- "$target" || fail 93 "the folder $target cannot be made"
  while IFS= read -r -d '' path; do
    from=$source/$path
    to=$target/$path
    if [[ -d $from && ! -L $from ]]; then
      [[ -d $to ]] || mkdir -p -- "$to" || fail 93 "the folder $to cannot be made"
    elif [[ ! -e $to && ! -L $to ]]; then
      part=${to%/*}/.carme-$SLURM_JOB_ID.part
      cp -P -- "$from" "$part" || { rm -f -- "$part"; fail 93 "$to cannot be written"; }
      [[ -L $part ]] || chmod u+w -- "$part"
      ln -T -- "$part" "$to" 2>/dev/null || mv -n -T -- "$part" "$to"
      rm -f -- "$part"
    fi
  done < <(find "$source" -mindepth 1 \( -type d -o -type f -o -type l \) -printf '%P\0')
  wait "$!" || fail 92 "a part of the course material $source cannot be read on $(hostname)"
}

copy_course /srv/courses/ml101 /srv/home/rosa/courses/ml101

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
apptainer --quiet exec --containall --pid --ipc --no-eval --no-mount hostfs,cwd,bind-paths --home /srv/home/rosa:/srv/home/rosa --pwd /srv/home/rosa --bind /etc/hosts:/etc/hosts:ro --bind /etc/slurm:/etc/slurm:ro /srv/images/base.sif python3 -I -S - jupyterhub-singleuser --debug <<'CARME_REPORTER_ENDS_HERE' &
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
