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

mask=$(umask)
umask 077
place=/srv/home/rosa/.carme/session-$SLURM_JOB_ID.log
log=$place
{ mkdir -p -- /srv/home/rosa/.carme && [[ ! -e $log || -f $log ]] && printf 'carme: job %s on %s\n' \
  "$SLURM_JOB_ID" "${SLURM_JOB_NODELIST:-$(hostname)}" >>"$log"; } 2>/dev/null || {
  [[ -d /srv/home/rosa && -x /srv/home/rosa ]] || exit 91
  log=$(mktemp -- "${TMPDIR:-/tmp}/.carme-log-XXXXXXXXXX") 2>/dev/null || log=/dev/null
  trap '[[ $log == /dev/null ]] || rm -f -- "$log"' EXIT
  printf 'carme: job %s: this log could not be written to %s\n' "$SLURM_JOB_ID" "$place" >>"$log"
}
exec >>"$log" 2>&1
umask "$mask"
find /srv/home/rosa/.carme -maxdepth 1 -type f -name 'session-*.log' -mtime +30 -delete 2>/dev/null || true
find /srv/home/rosa/.carme -maxdepth 1 -type f -name 'session-*.log' -printf '%T@ %p\0' 2>/dev/null |
  sort -zrn | tail -zn +101 | cut -zd ' ' -f 2- | xargs -0r rm -f -- || true

why_unwritable() {
  local said
  said=$({ LC_ALL=C head -c 65536 /dev/zero >"$place.probe"; } 2>&1 || true)
  rm -f -- "$place.probe" 2>/dev/null || true
  case $said in
    *'No space left'* | *'quota exceeded'*) echo full ;;
    *'Read-only'*) echo read-only ;;
  esac
}

node=${SLURMD_NODENAME:-$(hostname)}

fail() {
  printf 'carme: %s\n' "$2" >&2
  exit "$1"
}

check_mount() {
  local name=$1 source=$2 wanted=$3 kind= place= answer=
  IFS= read -r -t 20 answer < <(
    { stat -- "$source/." || stat -L -- "$source"; } &>/dev/null || { echo '? missing'; exit; }
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
    fail 98 "the mount $name is missing on $node: $source has to be on $wanted, but $answer"
  fi
}

share_container() {
  local top=${TMPDIR:-/tmp} turn pid
  sweep_scratch "$top"
  scratch=$top/.carme-session-$SLURM_JOB_ID-$1
  [[ $scratch != *[:,]* ]] || fail 94 "no private folder can be made on $node"
  while :; do
    mkdir -m 700 -- "$scratch" 2>/dev/null || [[ -O $scratch && ! -L $scratch ]] \
      || fail 94 "no private folder can be made on $node"
    if { exec {hold}<"$scratch"; } 2>/dev/null; then
      flock --shared "$hold"
      [[ ! $scratch -ef /proc/self/fd/$hold ]] || break
      exec {hold}<&-
    fi
  done
  trap leave_container EXIT
  exec {turn}>"$scratch/turn"
  flock "$turn"
  if [[ ! -s $scratch/pid ]]; then
    fill_scratch
    use_scratch
    find_container < <(hold_container 2>"$scratch/said") || {
      cat -- "$scratch/said" >&2
      fail 94 "no container for the tasks of this step can be started on $node"
    }
  fi
  exec {turn}>&-
  read -r pid <"$scratch/pid"
  hand_in "$pid" >"$scratch/carme/task-$SLURM_LOCALID"
  enter=(
    env -i "$(grep -m1 -z '^PATH=' "/proc/$pid/environ" | tr -d '\0')"
    "$(type -P setpriv)" --no-new-privs
    "$(type -P nsenter)" --target "$pid" --user --preserve-credentials --mount --ipc --pid
    python3 -I -S -c 'import os, signal, sys
variables, folder, *program = sys.argv[1:]
with open(variables, "rb") as file:
    environ = dict(pair.split(b"=", 1) for pair in file.read().split(b"\0") if b"=" in pair)
for name in ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM"):
    signal.signal(getattr(signal, "SIG" + name), signal.SIG_DFL)
try:
    os.chdir(folder)
    environ[b"PWD"] = os.fsencode(folder)
except OSError:
    print(f"carme: there is no {folder} in the container on this node", file=sys.stderr, flush=True)
try:
    os.execvpe(program[0], program, environ)
except OSError as problem:
    print(f"{program[0]}: {problem.strerror}", file=sys.stderr, flush=True)
    os._exit(127 if isinstance(problem, FileNotFoundError) else 126)
' "/.carme/task-$SLURM_LOCALID"
  )
}

hold_container() {
  local file
  trap - EXIT
  for file in /proc/self/fd/*; do
    file=${file##*/}
    ((file < 3)) || eval "exec $file>&-"
  done
  exec apptainer --quiet exec --containall --pid --ipc --no-eval --no-mount hostfs,cwd,bind-paths --home /srv/home/rosa:/srv/home/rosa --pwd /srv/home/rosa --nv --bind /etc/hosts:/etc/hosts:ro --bind /srv/datasets:/data:ro --bind /etc/slurm:/etc/slurm:ro --bind /run/munge:/run/munge:rw --userns /srv/images/ml.sif /bin/sh -c '
    trap "" HUP INT QUIT USR1 USR2 ALRM TERM
    echo "$(readlink /proc/self/ns/pid) $$"
    exec tail -f /dev/null >/dev/null 2>&1' </dev/null
}

