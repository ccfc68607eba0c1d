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
