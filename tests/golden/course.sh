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

own_files() {
  local folder=$1 name
  mkdir -p -- "$folder/bin" "$folder/lib/carme_hub/spawner" || return
  printf '%s' "$PATH" >"$folder/path" || return
  printf '%s\n' /srv/home/rosa /etc/slurm >"$folder/shared" || return
  cat >"$folder/begin" <<'CARME_FILE_ENDS_HERE' || return
#!/bin/sh
export CARME_PATH="${CARME_PATH:-$PATH}" ENV="${ENV:-/.carme/shell}"
case ${PROMPT_COMMAND-} in
  '' | *Apptainer* | *Singularity*) export PROMPT_COMMAND='[ ! -r /.carme/shell ] || . /.carme/shell' ;;
esac
export SLURM_WAIT='call it by its name, or as /.carme/bin/srun' SBATCH_WAIT_ALL_NODES='call it by its name, or as /.carme/bin/sbatch'
export SALLOC_WAIT_ALL_NODES='call it by its name, or as /.carme/bin/salloc'
exec "$@"
CARME_FILE_ENDS_HERE
  cat >"$folder/path.sh" <<'CARME_FILE_ENDS_HERE' || return
PATH=$(
  begun=${CARME_PATH:-/.carme/bin:$PATH} missing= before=
  rest=$begun:
  while [ -n "$rest" ]; do
    folder=${rest%%:*} rest=${rest#*:}
    case :$PATH: in *":$folder:"*) ;; *) missing=$missing$folder: ;; esac
  done
  rest=$PATH:
  while [ -n "$rest" ]; do
    folder=${rest%%:*}
    case :$begun: in *":$folder:"*) break ;; esac
    before=$before$folder: rest=${rest#*:}
  done
  folder=$before$missing$rest
  printf '%s' "${folder%:}"
)
export PATH
CARME_FILE_ENDS_HERE
  cat >"$folder/shell" <<'CARME_FILE_ENDS_HERE' || return
if [ "${_carme_shell-}" != "$$" ]; then
  _carme_shell=$$
  . /.carme/path.sh
fi
CARME_FILE_ENDS_HERE
  cat >"$folder/profile.sh" <<'CARME_FILE_ENDS_HERE' || return
. /.carme/path.sh
export CARME_PATH="${CARME_PATH:-$PATH}"
case $- in
  *i*) [ -z "${BASH_VERSION-}" ] || : "${PROMPT_COMMAND=. /.carme/shell}" ;;
  *)
    [ -z "${BASH_VERSION-}" ] \
      || trap 'case ${BASH_SOURCE[0]-$0} in "$0") trap - DEBUG; . /.carme/path.sh ;; esac' DEBUG
    ;;
esac
CARME_FILE_ENDS_HERE
  cat >"$folder/bin/srun" <<'CARME_FILE_ENDS_HERE' || return
#!/bin/sh
python=$(PATH="$PATH:${CARME_PATH-}:/usr/local/bin:/usr/bin:/bin"; command -v python3) || {
  echo "carme: this image has no python3, which ${0##*/} needs in a session" >&2
  exit 127
}
exec "$python" -I -S /.carme/lib/start.py "${0##*/}" "$@"
CARME_FILE_ENDS_HERE
  cat >"$folder/lib/start.py" <<'CARME_FILE_ENDS_HERE' || return
import sys
sys.path.insert(0, "/.carme/lib")
sys.dont_write_bytecode = True
from carme_hub.spawner import srun, submit
name, *words = sys.argv[1:]
sys.exit(srun.main(words) if name == "srun" else submit.main(name, words))
CARME_FILE_ENDS_HERE
  cat >"$folder/lib/carme_hub/spawner/standin.py" <<'CARME_FILE_ENDS_HERE' || return
