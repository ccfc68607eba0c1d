"""Recovery codes: for the day the phone is gone. No I/O.

NIST SP 800-63B-4, section 3.1.2: look-up secrets, each used once, kept salted and hashed.
"""

import hashlib
import re
import secrets

CODES = 10
# Digits, so that the keyboard with which phones offer to type a one-time code is enough for these as well.
CODE_DIGITS = 20  # 66 bit
GROUP = 5
SALT_BYTES = 16

_SHAPE = re.compile(r"[0-9]{20}")
# About 20 ms and 16 MiB each. The codes are random, so this only has to make a stolen database a dead end.
_COST = {"n": 2**14, "r": 8, "p": 1}


def new_codes() -> list[str]:
    """Make ten fresh codes of 66 bit, as people read them: ``12345-67890-12345-67890``."""
    texts = (f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}" for _ in range(CODES))
    return ["-".join(text[start : start + GROUP] for start in range(0, CODE_DIGITS, GROUP)) for text in texts]


def normal(typed: str) -> str | None:
    """Return the one form of a code, with spaces and dashes or without; None for what is no such code."""
    if not typed.isascii():
        return None
    text = re.sub(r"[ -]", "", typed)
    return text if _SHAPE.fullmatch(text) else None


def new_salt() -> str:
    """Make a salt for the codes of one set, in hexadecimal."""
    return secrets.token_hex(SALT_BYTES)


def hash_code(code: str, salt: str) -> str:
    """Hash a code in its one form (scrypt, RFC 7914), in hexadecimal."""
    return hashlib.scrypt(code.encode(), salt=bytes.fromhex(salt), dklen=32, **_COST).hex()