find_container() {
  local space number file
  read -r -t 60 space number || return
  for file in $(find /proc/[0-9]*/ns/pid -maxdepth 0 -lname "${space/\[/\\[}" 2>/dev/null); do
    file=${file%/ns/pid}
    if grep -qs "^NSpid:.*[[:space:]]$number\$" "$file/status"; then
      echo "${file##*/}" >"$scratch/pid"
      return
    fi
  done
  echo "carme: the container's process cannot be found" >>"$scratch/said"
  return 1
}

hand_in() {
  local name
  cat -- "/proc/$1/environ"
  for name in "${!APPTAINERENV_@}"; do
    case ${name#APPTAINERENV_} in
      PATH | PREPEND_PATH | APPEND_PATH | LD_LIBRARY_PATH) ;;
      *) printf '%s=%s\0' "${name#APPTAINERENV_}" "${!name}" ;;
    esac
  done
}

pass_on() {
  local file found=
  if [[ -v enter ]]; then
    for file in $(grep -lsE "^PPid:[[:space:]]+$2\$" /proc/[0-9]*/status); do
      file=${file%/status}
      found=${file##*/}
    done
  fi
  kill "-$1" "${found:-$2}" 2>/dev/null || true
}

leave_container() {
  local pid
  if flock --exclusive --nonblock "$hold"; then
    ! read -r pid 2>/dev/null <"$scratch/pid" || kill -KILL "$pid" 2>/dev/null || true
    rm -rf -- "$scratch"
  fi
}

check_node() {
  command -v -- apptainer >/dev/null || fail 97 "there is no "apptainer" on $node"
  [[ -r /srv/images/ml.sif ]] || fail 95 "the image "/srv/images/ml.sif" cannot be read on $node"
}

open_scratch() {
  local top=${TMPDIR:-/tmp}
  sweep_scratch "$top"
  scratch=$(mktemp -d -- "$top/.carme-session-$SLURM_JOB_ID-XXXXXXXXXX") && [[ $scratch != *[:,]* ]] \
    || fail 94 "no private folder can be made on $node"
  trap 'rm -rf -- "$scratch"' EXIT
  exec {hold}<"$scratch"
  flock --shared "$hold" || true
  fill_scratch
  use_scratch
}

sweep_scratch() {
  find "$1" -maxdepth 1 -type d -user "$UID" -name '.carme-session-*-??????????' -mmin +1 \
    -exec flock --nonblock {} rm -rf -- {} \; 2>/dev/null || true
}

fill_scratch() {
  {
    mkdir -p -- "$scratch/carme/bin" &&
      printf '%s' "$PATH" >"$scratch/carme/path" &&
      cat >"$scratch/carme/bin/srun.py" &&
      printf '%s\n' '#!/bin/sh' 'exec python3 -I -S /.carme/bin/srun.py "$@"' >"$scratch/carme/bin/srun" &&
      chmod 755 "$scratch/carme/bin/srun" &&
      printf '%s\n' 'case ":$PATH:" in *:/.carme/bin:*) ;; *) PATH=/.carme/bin:$PATH ;; esac' \
        >"$scratch/carme/profile.sh" &&
      {
        printf '%s\n' 'set -euo pipefail' 'node=${SLURMD_NODENAME:-$(hostname)}'
        declare -f fail open_scratch sweep_scratch fill_scratch use_scratch share_container hold_container find_container hand_in leave_container pass_on run_task
        echo 'run_task "$@"'
      } >"$scratch/carme/enter"
  } <<'CARME_SRUN_ENDS_HERE' || fail 94 "the private folder $scratch on $node is full"
"""Stands in for srun inside a session: `srun [OPTIONS] PROGRAM ...` runs the program in the session's image.

Slurm starts the tasks of a step outside of any container, so the program's words get a few words before them
that enter one. Where srun's own options end is not guessed from a table: srun has some 150 options, others in
each release, and a site's plugins add theirs. Instead the real srun is asked, without starting anything: at
each word that could be the program, it is called with the words so far and ``--version``. When it answers
with its version, it was ready for another option there, so the word is the program. When it does not, the
word is an option's value. That takes some 5 ms for each such word, and is right for every release.

Standard library only: it runs in any image. ``CARME_SRUN_OUTSIDE=1 srun ...`` runs the program outside, on
the bare nodes.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FOLDER = Path("/.carme")
ESCAPE = "CARME_SRUN_OUTSIDE"
TIME_OUT = 30  # seconds for one question to srun, which may have to fetch its configuration
EXIT_REFUSED = 1
EXIT_NO_SRUN = 127
_VERSION = re.compile(r"slurm\S* [0-9]+\.[0-9]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The hub's: its token opens the session, and a task has no use for it. And what Apptainer says of its own.
_DROPPED = re.compile(r"JUPYTERHUB_|JPY_|APPTAINER|SINGULARITY|CARME_SRUN_|SLURM_SRUN_MULTI")
# What would change, outside, how the node's own programs run. Apptainer puts it back inside.
_INSIDE = re.compile(
    r"(LD|LC|BASH|GLIBC|MALLOC)_.*|PATH|LANG|LANGUAGE|LOCPATH|GCONV_PATH|TMPDIR|ENV|SHELLOPTS|BASHOPTS|CDPATH"
    r"|GLOBIGNORE|EXECIGNORE|POSIXLY_CORRECT|PROMPT_COMMAND|PS4|IFS|XDG_RUNTIME_DIR"
)


class NotUnderstoodError(Exception):
    """A call that cannot be run in the image; ``str()`` is a sentence."""


def program_at(words: Sequence[str], takes_option: Callable[[Sequence[str]], bool]) -> int | None:
    """Return where the program stands among srun's words; None when there is none.

    Parameters
    ----------
    words
        What came after ``srun``.
    takes_option
        Whether srun, after these words, would read one more option. It is never asked about words with a
        program among them.
    """
    for index, word in enumerate(words):
        if word == "--":
            if takes_option(words[:index]):
                return index + 1 if index + 1 < len(words) else None
        elif (not word.startswith("-") or word == "-") and (not index or takes_option(words[:index])):
            return index
    return None


def wrap(
    words: Sequence[str],
    enter: Sequence[str],
    takes_option: Callable[[Sequence[str]], bool],
) -> list[str]:
    """Return srun's words with `enter` before each program; parts are separated by ":", as in srun itself.

    Raises
    ------
    NotUnderstoodError
        When there are words that might be a program, and srun does not understand what is before them.
    """
    at = program_at(words, takes_option)
    if at is None:
        if not takes_option(words):
            raise NotUnderstoodError("")
        return list(words)
    if any(len(word) > 3 and "--multi-prog".startswith(word) for word in words[:at]):  # noqa: PLR2004 - "--m"
        raise NotUnderstoodError(
            "carme: srun --multi-prog starts its programs outside the session's image. Start one script for "
            f"all tasks that looks at SLURM_PROCID, or set {ESCAPE}=1 to run them on the bare nodes."
        )
    end = next((index for index in range(at, len(words)) if words[index] == ":"), len(words))
    # The step's name would be "bash"; what srun is told explicitly comes later and wins.
    named = [f"--job-name={Path(words[at]).name or 'srun'}", *words[:at], *enter, *words[at:end]]
    return named if end == len(words) else [*named, ":", *wrap(words[end + 1 :], enter, takes_option)]


def outside(environ: Mapping[str, str], path: str) -> dict[str, str]:
    """Return the variables with which srun is called: its tasks get them, on the bare nodes.

    Parameters
    ----------
    environ
        The session's variables.
    path
        ``PATH`` of the nodes.
    """
    kept = {
        name: value for name, value in environ.items() if _NAME.fullmatch(name) and not _DROPPED.match(name)
    }
    hidden = {name for name in kept if _INSIDE.fullmatch(name)}
    inside = {f"APPTAINERENV_{name}": kept[name] for name in hidden}
    return {name: value for name, value in kept.items() if name not in hidden} | inside | {"PATH": path}


def working_directories(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return where a step starts outside and inside: they differ where only the session has the folder."""
    home = environ.get("HOME", "/")
    try:
        here = str(Path.cwd())
    except OSError:  # removed meanwhile
        here = home
    return (here if f"{here}/".startswith(f"{home.rstrip('/')}/") else home), here


def real_srun(path: str) -> str | None:
    """Return srun itself."""
    own = Path(__file__).resolve().parent
    for folder in [*path.split(":"), "/usr/bin", "/usr/local/bin"]:
        found = Path(folder, "srun")
        if folder and own not in found.resolve().parents and os.access(found, os.X_OK):
            return str(found)
    return None


def main(words: list[str]) -> int:  # noqa: RET503 - execve does not return
    """Call srun, or say why not; returns only when there is nothing to call."""
    environ = dict(os.environ)
    srun = real_srun(environ.get("PATH", ""))
    if srun is None:
        return say(
            EXIT_NO_SRUN,
            "carme: this image has no srun. Slurm's commands have to be in the image, and /etc/slurm and "
            "/run/munge among its mounts (singularity/README.md).",
        )
    if environ.pop(ESCAPE, "") not in {"", "0"}:
        plain = {
            name: value for name, value in environ.items() if not name.startswith(("JUPYTERHUB_", "JPY_"))
        }
        os.execve(srun, [srun, *words], plain)  # noqa: S606 - no shell is what we want
    variables = outside(environ, (FOLDER / "path").read_text())
    there, here = working_directories(environ)
    variables |= {} if there == here else {"SLURM_WORKING_DIR": there}

    def ask(before: Sequence[str]) -> subprocess.CompletedProcess[str]:
        question = [srun, *before, "--version"]
        return subprocess.run(
            question,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIME_OUT,
            check=False,
        )

    def takes_option(before: Sequence[str]) -> bool:
        answer = ask(before)
        return answer.returncode == 0 and _VERSION.match(answer.stdout) is not None

    # Its tasks on one node meet by this name.
    name = secrets.token_hex(5)
    enter = ["/bin/bash", "-c", (FOLDER / "enter").read_text(), "carme", name, there, here]
    try:
        called = wrap(words, enter, takes_option)
    except NotUnderstoodError as problem:
        return say(EXIT_REFUSED, str(problem)) if str(problem) else repeat(ask(words))
    except subprocess.TimeoutExpired:
        return say(EXIT_REFUSED, f"carme: srun did not say within {TIME_OUT} s what its options are.")
    os.execve(srun, [srun, *called], variables)  # noqa: S606 - no shell is what we want


def repeat(answer: subprocess.CompletedProcess[str]) -> int:
    """Say what srun said to a question (help, or what it does not understand); return its exit code."""
    sys.stdout.write(answer.stdout)
    sys.stderr.write(answer.stderr)
    return answer.returncode


def say(code: int, text: str) -> int:
    """Tell the person, and return the exit code."""
    sys.stderr.write(f"{text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
CARME_SRUN_ENDS_HERE
}

use_scratch() {
  export APPTAINER_WORKDIR="$scratch"
  export APPTAINER_BIND="$scratch/carme:/.carme:ro,$scratch/carme/profile.sh:/etc/profile.d/zz-carme.sh:ro"
  if [[ -d ${PMIX_SERVER_TMPDIR:-} && $PMIX_SERVER_TMPDIR != *[:,]* ]]; then
    APPTAINER_BIND+=",$PMIX_SERVER_TMPDIR"
  fi
  if [[ -v APPTAINERENV_PATH ]]; then
    unset APPTAINERENV_PREPEND_PATH
  else
    export APPTAINERENV_PREPEND_PATH=/.carme/bin
  fi
}

run_task() {
  local name=$1 outside=$2 inside=$3 variable child status=0
  shift 3
  [[ $PWD == "$outside" ]] || inside=$PWD
  trap : HUP INT QUIT USR1 USR2 ALRM TERM CONT
  for variable in $(compgen -e); do
    case $variable in
      APPTAINER* | SINGULARITY* | JUPYTERHUB_* | PATH | HOME | PWD | OLDPWD | SHLVL | TMPDIR | _) ;;
      *) export "APPTAINERENV_$variable=${!variable}" ;;
    esac
  done
  if [[ ${SLURM_STEP_TASKS_PER_NODE:-1} =~ ^1(\(x[0-9]+\))?$ ]]; then
    open_scratch
  else
    share_container "$name"
  fi
  (
    trap - INT QUIT
    if [[ -v enter ]]; then
      trap '' HUP INT QUIT USR1 USR2 ALRM TERM
      exec "${enter[@]}" "$inside" "$@"
    fi
    exec apptainer --quiet exec --containall --pid --ipc --no-eval --no-mount hostfs,cwd,bind-paths --home /srv/home/rosa:/srv/home/rosa --pwd /srv/home/rosa --nv --bind /etc/hosts:/etc/hosts:ro --bind /srv/datasets:/data:ro --bind /etc/slurm:/etc/slurm:ro --bind /run/munge:/run/munge:rw /srv/images/ml.sif /bin/sh -c '
      cd -- "$0" 2>/dev/null || echo "carme: there is no $0 in the container on this node" >&2
      exec "$@"' "$inside" "$@"
  ) <&0 {hold}<&- &
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
}

