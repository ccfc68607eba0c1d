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