"""What the stand-ins for Slurm's commands share: which variables of a session mean something elsewhere.

A session's environment describes three things that no other job has: its allocation, its container, and the
hub that opens it. Whatever starts a job from inside a session leaves them behind; what the person has set
goes along. Standard library only: it runs in any image.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER = Path("/.carme")
# Where an image keeps Slurm's own commands when those in /usr/bin lead here (singularity/base.def).
REAL = Path("/usr/libexec/carme")
IMAGE_VARIABLES = Path("/.singularity.d/env")
TIME_OUT = 30  # seconds for one question to a command, which may have to fetch its configuration
EXIT_REFUSED = 1
EXIT_NO_COMMAND = 127

_VERSION = re.compile(r"slurm\S* [0-9]+\.[0-9]+")
_ALLOCATION = re.compile(
    r"(SLURM|SRUN|SLURMD|PMI|PMIX(?!_MCA)|OMPI(?!_MCA)|PRTE(?!_MCA))_.*|SLURM_.*|MASTER_(ADDR|PORT)"
    r"|(CUDA|ROCR|HIP|NVIDIA)_VISIBLE_DEVICES|ZE_AFFINITY_MASK|GPU_DEVICE_ORDINAL"
)
# How Slurm's commands are to work, which no allocation says.
_FOR_COMMANDS = re.compile(
    r"SLURM_(CONF|CONF_SERVER|CLUSTERS|JWT|TIME_FORMAT|EXIT_ERROR|EXIT_IMMEDIATE|DEBUG_FLAGS)"
)
_HUB = re.compile(r"(JUPYTERHUB|JPY|CARME)_.*")
_CONTAINER = re.compile(r"(APPTAINER|SINGULARITY)(ENV)?_.*")
# Of this one container and what runs in it: sockets and folders in its /tmp, settings of shells and kernels.
_INSIDE = re.compile(
    r"(JUPYTER|VSCODE|LD)_.*|PATH|PROMPT_COMMAND|PS1|PYTHONNOUSERSITE|XDG_RUNTIME_DIR|DBUS_SESSION_BUS_ADDRESS"
    r"|TMUX|TMUX_PANE|STY|_"
)
_PERSON = frozenset({"HOME", "USER", "LOGNAME", "SHELL", "TERM", "TZ", "LANG", "LANGUAGE", "LC_ALL"})
_PLACES = frozenset({"TMPDIR", "TMP", "TEMP", "ENV", "BASH_ENV", "ZDOTDIR"})
_KERNEL_BACKEND = "module://matplotlib_inline"
# `begin` gives these to Slurm's commands: one that is called around its stand-in refuses, and says why.
GUARDS = ("SLURM_WAIT", "SBATCH_WAIT_ALL_NODES", "SALLOC_WAIT_ALL_NODES")
GUARD = "call it by its name, or as /.carme/bin/"


def of_the_person(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without those of allocation, hub and container, and of what Slurm read for it."""
    return {
        name: value
        for name, value in environ.items()
        if not _HUB.fullmatch(name) and not _CONTAINER.fullmatch(name) and not _is_allocations(name, value)
    }