srun --overlap --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
  --export=PATH --input=none --kill-on-bad-exit=0 --job-name=carme-check /bin/bash -c 'set -euo pipefail
    node=${SLURMD_NODENAME:-$(hostname)}
    '"$(declare -f fail check_mount check_node)"'
    check_node' || exit "$?"
open_scratch

if [[ $log != "$place" && $log != /dev/null ]]; then
  mv -- "$log" "$scratch/carme/session.log"
  log=$scratch/carme/session.log
  export APPTAINERENV_CARME_LOG=/.carme/session.log
  keep_log() {
    [[ ! -e $place || -f $place ]] || return 0
    (umask 077 && mkdir -p -- "${place%/*}" && cp -- "$log" "$place") 2>/dev/null || true
  }
  trap 'keep_log; rm -rf -- "$scratch"' EXIT
fi


unset "${!SLURM_CPU_BIND@}" SLURM_PROCID SLURM_LOCALID SLURM_NODEID SLURM_GTIDS SLURM_TASK_PID
export SLURM_OVERLAP=1 SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"

read -r address _ < <(timeout 5 getent ahosts "$node") || address=
case ${address:-127.} in
  127.* | ::1) read -r MASTER_ADDR _ < <(hostname -I) || MASTER_ADDR=$node ;;
  *) MASTER_ADDR=$node ;;
