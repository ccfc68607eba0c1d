"""JobRequest -> batch script. A pure function; every value is quoted in one of two places.

`directive` writes a value for sbatch, ``shlex.quote`` one for bash. Nothing secret is in the script: the
variables of the session travel in sbatch's environment.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carme_hub.spawner import container
from carme_hub.spawner.catalog import absolute_path

if TYPE_CHECKING:
    from carme_hub.spawner.request import JobRequest

# How the script ends when it cannot start the server; `failure` says it in sentences.
EXIT_LOG = 91
EXIT_MATERIAL = 92
EXIT_COPY = 93
EXIT_SCRATCH = 94
EXIT_IMAGE = 95
EXIT_APPTAINER = 97

LOG_FOLDER = ".carme"
# Variables reach the container under this prefix (Apptainer takes it off again).
PREFIX = "APPTAINERENV_"

_END = "CARME_REPORTER_ENDS_HERE"
_PRINTABLE = re.compile(r"[ -~]+")
_SAFE = re.compile(r"[A-Za-z0-9_.,:@%+=/&|()\[\]*!~-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ScriptError(ValueError):
    """A value cannot be written into a batch script."""


@dataclass(frozen=True)
class Plan:
    """Everything about one start that is not in the request.

    Attributes
    ----------
    home
        The person's home folder.
    mark
        Comment of the job (``carme:...``), by which the hub finds its jobs again.
    command
        Words that start the single-user server inside the container.
    apptainer
        Name or path of Apptainer's command on the compute nodes.
    reporter
        Source text of `carme_hub.spawner.reporter`.
    """

    home: str
    mark: str
    command: tuple[str, ...]
    reporter: str = field(repr=False)
    apptainer: str = "apptainer"


def log_path(home: str, job_id: int | str) -> str:
    """Return where a session writes what happens."""
    return f"{home}/{LOG_FOLDER}/session-{job_id}.log"


def course_folder(home: str, profile: str) -> str:
    """Return where a course profile's material is copied to."""
    return f"{home}/courses/{profile}"


def directive(option: str, value: str | int | None = None) -> str:
    """Write one ``#SBATCH`` line.

    Raises
    ------
    ScriptError
        When the value has a line break, another control character, a quote or a backslash: no rule of
        quoting in sbatch is trusted with those, whoever wrote them.
    """
    if value is None:
        return f"#SBATCH --{option}"
    text = str(value)
    if not _PRINTABLE.fullmatch(text) or any(character in text for character in "\"'\\`"):
        raise ScriptError(f"{option}: {text!r} cannot be written into a batch script")
    return f"#SBATCH --{option}={text}" if _SAFE.fullmatch(text) else f'#SBATCH --{option}="{text}"'


def environment(variables: dict[str, str]) -> dict[str, str]:
    """Return the session's variables under the names that Apptainer hands into the container.

    Raises
    ------
    ScriptError
        When a name is none, or a value cannot be in an environment.
    """
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name):
            raise ScriptError(f"environment: {name!r} is no name for a variable")
        if "\0" in value:
            raise ScriptError(f"environment: the value of {name} has a null character")
    return {f"{PREFIX}{name}": value for name, value in variables.items()}


def render(request: JobRequest, plan: Plan) -> str:
    """Write the batch script of a session.

    Raises
    ------
    ScriptError, ValueError
        When a value of the site or the account cannot be written into it.
    """
    absolute_path(plan.home)
    if any(line == _END for line in plan.reporter.splitlines()):
        raise ScriptError("the reporter contains the line that ends it")
    return "\n".join(
        [
            "#!/bin/bash",
            *_directives(request, plan),
            "",
            _PREPARE.format(
                log_folder=shlex.quote(f"{plan.home}/{LOG_FOLDER}"),
                log=shlex.quote(f"{plan.home}/{LOG_FOLDER}/session-"),
                apptainer=shlex.quote(plan.apptainer),
                image=shlex.quote(request.image.path),
                exit_log=EXIT_LOG,
                exit_image=EXIT_IMAGE,
                exit_apptainer=EXIT_APPTAINER,
                exit_scratch=EXIT_SCRATCH,
            ),
            *_course(request, plan),
            _ENVIRONMENT,
            _run(request, plan),
        ]
    )


def _directives(request: JobRequest, plan: Plan) -> list[str]:
    where = ("partition", "account", "qos", "reservation", "constraint")
    lines = [directive("job-name", f"carme-{request.profile.name}"), directive("comment", plan.mark)]
    lines += [directive(name, getattr(request, name)) for name in where if getattr(request, name)]
    lines += [
        directive("nodes", request.nodes),
        directive("ntasks-per-node", 1),
        directive("cpus-per-task", request.cpus),
        directive("time", request.time),
        # Not the home folder: every path below is absolute, and its name may hold what no directive can.
        directive("chdir", "/"),
    ]
    if request.memory is not None:
        lines.append(directive("mem", f"{request.memory}M"))
    if request.gres:
        lines.append(directive("gres", f"{request.gres}:{request.gpus}"))
    return [
        *lines,
        # The script opens its own log: a missing folder must not end the job before it can say so.
        directive("output", "/dev/null"),
        directive("error", "/dev/null"),
        # sbatch's environment is made by the hub and holds what the session needs, nothing else.
        directive("export", "ALL"),
        # The hub's own limits (open files, memory) are not the person's.
        directive("propagate", "NONE"),
        # A job that is started again would come back on another node, with a report the hub no longer takes.
        directive("no-requeue"),
    ]


