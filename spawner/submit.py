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