esac
taken=" "
while read -r _ address _ state _; do
  [[ $state != 0A ]] || taken+="$((16#${address##*:})) "
done < <(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
MASTER_PORT=$((12000 + SLURM_JOB_ID % 20000))
while [[ $taken == *" $MASTER_PORT "* ]]; do
  MASTER_PORT=$((MASTER_PORT + 1))
done
export MASTER_ADDR MASTER_PORT

for name in "${!SLURM_@}" SRUN_CPUS_PER_TASK MASTER_ADDR MASTER_PORT \
  CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ZE_AFFINITY_MASK GPU_DEVICE_ORDINAL; do
  if [[ -v $name && ! -v APPTAINERENV_$name ]]; then
    export "APPTAINERENV_$name=${!name}"
  fi
done
zone=$(readlink -f /etc/localtime || true)
if [[ $zone == */zoneinfo/* && ! -v APPTAINERENV_TZ ]]; then
  export APPTAINERENV_TZ="${zone##*/zoneinfo/}"
fi

child=
trap '[[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true' TERM
apptainer --quiet exec --containall --pid --ipc --no-eval --no-mount hostfs,cwd,bind-paths --home /srv/home/rosa:/srv/home/rosa --pwd /srv/home/rosa --nv --bind /etc/hosts:/etc/hosts:ro --bind /srv/datasets:/data:ro --bind /etc/slurm:/etc/slurm:ro --bind /run/munge:/run/munge:rw /srv/images/ml.sif python3 -I -S - jupyterhub-singleuser --debug <<'CARME_REPORTER_ENDS_HERE' {hold}<&- &
print("reporter")
CARME_REPORTER_ENDS_HERE
child=$!
status=0
wait "$child" || status=$?
while kill -0 "$child" 2>/dev/null; do
  status=0
  wait "$child" || status=$?
done
[[ $status == 0 || $(why_unwritable) != full ]] || status=99
exit "$status"
