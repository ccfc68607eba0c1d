"""Challenges for passkeys: made for whoever asks, and answered once. No I/O.

Anybody can ask for one, so nothing is kept until one was answered: a challenge says itself until when it is
open, under a key that only this process has. A hub that starts anew knows none from before, used or not.
"""

import hashlib
import hmac
import secrets
import threading

OPEN_SECONDS = 300

_KEY_BYTES = 32
_RANDOM_BYTES = 16
_TIME_BYTES = 8


class Challenges:
    """Challenges of this process."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(_KEY_BYTES)
        self._spent: dict[bytes, int] = {}  # until when each would be open
        self._lock = threading.Lock()

    def new(self, now: float) -> bytes:
        """Make a challenge; `now` in seconds since 1970."""
        until = int(now) + OPEN_SECONDS
        body = secrets.token_bytes(_RANDOM_BYTES) + until.to_bytes(_TIME_BYTES)
        return body + self._mark(body)

    def spend(self, challenge: bytes, now: float) -> bool:
        """
        Use up a challenge.

        Only what is about to be let in is spent: as many are remembered as people come in within
        `OPEN_SECONDS`.

        Returns
        -------
        bool
            Whether it was made here, not too long ago, and is still unused: of any number of callers at one
            instant, one is told so.
        """
        body, mark = challenge[: _RANDOM_BYTES + _TIME_BYTES], challenge[_RANDOM_BYTES + _TIME_BYTES :]
        until = int.from_bytes(body[_RANDOM_BYTES:])
        if until <= now or not hmac.compare_digest(self._mark(body), mark):
            return False
        with self._lock:
            self._spent = {spent: end for spent, end in self._spent.items() if end > now}
            if challenge in self._spent:
                return False
            self._spent[challenge] = until
            return True

    def _mark(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)
