"""The values that a site's description is made of: names, texts, paths, times and amounts, each checked."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from carme_hub.spawner import units

if TYPE_CHECKING:
    from collections.abc import Callable

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Folders of the container that make it what it is: a mount over one of them would break or open it.
_RESERVED = re.compile(
    r"/|/(bin|dev|etc|lib|lib64|proc|run|sbin|sys|tmp|usr|var|var/tmp|\.carme)|/(proc|sys|dev|\.carme)/.*"
)


def _plain(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("control characters and line breaks are not allowed")
    return text


def absolute_path(path: str) -> str:
    """Check a path that goes into a mount: absolute, normalised, and nothing Apptainer splits at."""
    _plain(path)
    if not path.startswith("/"):
        raise ValueError("an absolute path is needed")
    if posixpath.normpath(path) != path or path.startswith("//"):
        raise ValueError(
            f'the path has to be written without "." and ".." and doubled or final "/": {path!r}'
        )
    if "," in path or ":" in path or '"' in path or "\\" in path:
        raise ValueError("commas, colons, quotes and backslashes are not allowed in a path")
    return path


def _target(path: str) -> str:
    absolute_path(path)
    if _RESERVED.fullmatch(path):
        raise ValueError(f"the container needs {path} for itself")
    return path


def _relative_path(path: str) -> str:
    _plain(path)
    if not path or path == ".." or path.startswith(("/", "../")) or posixpath.normpath(path) != path:
        raise ValueError('a relative path without "." and ".." is needed')
    return path


def _read(parse: Callable[[str], int]) -> Callable[[object], int]:
    def convert(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError("a text is needed")  # noqa: TRY004 - pydantic turns ValueError into its own error
        amount = parse(str(value))
        if amount < 1:
            raise ValueError("has to be more than nothing")
        return amount

    return convert


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Text = Annotated[str, Field(max_length=2000), AfterValidator(_plain)]
# What Slurm calls names (partition, account, ...) and expressions over them (constraint).
Word = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.,:@+/=&|()\[\]*!-]{0,254}$"), AfterValidator(_plain)
]
# A type of Slurm's gres gpu ("a100", a MIG slice "1g.10gb"), or another gres: "gpu", "shard", "shard:a100".
GpuType = Annotated[
    str,
    BeforeValidator(lambda text: text.removeprefix("gpu:") if isinstance(text, str) else text),
    Field(pattern=r"^(shard:)?[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"),
]
Path = Annotated[str, AfterValidator(absolute_path)]
Minutes = Annotated[int, BeforeValidator(_read(units.minutes))]
Mebibytes = Annotated[int, BeforeValidator(_read(units.mebibytes))]
# Where a mount goes, and a path below a folder.
Target = Annotated[str, AfterValidator(_target)]
RelativePath = Annotated[str, AfterValidator(_relative_path)]
App = Literal["lab", "code-server"]

# "No bound of our own": the loosest values there are. What Slurm says counts then, as far as it is known.
MAX_TIME = 366 * 1440  # minutes
MAX_GPUS = 1024
MAX_NODES = 100_000
MAX_CPUS = 100_000
DEFAULT_TIME = 60  # minutes


def as_tuple(value: object) -> object:
    """Return lists and sets as tuples, for use before a check; other values as they are."""
    # Configuration files write lists, ``strict`` wants tuples; a set is sorted so that it has a first.
    if isinstance(value, set | frozenset):
        return tuple(sorted(value))
    return tuple(value) if isinstance(value, list) else value


def _choice(value: object) -> object:
    return (value,) if isinstance(value, str) else () if value is None else as_tuple(value)


Names = Annotated[tuple[Name, ...], BeforeValidator(as_tuple)]
# One value that is fixed, or several to choose from, the default first. Where that is "", it means none.
Choice = Annotated[tuple[Literal[""] | Word, ...], BeforeValidator(_choice)]
# A group is a name of the directory, which may hold spaces and more.
Groups = Annotated[tuple[Text, ...], BeforeValidator(as_tuple)]
GpuTypes = Annotated[tuple[GpuType, ...], BeforeValidator(as_tuple)]
Apps = Annotated[tuple[App, ...], BeforeValidator(as_tuple)]
