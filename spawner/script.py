"""JobRequest -> batch script. A pure function; every value is quoted in one of two places.

`directive` writes a value for sbatch, ``shlex.quote`` one for bash. Nothing secret is in the script: the
variables of the session travel in sbatch's environment.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carme_hub.spawner import container, course, node, own_files
from carme_hub.spawner.values import absolute_path

if TYPE_CHECKING:
    from carme_hub.spawner.request import JobRequest

# How the script ends when it cannot start the server, beside the codes of `node` and `course`; `failure` says
# it in sentences. EXIT_LOG: there is no home at all, or it is closed to its owner.
EXIT_LOG = 91
EXIT_HOME_FULL = 99

LOG_FOLDER = ".carme"
LOG_DAYS = 30  # after which a session's log is removed by the next one
LOGS = 100  # of which the oldest are removed when there are more; `logkeeper` bounds each
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


def trial(home: str) -> Plan:
    """Return the plan of a script that is never run: ``sbatch --test-only`` reads its directives."""
    return Plan(home=home, mark="carme:trial", command=("true",), reporter="pass")


def log_path(home: str, job_id: int | str) -> str:
    """Return where a session writes what happens."""
    return f"{home}/{LOG_FOLDER}/session-{job_id}.log"


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
            open_log(
                plan.home, otherwise=_PRIVATE_LOG.format(home=shlex.quote(plan.home), exit_log=EXIT_LOG)
            ),
            node.functions(request, plan.home, plan.apptainer),
            _CHECK_ALL if request.nodes > 1 else _CHECK,
            _KEEP_LOG,
            course.copying(request, plan.home),
            _ENVIRONMENT,
            _run(request, plan),
        ]
    )


def open_log(home: str, otherwise: str = "") -> str:
    """Return the lines with which a job writes all it says into `log_path`, and removes old ones there.

    Parameters
    ----------
    home
        The person's home folder.
    otherwise
        What is done when nothing can be written there; it has to set ``log``. Without it the job ends with
        `EXIT_LOG`.
    """
    return _OPEN_LOG.format(
        log_folder=shlex.quote(f"{home}/{LOG_FOLDER}"),
        log=shlex.quote(f"{home}/{LOG_FOLDER}/session-"),
        log_days=LOG_DAYS,
        logs=LOGS + 1,
        otherwise=otherwise or f"exit {EXIT_LOG}",
    )


def _directives(request: JobRequest, plan: Plan) -> list[str]:
    where = ("partition", "account", "qos", "reservation", "constraint")
    lines = [directive("job-name", f"carme-{request.profile.name}"), directive("comment", plan.mark)]
    lines += [directive(name, getattr(request, name)) for name in where if getattr(request, name)]
    lines += [
        directive("nodes", request.nodes),
        directive("ntasks-per-node", request.tasks),
        directive("cpus-per-task", request.cpus_per_task),
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


def _run(request: JobRequest, plan: Plan) -> str:
    words = [
        *container.command(request, plan.home, plan.apptainer),
        "/bin/sh",
        own_files.BEGIN,
        "python3",
        "-I",
        "-S",
        "-",
        *plan.command,
    ]
    source = plan.reporter if plan.reporter.endswith("\n") else f"{plan.reporter}\n"
    return _RUN.format(
        command=" ".join(shlex.quote(word) for word in words),
        end=_END,
        reporter=source,
        exit_home_full=EXIT_HOME_FULL,
    )


# The first line is also a test: on a full disk a file can be made, but nothing can be written to it. What is
# no plain file is not written to: a pipe at that place would wait for a reader.
_OPEN_LOG = """\
set -euo pipefail

mask=$(umask)
umask 077
place={log}$SLURM_JOB_ID.log
log=$place
{{ mkdir -p -- {log_folder} && [[ ! -e $log || -f $log ]] && printf 'carme: job %s on %s\\n' \\
  "$SLURM_JOB_ID" "${{SLURM_JOB_NODELIST:-$(hostname)}}" >>"$log"; }} 2>/dev/null || {{
  {otherwise}
}}
exec >>"$log" 2>&1
umask "$mask"
find {log_folder} -maxdepth 1 -type f -name 'session-*.log' -mtime +{log_days} -delete 2>/dev/null || true
find {log_folder} -maxdepth 1 -type f -name 'session-*.log' -printf '%T@ %p\\0' 2>/dev/null |
  sort -zrn | tail -zn +{logs} | cut -zd ' ' -f 2- | xargs -0r rm -f -- || true

