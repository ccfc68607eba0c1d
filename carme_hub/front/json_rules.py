"""What the fields of JupyterHub's JSON API have to be: from a value to what is wrong with it. Pure."""

from __future__ import annotations

import json
import math
import unicodedata
from dataclasses import dataclass
from typing import Any

DEPTH = 16  # of objects in objects
WHOLE = 2**53  # numbers beyond are not the same in every language
NAME, NOTE = 255, 255  # characters
OPTIONS, STATE = 1 << 14, 1 << 16  # bytes of JSON
MANY = 1000  # names at once
YEARS = 10 * 366 * 86400  # seconds
UNSEEN = {"Cc", "Cs", "Zl", "Zp"}  # of Unicode's categories: control characters, half characters, line ends
HALF = {"Cs"}


def is_plain(text: str, unseen: set[str] = UNSEEN) -> bool:
    """Say whether a text is one line of characters that all exist."""
    return (text.isascii() and text.isprintable()) or not any(
        unicodedata.category(one) in unseen for one in text
    )


def problem_of(value: object, depth: int = DEPTH, field: str = "") -> str:
    """Say what no value of any field may have: NUL, half characters, numbers that databases do not hold.

    Parameters
    ----------
    value
        As it was read.
    depth
        Objects in each other that may come.
    field
        Its name, with those of the objects that it is in.
    """
    subject = field or "The request"
    if isinstance(value, str):
        fits = "\0" not in value and (value.isascii() or is_plain(value, HALF))
        return "" if fits else f"{subject} has characters that do not exist."
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, int | float):
        fits = math.isfinite(value) and abs(value) <= WHOLE
        return "" if fits else f"{subject} has a number that is too large."
    if depth == 0:
        return f"{subject} has too many objects in each other."
    parts: list[tuple[object, str]] = (
        [(one, field) for one in value] if isinstance(value, dict | list) else []
    )
    if isinstance(value, dict):
        parts += [(part, _inner(field, name)) for name, part in value.items()]
    return next((found for part, name in parts if (found := problem_of(part, depth - 1, name))), "")


def _inner(field: str, name: str) -> str:
    """Return the name of a field in a field, or the outer one's where nobody could read it."""
    full = f"{field}.{name}" if field else name
    return full if len(full) <= NAME and is_plain(name) else field


@dataclass(frozen=True)
class Text:
    """One line of text, or null.

    Attributes
    ----------
    most, least : int
        Characters.
    """

    most: int = NAME
    least: int = 0

    def problem(self, value: object) -> str:
        """Say what it has to be; empty where it is."""
        fits = value is None or (
            isinstance(value, str) and self.least <= len(value) <= self.most and is_plain(value)
        )
        return "" if fits else f"has to be a text of {self.least} to {self.most} characters in one line"


@dataclass(frozen=True)
class Texts:
    """A list of texts."""

    optional: bool = True

    def problem(self, value: object) -> str:
        """Say what it has to be; empty where it is."""
        if value is None and self.optional:
            return ""
        texts = value if isinstance(value, list) and len(value) <= MANY else [None]
        fits = all(isinstance(one, str) and one and not Text().problem(one) for one in texts)
        return "" if fits else f"has to be a list of at most {MANY} texts of at most {NAME} characters each"


@dataclass(frozen=True)
class Flag:
    """True, false or null."""

    def problem(self, value: object) -> str:
        """Say what it has to be; empty where it is."""
        return "" if value is None or isinstance(value, bool) else "has to be true or false"


@dataclass(frozen=True)
class Seconds:
    """A number of seconds, or null."""

    def problem(self, value: object) -> str:
        """Say what it has to be; empty where it is."""
        fits = value is None or (type(value) is int and 1 <= value <= YEARS)
        return "" if fits else f"has to be a whole number of seconds from 1 to {YEARS}"


@dataclass(frozen=True)
class Record:
    """An object, or null.

    Attributes
    ----------
    most : int
        Bytes of its JSON.
    """

    most: int

    def problem(self, value: object) -> str:
        """Say what it has to be; empty where it is."""
        fits = value is None or (isinstance(value, dict) and len(json.dumps(value)) <= self.most)
        return "" if fits else f"has to be an object of at most {self.most} bytes"


Rule = Text | Texts | Flag | Seconds | Record

# By the name of a field, whatever it is a field of.
FIELDS: dict[str, Rule] = {
    "name": Text(),
    "display_name": Text(),
    "note": Text(NOTE),
    "user": Text(least=1),
    "group": Text(least=1),
    "last_activity": Text(64),
    "admin": Flag(),
    "remove": Flag(),
    "proxy": Flag(),
    "usernames": Texts(optional=False),
    "users": Texts(optional=False),
    "groups": Texts(optional=False),
    "roles": Texts(),
    "scopes": Texts(),
    "expires_in": Seconds(),
    "user_options": Record(OPTIONS),
    "auth_state": Record(STATE),
}


def body_problem(
    body: Any, known: dict[str, Rule] | None = None, allowed: frozenset[str] | None = None
) -> str:
    """Say what is wrong with the body of a request.

    Parameters
    ----------
    body
        As it was read; None where there was none.
    known
        What its fields have to be; without it, what `FIELDS` says.
    allowed
        Its fields; None where the handler looks at their names.
    """
    if body is None:
        return ""
    if not isinstance(body, dict):
        return "The body has to be a JSON object."
    if found := problem_of(body):
        return found
    if allowed is not None and (others := body.keys() - allowed):
        return f"Only {', '.join(sorted(allowed))} can be given, not {min(others)[:NAME]!r}."
    rules = FIELDS if known is None else known
    for name, value in body.items():
        if name in rules and (found := rules[name].problem(value)):
            return f"{name} {found}."
    return ""
