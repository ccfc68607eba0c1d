"""Distinguished names taken apart (RFC 4514), so that they can be compared. No I/O."""

import re
from typing import TypeAlias

# Parts from the entry up to the root; a part is one or more pairs of attribute (lower case) and value.
Parts: TypeAlias = tuple[tuple[tuple[str, str], ...], ...]

# ldap3's own parser knows no spaces beside separators, which people write into settings, and takes escaped
# ones away.
_PAIR = re.compile(r" *([A-Za-z0-9.-]+) *=((?:\\.|[^\\,+])*)([,+]|\Z)", re.DOTALL)
_SPACE_AFTER = re.compile(r"(?<!\\) +$")
_ESCAPE = re.compile(rb"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)


def parts_of(dn: str) -> Parts:
    """Take a distinguished name apart; what is none (a directory may have `name@domain`) has no parts."""
    parts: list[tuple[tuple[str, str], ...]] = []
    pairs: list[tuple[str, str]] = []
    position, separator = 0, ","
    while separator:
        match = _PAIR.match(dn, position)
        if match is None:
            return ()
        separator, position = match[3], match.end()
        pairs.append((match[1].lower(), _unescaped(match[2])))
        if separator != "+":
            parts.append(tuple(pairs))
            pairs = []
    return tuple(parts)


def _unescaped(value: str) -> str:
    text = _SPACE_AFTER.sub("", value).lstrip(" ").encode()
    raw = _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()) if len(match[1]) > 1 else match[1], text)
    return raw.decode("utf-8", "replace")


def value_of(dn: str, attribute: str) -> str | None:
    """Return what the first part of a distinguished name says about an attribute, if it is in it."""
    for name, value in next(iter(parts_of(dn)), ()):
        if name == attribute.lower():
            return value
    return None


def key_of(dn: str) -> Parts | str:
    """Return something that is the same for other spellings of a distinguished name."""
    parts = parts_of(dn)
    return (
        tuple(tuple(sorted((name, value.casefold()) for name, value in part)) for part in parts)
        or dn.casefold()
    )


def is_below(dn: str, base: str) -> bool:
    """Say whether an entry is somewhere below another."""
    inner, outer = key_of(dn), key_of(base)
    if isinstance(inner, str) or isinstance(outer, str):
        return False
    return len(inner) > len(outer) and inner[-len(outer) :] == outer
