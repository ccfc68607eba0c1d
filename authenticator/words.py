"""What the gate knows, in words for the person it is about. No I/O."""

from dataclasses import dataclass
from datetime import UTC, datetime

from carme_hub.authenticator.audit import REFUSED, SUCCESS, Entry

MAX_DEVICE_NAME = 64  # characters
DEFAULT_DEVICE_NAME = "Authenticator app"

KINDS = {"totp": "Authenticator app", "passkey": "Passkey"}

_DONE = {
    "login": "Signed in",
    "token": "API token made",
    "token-made": "API token made by somebody who was signed in",
    "prove": "Password and code given again",
    "enrol-token": "Enrolment token made",
    "enrol": "Device set up",
    "device-added": "Device added",
    "device-removed": "Device removed",
    "recovery-used": "Recovery code used",
    "recovery-new": "New recovery codes made",
    "reset": "Devices and recovery codes removed",
    "deleted": "Removed from the hub, with all devices and codes",
    "unlock": "Account unlocked",
    "password-changed": "Password changed",
    "session-stopped": "Session stopped",
    "message-sent": "Message sent",
    "announcement-added": "Announcement made",
    "announcement-changed": "Announcement changed",
    "announcement-removed": "Announcement removed",
    "maintenance-on": "Maintenance switched on",
    "maintenance-off": "Maintenance switched off",
    "site-check": "Site checked",
}
_TRIED = {
    "login": "Sign-in",
    "token": "API token",
    "prove": "Change of this account",
    "enrol": "Enrolment",
    "password-changed": "Change of the password",
}
_WHY = {
    "malformed": "something was missing",
    "password": "wrong password",
    "code": "wrong or used code",
    "wait": "had to wait after wrong tries",
    "locked": "locked after too many wrong codes",
    "address": "too many tries from that address",
    "not-allowed": "not allowed here",
    "token": "no valid enrolment token",
    "reset": "reset in the same moment",
    "directory": "the user directory did not answer",
    "store": "the database of devices did not answer",
}


@dataclass(frozen=True)
class Moment:
    """A time in UTC: as machines read it (RFC 3339), and as people do."""

    machine: str
    text: str


@dataclass(frozen=True)
class Activity:
    """A line of the list of what happened to an account; of a success, `outcome` is empty."""

    when: Moment
    what: str
    outcome: str
    detail: str
    address: str


@dataclass(frozen=True)
class Notice:
    """Something a person is told after a login."""

    when: Moment
    what: str
    where: str


def device_name(typed: str) -> str:
    """
    Return the name of a device as it is kept and shown: one line, without anything invisible.

    Control characters go, and with them those that turn the direction of the text around it.
    """
    spaced = "".join(letter if letter.isprintable() else " " for letter in typed)
    return " ".join(spaced.split())[:MAX_DEVICE_NAME].strip() or DEFAULT_DEVICE_NAME


def moment(seconds: float) -> Moment:
    """Say a time (seconds since 1970)."""
    when = datetime.fromtimestamp(seconds, UTC)
    return Moment(when.strftime("%Y-%m-%dT%H:%M:%SZ"), f"{when.day} {when:%b %Y, %H:%M} UTC")


def activity(entry: Entry) -> Activity:
    """Say what happened to an account, to its owner."""
    what, outcome = _DONE.get(entry.event, entry.event), ""
    if entry.outcome != SUCCESS:
        what = _TRIED.get(entry.event, what)
        why = _WHY.get(entry.reason, entry.reason)
        outcome = f"{'refused' if entry.outcome == REFUSED else 'failed'}: {why}".removesuffix(": ")
    return Activity(moment(entry.time), what, outcome, _detail(entry), entry.address)


def notice(entry: Entry) -> Notice:
    """Say what was changed, to the owner of the account."""
    who = f"An administrator ({entry.actor})" if _by_somebody_else(entry) else "An administrator"
    name = f"“{entry.detail}”"
    what = {
        "enrol": f"The device {name} was set up. Devices and recovery codes from before it no longer work.",
        "device-added": f"The device {name} was added.",
        "device-removed": f"The device {name} was removed.",
        "recovery-used": f"A recovery code was used; {entry.detail}.",
        "recovery-new": "New recovery codes were made. Those from before no longer work.",
        "reset": f"{who} removed your devices and recovery codes.",
        "unlock": f"{who} unlocked your account after too many wrong tries.",
        "password-changed": "Your password was changed.",
    }.get(entry.event, _DONE.get(entry.event, entry.event))
    # Where an administrator sits is nobody else's business.
    where = "" if _by_somebody_else(entry) else entry.address
    return Notice(moment(entry.time), what, where)


def _by_somebody_else(entry: Entry) -> bool:
    return bool(entry.actor) and entry.actor != entry.account


def _detail(entry: Entry) -> str:
    if _by_somebody_else(entry):
        return f"by {entry.actor}"
    # The gate writes down which kind of code it was, and which device's: "totp: Phone".
    kind, colon, device = entry.detail.partition(": ")
    if colon and kind == "totp":
        return f"with a code of “{device}”"
    if colon and kind == "passkey":
        return f"with the passkey “{device}”"
    if colon and kind == "recovery":
        return f"with a recovery code; {device}"
    return entry.detail
