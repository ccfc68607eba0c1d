"""One container for the tasks of a step on one node, as functions for bash: MPI's tasks share memory there.

Apptainer gives each call a container of its own, so two tasks on one node would have two /dev/shm. Here the
first task to come starts a container in which nothing happens, in a folder whose name all tasks of the step
know, and all of them enter its namespaces: one /tmp, one /dev/shm, one IPC, PID and user namespace, which is
all that shared memory needs, in files, System V's, or of each other (CMA). Entering moves nobody to another
control group: each task keeps its own devices and cores. A task that is alone on its node has no use for
this.

Apptainer's own way (``instance start``, ``exec instance://``) was tried: it hung in one of forty starts.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from carme_hub.spawner import container

if TYPE_CHECKING:
    from carme_hub.spawner.request import JobRequest

NAMES = ("share_container", "hold_container", "find_container", "hand_in", "leave_container", "pass_on")
"""The functions, for ``declare -f``."""

# What is entered first: takes the task's environment, hears signals again, and becomes the program.
_INSIDE = """\
import os, signal, sys
variables, folder, *program = sys.argv[1:]
with open(variables, "rb") as file:
    environ = dict(pair.split(b"=", 1) for pair in file.read().split(b"\\0") if b"=" in pair)
for name in ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM"):
    signal.signal(getattr(signal, "SIG" + name), signal.SIG_DFL)
try:
    os.chdir(folder)
except OSError:
    print(f"carme: there is no {folder} in the container on this node", file=sys.stderr, flush=True)
    os.chdir(environ.get(b"HOME", b"/"))
environ[b"PWD"] = os.getcwdb()
try:
    os.execvpe(program[0], program, environ)
except OSError as problem:
    print(f"{program[0]}: {problem.strerror}", file=sys.stderr, flush=True)
    os._exit(127 if isinstance(problem, FileNotFoundError) else 126)
"""


def functions(request: JobRequest, home: str, apptainer: str, folder: str, exit_scratch: int) -> str:
    """Return the functions: ``share_container NAME`` makes ``enter`` the words that run a program in it.

    Parameters
    ----------
    request
        Names image, mounts and GPUs.
    home
        The person's home folder.
    apptainer
        Name or path of Apptainer's command on the nodes.
    folder
        Where the container shows the private folder's part for it.
    exit_scratch
        How a task ends that gets no folder.
    """
    *options, image = container.command(request, home, apptainer)
    return _FUNCTIONS.format(
        options=shlex.join([*options, "--userns"]),
        image=shlex.quote(image),
        folder=folder,
        inside=shlex.quote(_INSIDE),
        exit_scratch=exit_scratch,
    )


# share_container. Tasks come and go in any order and may be killed at any moment. So nothing is counted: who
# is there holds a shared lock on the folder, and who can have it alone when it leaves was the last, ends the
# container and removes the folder. A newcomer that waited for the lock meanwhile sees that its folder is not
# the one by that name any more, and begins again. Whose turn it is to start the container decides a second
# lock; if the starter is killed, the next one starts it.
#
# hold_container gets none of the task's open files: pipes of Slurm's would never end. Signals for the whole
# step do not end it. It says its namespace and its number in there, by which find_container finds it among
# the node's processes.
#
# Where nobody may make user namespaces, there is no such container to enter: each task gets its own then, and
# only /tmp is shared.
#
# hand_in writes what Apptainer would have put into the container's environment: what it did put into the
# first task's, and over that this task's own. In a file, as words of a command are everybody's to read, and
# as the container's LD_PRELOAD is not meant for the node's programs.
#
# pass_on: nsenter waits for the program and ends as it ends, but passes no signals on, and ignores its own.
_FUNCTIONS = """\
share_container() {{
  local top=${{TMPDIR:-/tmp}} turn pid
  sweep_scratch "$top"
  scratch=$top/.carme-session-$SLURM_JOB_ID-$1
  [[ $scratch != *[:,]* ]] || fail {exit_scratch} "no private folder can be made on $node"
  while :; do
    mkdir -m 700 -- "$scratch" 2>/dev/null || [[ -O $scratch && ! -L $scratch ]] \\
      || fail {exit_scratch} "no private folder can be made on $node"
    if {{ exec {{hold}}<"$scratch"; }} 2>/dev/null; then
      flock --shared "$hold"
      [[ ! $scratch -ef /proc/self/fd/$hold ]] || break
      exec {{hold}}<&-
    fi
  done
  trap leave_container EXIT
  exec {{turn}}>"$scratch/turn"
  flock "$turn"
  use_scratch
  if [[ ! -s $scratch/pid ]]; then
    fill_scratch
    find_container < <(hold_container 2>"$scratch/said") || {{
      cat -- "$scratch/said" >&2
      echo "carme: on $node, the tasks of this step get a container each and share no memory" >&2
      echo none >"$scratch/pid"
    }}
  fi
  exec {{turn}}>&-
  read -r pid <"$scratch/pid"
  [[ $pid != none ]] || return 0
  hand_in "$pid" >"$scratch/carme/task-$$"
  enter=(
    env -i "$(grep -m1 -z '^PATH=' "/proc/$pid/environ" | tr -d '\\0')"
    "$(type -P setpriv)" --no-new-privs
    "$(type -P nsenter)" --target "$pid" --user --preserve-credentials --mount --ipc --pid
    python3 -I -S -c {inside} "{folder}/task-$$"
  )
}}

hold_container() {{
  local file
  trap - EXIT
  for file in /proc/self/fd/*; do
    file=${{file##*/}}
    ((file < 3)) || eval "exec $file>&-"
  done
  exec {options} {image} /bin/sh -c '
    trap "" HUP INT QUIT USR1 USR2 ALRM TERM
    echo "$(readlink /proc/self/ns/pid) $$"
    exec tail -f /dev/null >/dev/null 2>&1' </dev/null
}}

find_container() {{
  local space number file
  read -r -t 60 space number || return
  for file in $(find /proc/[0-9]*/ns/pid -maxdepth 0 -lname "${{space/\\[/\\\\[}}" 2>/dev/null); do
    file=${{file%/ns/pid}}
    if grep -qs "^NSpid:.*[[:space:]]$number\\$" "$file/status"; then
      echo "${{file##*/}}" >"$scratch/pid"
      return
    fi
  done
  echo "carme: the container's process cannot be found" >>"$scratch/said"
  return 1
}}

hand_in() {{
  local name
  cat -- "/proc/$1/environ"
  for name in "${{!APPTAINERENV_@}}"; do
    case ${{name#APPTAINERENV_}} in
      PATH | PREPEND_PATH | APPEND_PATH | LD_LIBRARY_PATH) ;;
      *) printf '%s=%s\\0' "${{name#APPTAINERENV_}}" "${{!name}}" ;;
    esac
  done
}}

pass_on() {{
  local file found=
  if [[ -v enter ]]; then
    for file in $(grep -lsE "^PPid:[[:space:]]+$2\\$" /proc/[0-9]*/status); do
      file=${{file%/status}}
      found=${{file##*/}}
    done
  fi
  kill "-$1" "${{found:-$2}}" 2>/dev/null || true
}}

leave_container() {{
  local pid
  if flock --exclusive --nonblock "$hold"; then
    ! read -r pid 2>/dev/null <"$scratch/pid" || kill -KILL "$pid" 2>/dev/null || true
    rm -rf -- "$scratch"
  fi
}}
"""
