"""What happens on each node of a session, as functions for bash: checks, private folders, the container.

The batch script defines them and uses them on its own node; to the other nodes they travel as text
(``declare -f``). Every value is quoted here; the functions take nothing from the person.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from carme_hub.spawner import container, own_files, step

if TYPE_CHECKING:
    from carme_hub.spawner.request import JobRequest

# How a node says that it cannot hold the session; `failure` says it in sentences.
EXIT_SCRATCH = 94
EXIT_IMAGE = 95
EXIT_APPTAINER = 97
EXIT_MOUNT = 98

MOUNT_PATIENCE = 20  # seconds for a file system to answer

_FUNCTIONS_OF_A_TASK = (
    *("own_files", "open_scratch", "sweep_scratch", "fill_scratch", "use_scratch", *step.NAMES, "run_task"),
)


def functions(request: JobRequest, home: str, apptainer: str) -> str:
    """Return the functions.

    Parameters
    ----------
    request
        Names image, mounts and GPUs.
    home
        The person's home folder.
    apptainer
        Name or path of Apptainer's command on the nodes.
    """
    *options, image = container.command(request, home, apptainer)
    checks = [
        f"  check_mount {shlex.quote(mount.name)} {shlex.quote(mount.source)} {shlex.quote(mount.filesystem)}"
        for mount in request.mounts
        if mount.filesystem
    ]
    shared = step.functions(request, home, apptainer, own_files.FOLDER, EXIT_SCRATCH)
    own = own_files.function(request, home)
    return f"{mount_check()}\n{own}\n\n{shared}\n" + _FUNCTIONS.format(
        apptainer=shlex.quote(apptainer),
        image=shlex.quote(image),
        options=" ".join(shlex.quote(word) for word in options),
        checks="".join(f"{check}\n" for check in checks),
        folder=own_files.FOLDER,
        begin=own_files.BEGIN,
        functions=" ".join(_FUNCTIONS_OF_A_TASK),
        exit_scratch=EXIT_SCRATCH,
        exit_image=EXIT_IMAGE,
        exit_apptainer=EXIT_APPTAINER,
    )


def mount_check() -> str:
    """Return the functions that say whether a mount is there: ``check_mount NAME SOURCE FILESYSTEM``."""
    return _CHECKS.format(patience=MOUNT_PATIENCE, exit_mount=EXIT_MOUNT)


# check_mount. Looking into the folder ("/.") is what makes an automounter mount it, and finds out whether it
# answers; findmnt follows links and takes the last of several mounts at one place. Both are asked in a
# process that nobody waits for: one that hangs in a dead file system cannot even be killed. A folder on the
# root file system is what is left where a mount is missing, even if that has the right type.
_CHECKS = """\
node=${{SLURMD_NODENAME:-$(hostname)}}

fail() {{
  printf 'carme: %s\\n' "$2" >&2
  exit "$1"
}}

check_mount() {{
  local name=$1 source=$2 wanted=$3 kind= place= answer=
  IFS= read -r -t {patience} answer < <(
    {{ stat -- "$source/." || stat -L -- "$source"; }} &>/dev/null || {{ echo '? missing'; exit; }}
    findmnt --noheadings --raw --output FSTYPE,TARGET --target "$source" 2>/dev/null || echo '? unknown'
  ) || answer='? silent'
  read -r kind place <<<"$answer"
  [[ $wanted == nfs && $kind == nfs[34] ]] && kind=nfs
  if [[ $kind != "$wanted" || $place == / ]]; then
    case $kind$place in
      '?missing') answer="it does not exist there" ;;
      '?silent') answer="it does not answer" ;;
      '?unknown') answer="what is mounted there cannot be found out" ;;
      */) answer="nothing is mounted there" ;;
      *) answer="what is mounted there is $kind" ;;
    esac
    fail {exit_mount} "the mount $name is missing on $node: $source has to be on $wanted, but $answer"
  fi
}}
"""

# open_scratch. Tasks that are killed with SIGKILL leave their folder behind. Each folder is locked as long as
# its user lives, so whoever comes next removes what nobody holds. The lock must not reach the container:
# an open folder is a way out of it.
#
# run_task starts one task of srun inside a session in the container. Words: where it was told to start
# outside, where inside, then the program. Whatever Slurm, a TaskProlog or --export gave the task is handed
# into the container; what the session's own stand-in for srun has put under Apptainer's prefix is there
# already. Slurm signals this bash only, which stays to clean up: it passes signals on. A program that bash
# starts in the background would not hear of SIGINT and SIGQUIT; a terminal sends those to both by itself.
_FUNCTIONS = """\
check_node() {{
  command -v -- {apptainer} >/dev/null || fail {exit_apptainer} "there is no "{apptainer}" on $node"
{checks}\
  [[ -r {image} ]] || fail {exit_image} "the image "{image}" cannot be read on $node"
}}

