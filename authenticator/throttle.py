"""Who has to wait how long after failures. No I/O.

NIST SP 800-63B-4, section 3.2.2: at most 100 failures in a row; RFC 4226, section 7.3: growing delays.
"""

from dataclasses import dataclass

FIRST_WAIT = 30  # seconds
LONGEST_WAIT = 3600
DAY = 86400

ALLOWED, WAIT, LOCKED = "allowed", "wait", "locked"


@dataclass(frozen=True)
class Limit:
    """
    How failures of one kind are answered.

    Parameters
    ----------
    scope
        What is counted; counters of two scopes know nothing of each other.
    free
        Failures in a row after which nobody has to wait yet.
    forget
        Seconds without a failure after which earlier ones no longer count; 0: only a success clears them.
    leak
        Seconds after which one failure is forgiven, whatever else happens; 0: none is.
    most
        Failures in a row after which only an admin helps; 0: there is no such number.
    """

    scope: str
    free: int
    forget: int
    most: int
    leak: int = 0


# One account's passwords, as tried from one place: who does not know the password can make nobody wait who
# comes from another address, or with a browser that has been let in before.
PASSWORD = Limit("password", free=2, forget=DAY, most=0)
# One account's codes, from everywhere: they are only counted after a right password.
CODE = Limit("code", free=2, forget=0, most=100)
# One account's passwords, from everywhere but browsers it knows: more than one place can be guessed from.
ACCOUNT = Limit("account", free=100, forget=DAY, most=0)
# One address, whoever is tried from there: a whole class may sit behind it, and somebody always mistypes. So
# no success clears these failures, and time does.
ADDRESS = Limit("address", free=100, forget=0, most=0, leak=9)


@dataclass(frozen=True)
class Count:
    """Failures in a row; until when nothing is taken (seconds since 1970; 0: no wait); when the last was."""

    failures: int = 0
    wait_until: int = 0
    last: int = 0


def wait_after(failures: int, limit: Limit) -> int:
    """Say how long the next try has to wait after so many failures in a row (seconds)."""
    over = failures - limit.free - 1
    if over < 0:
        return 0
    # Bounded before the power is taken.
    return int(min(FIRST_WAIT * 2 ** min(over, 16), LONGEST_WAIT))


def current(count: Count, limit: Limit, now: int) -> Count:
    """Forget failures that are too old to count."""
    idle = now - max(count.last, count.wait_until)
    if limit.forget and idle >= limit.forget:
        return Count()
    if limit.leak:
        left = max(0, count.failures - (now - count.last) // limit.leak)
        return Count(left, count.wait_until, count.last) if left else Count()
    return count


def verdict(count: Count, limit: Limit, now: int) -> str:
    """Say whether one more try is taken now: ALLOWED, WAIT or LOCKED."""
    count = current(count, limit, now)
    if limit.most and count.failures >= limit.most:
        return LOCKED
    return WAIT if count.wait_until > now else ALLOWED


def failed(count: Count, limit: Limit, now: int) -> Count:
    """Count one failure more."""
    count = current(count, limit, now)
    failures = count.failures + 1
    wait = wait_after(failures, limit)
    return Count(failures, now + wait if wait else 0, now)
