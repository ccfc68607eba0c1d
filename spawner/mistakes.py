"""Mistakes in a site's description, told to the admin who made them: where, what is wrong, what is right."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

_SHOWN = 60
_KINDS = {
    "string_type": "a text in quotes is needed",
    "int_type": "a whole number is needed",
    "bool_type": "True or False is needed",
    "tuple_type": "a list is needed",
    "model_type": "a dictionary is needed",
    "dict_type": "a dictionary is needed",
}
_NAME = 'letters, digits, ".", "_" and "-" are allowed, a letter or digit first, 63 characters at most'


def shown(value: object) -> str:
    """Write a value for a sentence: short, on one line, texts in quotes."""
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that was probably meant; empty where none is near."""
    names = sorted(known)
    lower = {name.lower(): name for name in names}
    found = difflib.get_close_matches(word.lower(), list(lower), n=1, cutoff=0.7)
    return lower[found[0]] if found else ""


def unknown(word: str, known: Iterable[str], what: str = "unknown name") -> str:
    """Say that a word is not known, and which one was probably meant, or which there are."""
    names = sorted(known)
    meant = nearest(word, names)
    if meant:
        return f"{what} {shown(word)}, did you mean {shown(meant)}?"
    return f"{what} {shown(word)}; known are {', '.join(names)}" if names else f"{what} {shown(word)}"


def entry(kind: str, name: object, number: int | None = None) -> str:
    """Name an entry: by its name, else by its place, counted from 1."""
    if isinstance(name, str) and name:
        return f"{kind} {shown(name)}"
    return f"{kind} {number + 1}" if number is not None else f"{kind} {shown(name)}"


def lines(error: ValidationError, model: type[BaseModel], where: str, given: Mapping[Any, Any]) -> list[str]:
    """Return one line for each mistake that pydantic found in an entry.

    Parameters
    ----------
    model
        What the entry is checked against.
    where
        Setting and entry: ``CarmeSpawner.profiles, profile "gpu"``.
    given
        The entry as it was written.
    """
    found: dict[tuple[Any, ...], ErrorDetails] = {}
    for problem in error.errors(include_url=False):
        # Of several ways to write a value, each complains: the last is the one that is described.
        place = problem["loc"][
            : 1 + next((at for at, part in enumerate(problem["loc"]) if isinstance(part, int)), 9)
        ]
        found[place] = problem
    strange = {place[-1] for place, one in found.items() if one["type"] == "extra_forbidden"}
    meant = {
        nearest(str(word), _names(model, place[:-1], given))
        for place in found
        for word in place[-1:]
        if word in strange
    }
    told = []
    for place, problem in found.items():
        if problem["type"] == "missing" and place[-1] in meant:
            continue  # it is there, with a slip of the pen
        path = [str(part) for part in place if not isinstance(part, int)]
        if problem["type"] in {"extra_forbidden", "missing"}:
            path.pop()
        told.append(f"{', '.join([where, *path])}: {_sentence(problem, model, place, given)}")
    return told


def _names(model: type[BaseModel], place: tuple[Any, ...], given: Mapping[Any, Any]) -> set[str]:
    """Return the names that an entry can have, or, where a place is given, the entry that is in it."""
    inner: Any = model
    for part in place:
        hint = inner.model_fields[part].annotation if part in inner.model_fields else None
        inner = next(
            (one for one in getattr(hint, "__args__", (hint,)) if hasattr(one, "model_fields")), model
        )
    names = set(inner.model_fields) - (set() if inner is not model or "name" in given else {"name"})
    return names | ({"gpu_type"} if "gpu_types" in names else set())


def _sentence(
    problem: ErrorDetails, model: type[BaseModel], place: tuple[Any, ...], given: Mapping[Any, Any]
) -> str:
    kind, value, more = problem["type"], problem["input"], problem.get("ctx", {})
    if kind in _KINDS:
        return f"{_KINDS[kind]}, not {shown(value)}"
    tell: Callable[[], str] | None = {
        "extra_forbidden": lambda: unknown(str(place[-1]), _names(model, place[:-1], given)),
        "missing": lambda: f"{shown(place[-1])} is missing; add it",
        "greater_than_equal": lambda: f"at least {more['ge']} is needed, not {value}",
        "less_than_equal": lambda: f"at most {more['le']} is possible, not {value}",
        "string_pattern_mismatch": lambda: _pattern(value, str(more["pattern"])),
        "literal_error": lambda: unknown(str(value), _listed(str(more["expected"]))),
        "string_too_long": lambda: f"at most {more['max_length']} characters are possible",
    }.get(kind)
    if tell is not None:
        return tell()
    # pydantic puts this before the text of a ValueError.
    said = problem["msg"].removeprefix("Value error, ")
    simple = isinstance(value, str | int | float | bool)
    return f"{said}, not {shown(value)}" if simple and said.endswith(" is needed") else said


def _pattern(value: object, pattern: str) -> str:
    if pattern.startswith("^[A-Za-z0-9][A-Za-z0-9_.-]"):
        return f"{shown(value)} is no name: {_NAME}"
    return f"{shown(value)} has characters that a name of Slurm's cannot have"


def _listed(expected: str) -> list[str]:
    """Read ``'lab' or 'code-server'``."""
    return [part.strip("' ") for part in expected.replace(" or ", ", ").split(", ")]