open_scratch() {{
  local top=${{TMPDIR:-/tmp}}
  sweep_scratch "$top"
  scratch=$(mktemp -d -- "$top/.carme-session-$SLURM_JOB_ID-XXXXXXXXXX") && [[ $scratch != *[:,]* ]] \\
    || fail {exit_scratch} "no private folder can be made on $node"
  trap 'rm -rf -- "$scratch"' EXIT
  exec {{hold}}<"$scratch"
  flock --shared "$hold" || true
  fill_scratch
  use_scratch
}}

sweep_scratch() {{
  find "$1" -maxdepth 1 -type d -user "$UID" -name '.carme-session-*-??????????' -mmin +1 \\
    -exec flock --nonblock {{}} rm -rf -- {{}} \\; 2>/dev/null || true
}}

fill_scratch() {{
  own_files "$scratch/carme" && {{
    printf '%s\\n' 'set -euo pipefail' 'node=${{SLURMD_NODENAME:-$(hostname)}}'
    declare -f fail {functions}
    echo 'run_task "$@"'
  }} >"$scratch/carme/enter" || fail {exit_scratch} "the private folder $scratch on $node is full"
}}

use_scratch() {{
  export APPTAINER_WORKDIR="$scratch"
  export APPTAINER_BIND="$scratch/carme:{folder}:ro,$scratch/carme/profile.sh:/etc/profile.d/zz-carme.sh:ro"
  if [[ -d ${{PMIX_SERVER_TMPDIR:-}} && $PMIX_SERVER_TMPDIR != *[:,]* ]]; then
    APPTAINER_BIND+=",$PMIX_SERVER_TMPDIR"
  fi
  if [[ -v APPTAINERENV_PATH ]]; then
    unset APPTAINERENV_PREPEND_PATH
  else
    export APPTAINERENV_PREPEND_PATH={folder}/bin
  fi
  # A job that was sent from a session without GPUs may have some.
  [[ -z ${{SLURM_JOB_GPUS-}}${{SLURM_STEP_GPUS-}} ]] || export APPTAINER_NV=1
}}

run_task() {{
  local name=$1 outside=$2 inside=$3 variable child status=0
  shift 3
  [[ $PWD == "$outside" ]] || inside=$PWD
  trap : HUP INT QUIT USR1 USR2 ALRM TERM CONT
  for variable in $(compgen -e); do
    case $variable in
      APPTAINER* | SINGULARITY* | JUPYTERHUB_* | PATH | HOME | PWD | OLDPWD | SHLVL | TMPDIR | _) ;;
      *) export "APPTAINERENV_$variable=${{!variable}}" ;;
    esac
  done
  if [[ ${{SLURM_STEP_TASKS_PER_NODE:-1}} =~ ^1(\\(x[0-9]+\\))?$ ]]; then
    open_scratch
  else
    share_container "$name"
  fi
  (
    trap - INT QUIT
    if [[ -v enter ]]; then
      trap '' HUP INT QUIT USR1 USR2 ALRM TERM
      exec "${{enter[@]}}" "$inside" /bin/sh {begin} "$@"
    fi
    exec {options} {image} /bin/sh -c '
      cd -- "$0" 2>/dev/null || echo "carme: there is no $0 in the container on this node" >&2
      exec /bin/sh {begin} "$@"' "$inside" "$@"
  ) <&0 {{hold}}<&- &
  child=$!
  for name in HUP INT QUIT USR1 USR2 ALRM TERM CONT; do
    [[ -t 0 && $name == @(INT|QUIT) ]] || trap "pass_on $name $child" "$name"
  done
  wait "$child" || status=$?
  while kill -0 "$child" 2>/dev/null; do
    status=0
    wait "$child" || status=$?
  done
  exit "$status"
}}
"""