why_unwritable() {{
  local said
  said=$({{ LC_ALL=C head -c 65536 /dev/zero >"$place.probe"; }} 2>&1 || true)
  rm -f -- "$place.probe" 2>/dev/null || true
  case $said in
    *'No space left'* | *'quota exceeded'*) echo full ;;
    *'Read-only'*) echo read-only ;;
  esac
}}
"""

# A home that is full, or in which our folder cannot be written, holds nobody up: whoever is locked out of it
# cannot remove anything. The log begins beside the private folder, which is not there yet, and moves into it.
_PRIVATE_LOG = """\
[[ -d {home} && -x {home} ]] || exit {exit_log}
  log=$(mktemp -- "${{TMPDIR:-/tmp}}/.carme-log-XXXXXXXXXX") 2>/dev/null || log=/dev/null
  trap '[[ $log == /dev/null ]] || rm -f -- "$log"' EXIT
  printf 'carme: job %s: this log could not be written to %s\\n' "$SLURM_JOB_ID" "$place" >>"$log"\
"""

# The reporter reads the log and tells the hub its end, for as long as the hub cannot find it in its place.
# There it goes in the end, should there be room then.
_KEEP_LOG = """\
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
"""

_CHECK = """\
check_node
open_scratch
"""

# On all nodes at once; --export keeps what the session needs, its token among it, out of this step.
_CHECK_ALL = """\
srun --overlap --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \\
  --export=PATH --input=none --kill-on-bad-exit=0 --job-name=carme-check /bin/bash -c 'set -euo pipefail
    node=${SLURMD_NODENAME:-$(hostname)}
    '"$(declare -f fail check_mount check_node)"'
    check_node' || exit "$?"
open_scratch
"""

# The container starts with an empty environment. It gets what Slurm says about the allocation, without what
# describes this one task, so that a plain "srun" inside the session reaches all its nodes and cores:
# SLURM_OVERLAP lets several run at once beside the server, SRUN_CPUS_PER_TASK is what srun reads since 22.05.
#
# MASTER_ADDR and MASTER_PORT are where the parts of a distributed program meet: the first node, by its name
# if that is more than a loopback address there, and a port that follows from the job's number (so that two
# jobs of a node differ), that nothing listens on now, and that the kernel gives to nobody by itself (its own
# range begins at 32768).
_ENVIRONMENT = f"""\
unset "${{!SLURM_CPU_BIND@}}" SLURM_PROCID SLURM_LOCALID SLURM_NODEID SLURM_GTIDS SLURM_TASK_PID
export SLURM_OVERLAP=1 SRUN_CPUS_PER_TASK="${{SLURM_CPUS_PER_TASK:-1}}"

read -r address _ < <(timeout 5 getent ahosts "$node") || address=
case ${{address:-127.}} in
  127.* | ::1) read -r MASTER_ADDR _ < <(hostname -I) || MASTER_ADDR=$node ;;
  *) MASTER_ADDR=$node ;;
esac
taken=" "
while read -r _ address _ state _; do
  [[ $state != 0A ]] || taken+="$((16#${{address##*:}})) "
done < <(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
MASTER_PORT=$((12000 + SLURM_JOB_ID % 20000))
while [[ $taken == *" $MASTER_PORT "* ]]; do
  MASTER_PORT=$((MASTER_PORT + 1))
done
export MASTER_ADDR MASTER_PORT

for name in "${{!SLURM_@}}" SRUN_CPUS_PER_TASK MASTER_ADDR MASTER_PORT \\
  CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ZE_AFFINITY_MASK GPU_DEVICE_ORDINAL; do
  if [[ -v $name && ! -v {PREFIX}$name ]]; then
    export "{PREFIX}$name=${{!name}}"
  fi
done
zone=$(readlink -f /etc/localtime || true)
if [[ $zone == */zoneinfo/* && ! -v {PREFIX}TZ ]]; then
  export {PREFIX}TZ="${{zone##*/zoneinfo/}}"
fi
"""

# bash waits for the container with "wait", because a signal ends that at once and can be passed on. A server
# that fails while nothing can be written to the home has most likely failed because of that.
_RUN = """\
child=
trap '[[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true' TERM
{command} <<'{end}' {{hold}}<&- &
{reporter}{end}
child=$!
status=0
wait "$child" || status=$?
while kill -0 "$child" 2>/dev/null; do
  status=0
  wait "$child" || status=$?
done
[[ $status == 0 || $(why_unwritable) != full ]] || status={exit_home_full}
exit "$status"
"""
