"""Time-based one-time codes (RFC 6238) and the tokens that admit a person to enrolment. No I/O.

SHA-1, six digits, thirty seconds: what every authenticator app understands.
"""

import hashlib
import hmac
import re
import secrets

import pyotp

STEP_SECONDS = 30
SECRET_BYTES = 20  # 160 bit, the length of the HMAC (RFC 4226, section 4, R6)
LEAST_LENGTH = 26  # characters in base32, 128 bit (the same place)
TOKEN_BYTES = 20  # 160 bit

_CODE = re.compile(r"[0-9]{6}")


def new_secret() -> str:
    """Make a fresh secret of 160 bit, in base32 as authenticator apps take it (32 characters)."""
    return str(pyotp.random_base32(length=SECRET_BYTES * 8 // 5))


def provisioning_uri(secret: str, username: str, issuer: str) -> str:
    """Say what the QR code says: an ``otpauth`` address with secret, account and issuer."""
    return str(pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name=issuer))


def matching_step(secret: str, code: str, now: float, window: int = 1) -> int | None:
    """
    Find the time step a code belongs to.

    Parameters
    ----------
    secret
        Base32 secret.
    code
        What the person typed. Only six ASCII digits count: pyotp normalises other digits, so that the
        fullwidth twin of a used code would pass for a new one.
    now
        Seconds since 1970.
    window
        Steps before and after the present one that are accepted; 0 accepts the present one only.

    Returns
    -------
    int or None
        Number of the step (``now // 30`` for the present one), or None where the code fits none. Whether
        that step was used before is not known here, see `Store.consume_step`.
    """
    if not _CODE.fullmatch(code):
        return None
    generator = pyotp.TOTP(secret)
    present = int(now) // STEP_SECONDS
    found = None
    for step in range(present - window, present + window + 1):
        # Every step is computed, so that the time taken does not tell which one fitted.
        if hmac.compare_digest(generator.generate_otp(step), code):
            found = step
    return found


def new_token() -> str:
    """Make a random token of 160 bit, in URL-safe characters; it is shown once and kept as its hash."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def hash_token(token: str) -> str:
    """
    Hash a token for keeping (hexadecimal).

    Plain SHA-256 is enough: the token is random and long, so there is no dictionary to slow down.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def token_matches(token: str, token_hash: str) -> bool:
    """Compare a token with a kept hash, in a time that does not depend on where they differ."""
    return hmac.compare_digest(hash_token(token), token_hash)


def spaced(secret: str) -> str:
    """Write a secret in groups of four, as people copy it."""
    return " ".join(secret[start : start + 4] for start in range(0, len(secret), 4))