def of_the_session(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a program that stays in this container and gets another allocation."""
    kept = {
        name: value
        for name, value in environ.items()
        if not _HUB.fullmatch(name) and not _is_allocations(name, value)
    }
    own = {name: value for name, value in environ.items() if name.startswith("CARME_")}
    guards = {name: environ[name] for name in GUARDS[:2] if GUARD in environ.get(name, "")}
    return kept | own | guards


def of_the_node(
    environ: Mapping[str, str], path: str, shared: Sequence[str], image: frozenset[str]
) -> dict[str, str]:
    """Return the variables of a job that runs on the bare node, with the node's own programs.

    Parameters
    ----------
    environ
        The session's variables.
    path
        ``PATH`` of the nodes.
    shared
        Folders that are the same inside and on the nodes: the home, and mounts that keep their place.
    image
        Names that the image sets. They are kept where their value names a shared folder.
    """

    def is_shared(place: str) -> bool:
        return any(f"{place}/".startswith(f"{folder.rstrip('/')}/") for folder in shared)

    kept = {}
    for name, value in of_the_person(environ).items():
        if name in _PERSON:
            kept[name] = value
        elif _INSIDE.fullmatch(name) or value.startswith(_KERNEL_BACKEND):
            continue
        elif name in _PLACES:
            if is_shared(value):
                kept[name] = value
        elif name not in image or any(is_shared(part) for part in value.split(":")):
            kept[name] = value
    for name, after in (("PATH", path.split(":")), ("LD_LIBRARY_PATH", [])):
        own = [folder for folder in environ.get(name, "").split(":") if folder and is_shared(folder)]
        if own or after:
            kept[name] = ":".join([*own, *after])
    return kept


def of_allocation(name: str) -> bool:
    """Say whether a variable describes an allocation, a step or a task of one."""
    return _ALLOCATION.fullmatch(name) is not None and not _FOR_COMMANDS.fullmatch(name)


def _is_allocations(name: str, value: str) -> bool:
    return of_allocation(name) or (name in GUARDS and GUARD in value)


def without_guards(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without those that make Slurm's own commands refuse."""
    return {name: value for name, value in environ.items() if not (name in GUARDS and GUARD in value)}


def image_variables(folder: Path = IMAGE_VARIABLES) -> frozenset[str]:
    """Return the names of the variables that the image's own scripts set."""
    found: set[str] = set()
    for script in sorted(folder.glob("*.sh")):
        text = script.read_text(encoding="utf-8", errors="replace")
        for words in re.findall(r"^\s*export\s+(.*)", text, re.MULTILINE):
            found |= set(re.findall(r"(?:^|\s)([A-Za-z_][A-Za-z0-9_]*)(?==|\s|$)", words))
    return frozenset(found)


def node_path(folder: Path = FOLDER) -> str:
    """Return ``PATH`` of the nodes."""
    return (folder / "path").read_text()


def shared_folders(folder: Path = FOLDER) -> list[str]:
    """Return the folders that are the same inside and on the nodes."""
    return (folder / "shared").read_text().splitlines()


def real(command: str, path: str) -> str | None:
    """Return Slurm's own command, which is neither a stand-in nor the image's way to one."""
    own = (FOLDER / "bin").resolve()
    for folder in [str(REAL), *path.split(":"), "/usr/bin", "/usr/local/bin"]:
        found = Path(folder, command)
        if folder and own not in found.resolve().parents and os.access(found, os.X_OK):
            return str(found)
    return None


def missing(command: str) -> int:
    """Say that the image lacks a command, and return the exit code."""
    return say(
        EXIT_NO_COMMAND,
        f"carme: this image has no {command}. Slurm's commands have to be in the image, and /etc/slurm and "
        "/run/munge among its mounts (singularity/README.md).",
    )


def ask(words: Sequence[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Ask a command about the words so far, without starting anything."""
    return subprocess.run(
        [*words, "--version"],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIME_OUT,
        check=False,
    )


def understood(answer: subprocess.CompletedProcess[str]) -> bool:
    """Say whether the answer is the release: the command was ready for another option."""
    return answer.returncode == 0 and _VERSION.match(answer.stdout) is not None


def say(code: int, text: str) -> int:
    """Tell the person, and return the exit code."""
    sys.stderr.write(f"{text}\n")
    return code
CARME_FILE_ENDS_HERE
  cat >"$folder/lib/carme_hub/spawner/srun.py" <<'CARME_FILE_ENDS_HERE' || return
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

from carme_hub.spawner import standin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ESCAPE = "CARME_SRUN_OUTSIDE"
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


def main(words: list[str]) -> int:  # noqa: RET503 - execve does not return
    """Call srun, or say why not; returns only when there is nothing to call."""
    environ = standin.without_guards(os.environ)
    srun = standin.real("srun", environ.get("PATH", ""))
    if srun is None:
        return standin.missing("srun")
    if environ.pop(ESCAPE, "") not in {"", "0"}:
        os.execve(srun, [srun, *words], bare(environ))  # noqa: S606 - no shell is what we want
    variables = outside(environ, standin.node_path())
    there, here = working_directories(environ)
    variables |= {} if there == here else {"SLURM_WORKING_DIR": there}

    def takes_option(before: Sequence[str]) -> bool:
        return standin.understood(standin.ask([srun, *before], variables))

    # Its tasks on one node meet by this name.
    name = secrets.token_hex(5)
    enter = ["/bin/bash", "-c", (standin.FOLDER / "enter").read_text(), "carme", name, there, here]
    try:
        called = wrap(words, enter, takes_option)
    except NotUnderstoodError as problem:
        if str(problem):
            return standin.say(standin.EXIT_REFUSED, str(problem))
        return repeat(standin.ask([srun, *words], variables))
    except subprocess.TimeoutExpired:
        return standin.say(
            standin.EXIT_REFUSED, f"carme: srun did not say within {standin.TIME_OUT} s what its options are."
        )
    os.execve(srun, [srun, *called], variables)  # noqa: S606 - no shell is what we want


def bare(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a step on the bare nodes: the allocation's stay, the container's do not."""
    node = standin.of_the_node(
        environ, standin.node_path(), standin.shared_folders(), standin.image_variables()
    )
    return {name: value for name, value in environ.items() if standin.of_allocation(name)} | node


def repeat(answer: subprocess.CompletedProcess[str]) -> int:
    """Say what srun said to a question (help, or what it does not understand); return its exit code."""
    sys.stdout.write(answer.stdout)
    sys.stderr.write(answer.stderr)
    return answer.returncode
CARME_FILE_ENDS_HERE
  cat >"$folder/lib/carme_hub/spawner/submit.py" <<'CARME_FILE_ENDS_HERE' || return
"""Stands in for sbatch and salloc inside a session, and is `carme-sbatch`: jobs of their own, started clean.

`sbatch` sends a job that runs on the bare node, as from a login node: nothing of the session's allocation,
container or hub goes along. `carme-sbatch`, or `sbatch` with ``CARME_SBATCH_IMAGE=1``, sends one whose script
runs in the session's image with the session's mounts. `salloc` gets an allocation of its own; its shell stays
in the session, and `srun` in it reaches the new nodes, in the image.

Standard library only: it runs in any image.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from carme_hub.spawner import srun, standin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

IN_IMAGE = "CARME_SBATCH_IMAGE"
TASK = "batch"  # by which tasks on one node meet: there is one
JOB = "/.carme/job"  # where the container of a job shows its script
_ASKS = frozenset({"--help", "-h", "--usage", "--version", "-V"})
_WRAP = re.compile(r"--wr(?:ap?)?(=.*)?", re.DOTALL)  # any shorter is not clear to sbatch
_EXPORT_FILE = re.compile(r"--export-(?:f(?:i(?:le?)?)?)?(=.*)?", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_.+-]+")
_INTERPRETER = re.compile(r"#!\s*/")
HINT = (
    "carme: this job runs on the node itself, with the node's programs. "
    "carme-sbatch runs it in the image of this session."
)


class RefusedError(Exception):
    """A job that cannot be sent; ``str()`` is a sentence."""


def main(name: str, words: list[str]) -> int:
    """Call sbatch or salloc, or say why not; returns only when there is nothing to call."""
    environ = dict(os.environ)
    kind = "salloc" if name == "salloc" else "sbatch"
    command = standin.real(kind, environ.get("PATH", ""))
    if command is None:
        return standin.missing(kind)
    if kind == "salloc":
        os.execve(command, [command, *words], standin.of_the_session(environ))  # noqa: S606 - no shell
    in_image = name == "carme-sbatch" or environ.get(IN_IMAGE, "") not in {"", "0"}
    try:
        send = _in_image if in_image else _on_node
        return send(command, words, environ)
    except subprocess.TimeoutExpired:
        return standin.say(
            standin.EXIT_REFUSED,
            f"carme: sbatch did not say within {standin.TIME_OUT} s what its options are.",
        )
    except (RefusedError, OSError) as problem:
        return standin.say(standin.EXIT_REFUSED, f"carme: {problem}")


def _on_node(command: str, words: list[str], environ: Mapping[str, str]) -> int:
    """Call sbatch for a job on the bare node."""
    shared = standin.shared_folders()
    variables = standin.of_the_node(environ, standin.node_path(), shared, standin.image_variables())
    takes = option_reader(command, variables)

    def clean(variables: Mapping[str, str]) -> dict[str, str]:
        return standin.of_the_node(variables, standin.node_path(), shared, standin.image_variables())

    words = with_clean_file(words, takes, clean)
    words = _go_where_the_job_can(words, takes, shared)
    if sys.stderr.isatty() and not _ASKS & set(words):
        standin.say(0, HINT)
    os.execve(command, [command, *words], variables)  # noqa: S606 - no shell is what we want


def _in_image(command: str, words: list[str], environ: Mapping[str, str]) -> int:  # noqa: RET503
    """Call sbatch for a job in the session's image: its script goes in on standard input."""

    def clean(variables: Mapping[str, str]) -> dict[str, str]:
        return srun.outside(standin.of_the_person(variables), standin.node_path())

    variables = clean(environ)
    takes = option_reader(command, variables)
    words = with_clean_file(words, takes, clean)
    at = srun.program_at(words, takes)
    if at is None and (_ASKS & set(words) or not takes(words)):
        return srun.repeat(standin.ask([command, *words], variables))
    options, rest = (words, []) if at is None else (words[:at], words[at:])
    options, line = without_wrap(options, takes)
    if line is not None and rest:
        raise RefusedError("a script cannot be given together with --wrap.")
    if line is not None:
        name, text = "wrap", f"#!/bin/sh\n{line}\n"
    elif rest:
        name, text = Path(rest[0]).name, Path(rest[0]).read_text(errors="surrogateescape")
    else:
        name, text = "sbatch", sys.stdin.read()
    there, here = _working_directories(standin.shared_folders())
    text = script(text, name, rest[1:], (there, here), (standin.FOLDER / "enter").read_text())
    if options[-1:] == ["--"]:
        options.pop()
    os.chdir(there)
    _put_on_standard_input(text)
    os.execve(command, [command, *options], variables)  # noqa: S606 - no shell is what we want


def script(text: str, name: str, words: Sequence[str], places: tuple[str, str], enter: str) -> str:
    """Return the batch script that runs another one in the image.

    Parameters
    ----------
    text
        The person's script, whose directives count.
    name
        What the job is called unless a directive says otherwise.
    words
        Arguments of the script.
    places
        Where the job starts outside, and where that is inside.
    enter
        The functions that enter a container, and the call of ``run_task``.

    Raises
    ------
    RefusedError
        When sbatch would refuse the script.
    """
    if not _INTERPRETER.match(text):
        raise RefusedError(f'{name} is no batch script: its first line has to begin with "#!/".')
    if "\r\n" in text or "\0" in text:
        raise RefusedError(f"{name} is no batch script: it has line breaks of DOS, or null characters.")
    lines = text.splitlines()
    end = "CARME_JOB_ENDS_HERE"
    while end in lines:
        end += "_"
    called = " ".join(shlex.quote(word) for word in (TASK, *places, JOB, *words))
    return (
        "\n".join(
            [
                "#!/bin/bash",
                *([f"#SBATCH --job-name={name}"] if _NAME.fullmatch(name) else []),
                *directives(lines[1:]),
                f"set -- {called}",
                f"IFS= read -r -d '' carme_job <<'{end}' || true",
                text if text.endswith("\n") else f"{text}\n",
            ]
        )
        + f"{end}\n{enter}"
    )


def directives(lines: Sequence[str]) -> list[str]:
    """Return the comments before the first command: sbatch looks for directives there and nowhere else."""
    found = []
    for line in lines:
        if line.strip() and not line.lstrip().startswith("#"):
            break
        if line.startswith("#"):
            found.append(line)
    return found


def without_wrap(
    words: Sequence[str], takes: Callable[[Sequence[str]], bool]
) -> tuple[list[str], str | None]:
    """Return sbatch's options without ``--wrap``, and the command that it names."""
    found = _option(words, _WRAP, takes)
    if found is None:
        return list(words), None
    at, length, value = found
    return [*words[:at], *words[at + length :]], value


def with_clean_file(
    words: list[str],
    takes: Callable[[Sequence[str]], bool],
    clean: Callable[[Mapping[str, str]], dict[str, str]],
) -> list[str]:
    """Return the words with a cleaned copy in place of the file that ``--export-file`` names."""
    if not any(_EXPORT_FILE.fullmatch(word) for word in words):
        return words
    # Behind the script stand its own words; sbatch, asked with a script, would send it.
    found = _option(words[: srun.program_at(words, takes)], _EXPORT_FILE, takes)
    if found is None:
        return words
    at, length, value = found
    source = int(value) if value.isdecimal() else value
    with open(source, "rb") as file:  # noqa: PTH123 - it may be the number of an open file
        pairs = [pair.partition("=") for pair in os.fsdecode(file.read()).split("\0") if "=" in pair]
    kept = clean({name: value for name, _, value in pairs})
    copy = os.memfd_create("variables", 0)
    os.write(copy, b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in kept.items()))
    os.lseek(copy, 0, os.SEEK_SET)
    return [*words[:at], f"--export-file={copy}", *words[at + length :]]


def _option(
    words: Sequence[str], pattern: re.Pattern[str], takes: Callable[[Sequence[str]], bool]
) -> tuple[int, int, str] | None:
    """Return where an option stands, how many words it has, and its value; never another option's value."""
    for index, word in enumerate(words):
        match = pattern.fullmatch(word)
        if match is None or (index and not takes(words[:index])):
            continue
        if match[1] is not None:
            return index, 1, match[1][1:]
        if index + 1 < len(words):
            return index, 2, words[index + 1]
    return None


def option_reader(command: str, environ: Mapping[str, str]) -> Callable[[Sequence[str]], bool]:
    """Return what says whether sbatch, after some words, would read one more option."""

    def takes(words: Sequence[str]) -> bool:
        return standin.understood(standin.ask([command, *words], environ))

    return takes


def _working_directories(shared: Sequence[str]) -> tuple[str, str]:
    """Return where a job starts outside and inside: they differ where only the session has the folder."""
    home = os.environ.get("HOME", "/")
    try:
        here = str(Path.cwd())
    except OSError:  # removed meanwhile
        here = home
    known = any(f"{here}/".startswith(f"{folder.rstrip('/')}/") for folder in shared)
    return (here if known else home), here


def _go_where_the_job_can(
    words: list[str], takes: Callable[[Sequence[str]], bool], shared: Sequence[str]
) -> list[str]:
    """Go home when the node does not have this folder; the script is named by its full path then."""
    there, here = _working_directories(shared)
    if there == here:
        return words
    at = srun.program_at(words, takes)
    standin.say(0, f"carme: {here} is in the session only. The job starts in {there}.")
    if at is not None:
        words = [*words[:at], str(Path(here, words[at])), *words[at + 1 :]]
    os.chdir(there)
    return words


def _put_on_standard_input(text: str) -> None:
    copy = os.memfd_create("script", 0)
    left = memoryview(text.encode(errors="surrogateescape"))
    while left:
        left = left[os.write(copy, left) :]
    os.lseek(copy, 0, os.SEEK_SET)
    os.dup2(copy, 0)
CARME_FILE_ENDS_HERE
  for name in "$folder/bin/sbatch" "$folder/bin/salloc" "$folder/bin/carme-sbatch"; do cp -- "$folder/bin/srun" "$name" || return; done
  chmod 755 -- "$folder/bin"/* || return
  if [[ -v carme_job ]]; then
    printf '%s' "$carme_job" >"$folder/job" && chmod 755 -- "$folder/job" || return
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
  use_scratch
  if [[ ! -s $scratch/pid ]]; then
    fill_scratch
    find_container < <(hold_container 2>"$scratch/said") || {
      cat -- "$scratch/said" >&2
      echo "carme: on $node, the tasks of this step get a container each and share no memory" >&2
      echo none >"$scratch/pid"
    }
  fi
  exec {turn}>&-
  read -r pid <"$scratch/pid"
  [[ $pid != none ]] || return 0
  hand_in "$pid" >"$scratch/carme/task-$$"
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
except OSError:
    print(f"carme: there is no {folder} in the container on this node", file=sys.stderr, flush=True)
    os.chdir(environ.get(b"HOME", b"/"))
environ[b"PWD"] = os.getcwdb()
try:
    os.execvpe(program[0], program, environ)
except OSError as problem:
    print(f"{program[0]}: {problem.strerror}", file=sys.stderr, flush=True)
    os._exit(127 if isinstance(problem, FileNotFoundError) else 126)
' "/.carme/task-$$"
  )
}

hold_container() {
  local file
  trap - EXIT
  for file in /proc/self/fd/*; do
    file=${file##*/}
    ((file < 3)) || eval "exec $file>&-"
  done
  exec apptainer --quiet exec --containall --pid --ipc --no-eval --no-mount hostfs,cwd,bind-paths --home /srv/home/rosa:/srv/home/rosa --pwd /srv/home/rosa --bind /etc/hosts:/etc/hosts:ro --bind /etc/slurm:/etc/slurm:ro --userns /srv/images/base.sif /bin/sh -c '
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
  [[ -r /srv/images/base.sif ]] || fail 95 "the image "/srv/images/base.sif" cannot be read on $node"
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
  own_files "$scratch/carme" && {
    printf '%s\n' 'set -euo pipefail' 'node=${SLURMD_NODENAME:-$(hostname)}'
    declare -f fail own_files open_scratch sweep_scratch fill_scratch use_scratch share_container hold_container find_container hand_in leave_container pass_on run_task
    echo 'run_task "$@"'
  } >"$scratch/carme/enter" || fail 94 "the private folder $scratch on $node is full"
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
  # A job that was sent from a session without GPUs may have some.
  [[ -z ${SLURM_JOB_GPUS-}${SLURM_STEP_GPUS-} ]] || export APPTAINER_NV=1
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
      exec "${enter[@]}" "$inside" /bin/sh /.carme/begin "$@"
    fi
    exec apptainer --quiet exec --containall --pid --ipc --no-eval --no-mount hostfs,cwd,bind-paths --home /srv/home/rosa:/srv/home/rosa --pwd /srv/home/rosa --bind /etc/hosts:/etc/hosts:ro --bind /etc/slurm:/etc/slurm:ro /srv/images/base.sif /bin/sh -c '
      cd -- "$0" 2>/dev/null || echo "carme: there is no $0 in the container on this node" >&2
      exec /bin/sh /.carme/begin "$@"' "$inside" "$@"
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

check_node
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

uncopied() {
  [[ -n $(why_unwritable) ]] || fail 93 "$1"
  printf 'carme: %s\n' "$1" >&2
  : >"$scratch/carme/uncopied"
}

copy_course() {
  local source=$1 target=$2 path from to part
  [[ -d $source && -r $source && -x $source ]] \
    || fail 92 "the course material $source cannot be read on $(hostname)"
  mkdir -p -- "$target" || { uncopied "the folder $target cannot be made"; return 0; }
  while IFS= read -r -d '' path; do
    from=$source/$path
    to=$target/$path
    if [[ -d $from && ! -L $from ]]; then
      [[ -d $to ]] || mkdir -p -- "$to" || { uncopied "the folder $to cannot be made"; return 0; }
    elif [[ ! -e $to && ! -L $to ]]; then
      part=${to%/*}/.carme-$SLURM_JOB_ID.part
      cp -P -- "$from" "$part" || { rm -f -- "$part"; uncopied "$to cannot be written"; return 0; }
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
apptainer --quiet exec --containall --pid --ipc --no-eval --no-mount hostfs,cwd,bind-paths --home /srv/home/rosa:/srv/home/rosa --pwd /srv/home/rosa --bind /etc/hosts:/etc/hosts:ro --bind /etc/slurm:/etc/slurm:ro /srv/images/base.sif /bin/sh /.carme/begin python3 -I -S - jupyterhub-singleuser --debug <<'CARME_REPORTER_ENDS_HERE' {hold}<&- &
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