def _course(request: JobRequest, plan: Plan) -> list[str]:
    course = request.profile.course
    if course is None:
        return []
    target = course_folder(plan.home, request.profile.name)
    call = f"copy_course {shlex.quote(course.material)} {shlex.quote(target)}\n"
    return [_COPY.format(exit_material=EXIT_MATERIAL, exit_copy=EXIT_COPY), call]


def _run(request: JobRequest, plan: Plan) -> str:
    words = [
        *container.command(request, plan.home, plan.apptainer),
        "python3",
        "-I",
        "-S",
        "-",
        *plan.command,
    ]
    source = plan.reporter if plan.reporter.endswith("\n") else f"{plan.reporter}\n"
    return _RUN.format(command=" ".join(shlex.quote(word) for word in words), end=_END, reporter=source)


_PREPARE = """\
set -euo pipefail

fail() {{
  printf 'carme: %s\\n' "$2"
  exit "$1"
}}

mask=$(umask)
umask 077
log={log}$SLURM_JOB_ID.log
{{ mkdir -p -- {log_folder} && : >>"$log"; }} 2>/dev/null || exit {exit_log}
exec >>"$log" 2>&1
umask "$mask"

command -v -- {apptainer} >/dev/null || fail {exit_apptainer} "there is no "{apptainer}" on $(hostname)"
image={image}
[[ -r $image ]] || fail {exit_image} "the image $image cannot be read on $(hostname)"
scratch=$(mktemp -d -- "${{TMPDIR:-/tmp}}/carme-$SLURM_JOB_ID.XXXXXXXXXX") \\
  || fail {exit_scratch} "no private folder can be made on $(hostname)"
trap 'rm -rf -- "$scratch"' EXIT
"""

# Only what is missing is copied. Each file appears at once and whole: it is copied beside its place first,
# and a hard link never replaces anything. cp's own ways not to overwrite differ between its versions.
_COPY = """\
copy_course() {{
  local source=$1 target=$2 path from to part
  [[ -d $source && -r $source && -x $source ]] \\
    || fail {exit_material} "the course material $source cannot be read on $(hostname)"
  mkdir -p -- "$target" || fail {exit_copy} "the folder $target cannot be made"
  while IFS= read -r -d '' path; do
    from=$source/$path
    to=$target/$path
    if [[ -d $from && ! -L $from ]]; then
      [[ -d $to ]] || mkdir -p -- "$to" || fail {exit_copy} "the folder $to cannot be made"
    elif [[ ! -e $to && ! -L $to ]]; then
      part=${{to%/*}}/.carme-$SLURM_JOB_ID.part
      cp -P -- "$from" "$part" || {{ rm -f -- "$part"; fail {exit_copy} "$to cannot be written"; }}
      [[ -L $part ]] || chmod u+w -- "$part"
      ln -T -- "$part" "$to" 2>/dev/null || mv -n -T -- "$part" "$to"
      rm -f -- "$part"
    fi
  done < <(find "$source" -mindepth 1 \\( -type d -o -type f -o -type l \\) -printf '%P\\0')
  wait "$!" || fail {exit_material} "a part of the course material $source cannot be read on $(hostname)"
}}
"""

# The container starts with an empty environment. It gets what Slurm says about the allocation, without what
# describes this one task, so that a plain "srun" inside the session reaches all its nodes and cores:
# SLURM_OVERLAP lets several run at once beside the server, SRUN_CPUS_PER_TASK is what srun reads since 22.05.
_ENVIRONMENT = f"""\
unset "${{!SLURM_CPU_BIND@}}" SLURM_PROCID SLURM_LOCALID SLURM_NODEID SLURM_GTIDS SLURM_TASK_PID
export SLURM_OVERLAP=1 SRUN_CPUS_PER_TASK="${{SLURM_CPUS_PER_TASK:-1}}"
for name in "${{!SLURM_@}}" SRUN_CPUS_PER_TASK \\
  CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ZE_AFFINITY_MASK GPU_DEVICE_ORDINAL; do
  if [[ -v $name ]]; then
    export "{PREFIX}$name=${{!name}}"
  fi
done
export APPTAINER_WORKDIR="$scratch"
zone=$(readlink -f /etc/localtime || true)
if [[ $zone == */zoneinfo/* && ! -v {PREFIX}TZ ]]; then
  export {PREFIX}TZ="${{zone##*/zoneinfo/}}"
fi
"""

# bash waits for the container with "wait", because a signal ends that at once and can be passed on.
_RUN = """\
child=
trap '[[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true' TERM
{command} <<'{end}' &
{reporter}{end}
child=$!
status=0
wait "$child" || status=$?
while kill -0 "$child" 2>/dev/null; do
  status=0
  wait "$child" || status=$?
done
exit "$status"
"""
