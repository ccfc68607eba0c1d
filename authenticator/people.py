"""What the gate knows of people, in words and for programs, on pages and terminals. No I/O."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from carme_hub.authenticator.audit import Entry
from carme_hub.authenticator.store import Account

TOKEN_HOURS = 72.0  # how long an enrolment token is valid unless somebody says otherwise
MAX_TOKEN_HOURS = 24.0 * 31

LOCKED, WAITING, ENROLLING, NO_DEVICE, READY = "locked", "waiting", "enrolment open", "no device", "ready"


@dataclass(frozen=True)
class State:
    """A thing to know about an account at one glance; until when (seconds since 1970), 0 for no end."""

    word: str
    until: int = 0


def states(account: Account) -> list[State]:
    """Say how it stands with an account; there is always something to say."""
    found = []
    if account.locked:
        found.append(State(LOCKED))
    elif account.wait_until:
        found.append(State(WAITING, account.wait_until))
    if account.open_enrolment:
        found.append(State(ENROLLING, account.open_enrolment))
    if not account.devices:
        found.append(State(NO_DEVICE))
    return found or [State(READY)]


def moment(seconds: float) -> str:
    """Write a time as people here read it: this machine's time zone, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else "never"


def devices(count: int) -> str:
    """Write how many devices."""
    return f"{count} device{'' if count == 1 else 's'}"


def state_line(account: Account) -> str:
    """Write all states of an account on one line."""
    return ", ".join(
        f"{state.word} until {moment(state.until)}" if state.until else state.word
        for state in states(account)
    )


def iso(seconds: float) -> str | None:
    """Write a time for programs: ISO 8601 in UTC; None for never."""
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else None


def account_model(account: Account) -> dict[str, object]:
    """Return what programs get to know of an account; times in ISO 8601 or None."""
    return {
        "username": account.username,
        "state": [state.word for state in states(account)],
        "enrolled": iso(account.enrolled),
        "devices": [
            {
                "id": device.id,
                "kind": device.kind,
                "name": device.name,
                "confirmed": iso(device.confirmed),
                "last_used": iso(device.last_used),
            }
            for device in account.devices
        ],
        "recovery_codes_left": account.recovery_left,
        "enrolment_open_until": iso(account.open_enrolment),
        "wrong_codes_in_a_row": account.code_failures,
        "wait_until": iso(account.wait_until),
    }


def entry_model(entry: Entry) -> dict[str, str]:
    """Return an entry of the audit log as it stands in the log's file (`Audit`)."""
    when = datetime.fromtimestamp(entry.time, UTC).isoformat(timespec="milliseconds")
    texts = {name: text for name, text in asdict(entry).items() if name not in {"id", "time"} and text}
    return {"time": when, **texts}


# ---- for terminals


def printable(text: str) -> str:
    """Write control characters out: what somebody typed into a form is no order to a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def entry_row(entry: Entry) -> tuple[str, ...]:
    """Write an entry of the audit log as cells of a table: time, account, event, outcome, address, detail."""
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.time)),
        entry.account or "-",
        entry.event,
        f"{entry.outcome}: {entry.reason}" if entry.reason else entry.outcome,
        entry.address or "-",
        " ".join(filter(None, [f"by {entry.actor}" if entry.actor else "", entry.detail])),
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Set rows below a head, in columns."""
    cells = [head, *([printable(text) for text in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
    return "".join(f"{line}\n" for line in lines)
