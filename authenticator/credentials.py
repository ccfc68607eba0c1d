"""What a request says about who is asking, believed only as far as its shape goes. No I/O."""

import re
from dataclasses import dataclass, field

MAX_USERNAME = 64  # characters
MAX_PASSWORD = 1024  # bytes; nothing longer is handed to the directory
MAX_CODE = 4096  # characters; the longest of all codes is what a passkey answers
MAX_TYPED_CODE = 64  # of all others; a recovery code fits as well as six digits


@dataclass(frozen=True)
class Credentials:
    """A login as typed: canonical name, password, code."""

    username: str
    password: str = field(repr=False)
    code: str = field(repr=False)


def canonical_name(name: object, pattern: str) -> str | None:
    """
    Turn a typed name into the one name its account has here, or None where it cannot be a name.

    ASCII is asked for before lower-casing, because other alphabets have letters that become ASCII by it
    (U+212A, the Kelvin sign, becomes ``k``). `pattern` has to fit the whole lower-case name.
    """
    if not isinstance(name, str) or len(name) > MAX_USERNAME or not name.isascii():
        return None
    lowered = name.lower()
    return lowered if re.fullmatch(pattern, lowered) else None


def usable_password(password: object) -> str | None:
    """
    Pass a password that may be tried at the directory.

    A blank one never is: a bind with an empty password succeeds as nobody (RFC 4513, section 5.1.2).
    """
    if not isinstance(password, str) or not password.strip() or "\0" in password:
        return None
    try:
        size = len(password.encode("utf-8"))
    except UnicodeEncodeError:  # lone surrogates, which JSON can carry
        return None
    return password if size <= MAX_PASSWORD else None


def is_assertion(code: str) -> bool:
    """Say whether a code is what a passkey answered, a text in JSON; no other code begins as that does."""
    return code.startswith("{")


def usable_code(code: object) -> str | None:
    """Pass what may be compared with the codes of an account."""
    if not isinstance(code, str):
        return None
    code = code.strip(" ")
    return code if len(code) <= (MAX_CODE if is_assertion(code) else MAX_TYPED_CODE) else None


def parse(data: object, pattern: str) -> Credentials | None:
    """
    Read a login form or the ``auth`` part of a token request.

    Parameters
    ----------
    data
        Anything a request can carry. Only a mapping with the strings ``username``, ``password`` and
        ``otp`` is read; whatever else it holds is ignored.
    pattern
        Regular expression for canonical names.

    Returns
    -------
    Credentials or None
        None where the shape alone says no.
    """
    if not isinstance(data, dict):
        return None
    username = canonical_name(data.get("username"), pattern)
    password = usable_password(data.get("password"))
    code = usable_code(data.get("otp"))
    if username is None or password is None or code is None:
        return None
    return Credentials(username, password, code)
