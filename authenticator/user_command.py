"""``carme user ...``: look after people's devices, also on the day nobody can log in.

It works on the gate's database, whether the hub runs or not.
"""

import argparse
import contextlib
import json
import os
import pwd
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from traitlets import TraitError

from carme_hub.authenticator import credentials, people
from carme_hub.authenticator.audit import Entry, Event
from carme_hub.authenticator.database import StoreError
from carme_hub.authenticator.people import moment, printable
from carme_hub.authenticator.secretbox import SecretKeyError
from carme_hub.authenticator.store import Account

MAX_ENTRIES = 100_000  # of the audit log, in one answer
MAX_ACTOR = 32  # characters
LOGINS_SHOWN = 10
UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class CommandError(Exception):
    """The command cannot do what was asked; the sentence says why."""


def register(subparsers: Any) -> None:
    """
    Add ``user`` to the ``carme`` command.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    user = subparsers.add_parser("user", help="people's devices: list, enrol, reset, unlock, audit")
    actions = user.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, run: Any, text: str, *, with_name: bool = True) -> Any:
        parser = actions.add_parser(name, help=text, description=text)
        if with_name:
            parser.add_argument("name", metavar="NAME", help="login name")
        parser.add_argument("--json", action="store_true", help="for programs")
        parser.set_defaults(run=run)
        return parser

    add("list", _list, "Show who has a device, and how it stands with them.", with_name=False)
    add("show", _show, "Show all about one person: devices, recovery codes, logins.")
    token = add("enrol-token", _enrol_token, "Make a token that lets a person set up a device, once.")
    token.add_argument(
        "--hours",
        type=_hours,
        default=people.TOKEN_HOURS,
        metavar="HOURS",
        help="how long it is valid (default: %(default)g)",
    )
    reset = add(
        "reset",
        _reset,
        "Remove a person's devices and recovery codes, for example after a loss or a theft, "
        "and end their logins and API tokens.",
    )
    reset.add_argument("--yes", action="store_true", help="do not ask")
    add("unlock", _unlock, "Forget a person's wrong passwords and codes, so that they need not wait.")
    log = add("audit", _audit, "Show what happened at the gate, newest last.", with_name=False)
    log.add_argument("name", metavar="NAME", nargs="?", help="of this person only")
    log.add_argument(
        "--since",
        type=_since,
        default=0.0,
        metavar="WHEN",
        help="2h, 3d, or a date such as 2026-11-30 or 2026-11-30T08:00",
    )
    log.add_argument(
        "--limit", type=_limit, default=50, metavar="N", help="the newest so many (default: %(default)s)"
    )


def run(arguments: argparse.Namespace, config: Any) -> int:
    """
    Carry out a command that `register` knows.

    Parameters
    ----------
    arguments
        As parsed.
    config
        traitlets Config of ``jupyterhub_config.py``.

    Returns
    -------
    int
        Exit code; on 1 a sentence is on standard error.
    """

    def work() -> None:
        with open_gate(config) as gate:
            arguments.run(arguments, gate)

    return exit_code(work, "The database of devices failed ({fault}).")


def exit_code(work: Callable[[], None], database_failed: str) -> int:
    """
    Do the work of a command of the gate; where it cannot be done, say why on standard error.

    Parameters
    ----------
    work
        What is to be done.
    database_failed
        Sentence for a database that fails meanwhile, with ``{fault}`` for what it was.

    Returns
    -------
    int
        0, or 1 where something was said.
    """
    try:
        work()
    except (CommandError, SecretKeyError, StoreError, TraitError) as error:
        sys.stderr.write(f"carme: {printable(str(error))}\n")
    except SQLAlchemyError as error:
        # The text of a database error can hold the values it was about.
        sys.stderr.write(f"carme: {database_failed.format(fault=type(error).__name__)}\n")
    else:
        return 0
    return 1


@contextlib.contextmanager
def open_gate(config: Any) -> Iterator[Any]:
    """Make the gate that the hub's configuration describes, for the length of a block."""
    # Imported here: it brings JupyterHub with it, which the other commands need not wait for.
    from carme_hub.authenticator.authenticator import CarmeAuthenticator  # noqa: PLC0415

    with contextlib.closing(CarmeAuthenticator(config=config)) as gate:
        yield gate


# ---- what is on the command line


def _hours(text: str) -> float:
    with contextlib.suppress(ValueError):
        hours = float(text)
        if 0 < hours <= people.MAX_TOKEN_HOURS:
            return hours
    raise argparse.ArgumentTypeError(f"has to be more than 0 and at most {people.MAX_TOKEN_HOURS:g}")


def _limit(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,6}", text) and 1 <= int(text) <= MAX_ENTRIES:
        return int(text)
    raise argparse.ArgumentTypeError(f"has to be a number from 1 to {MAX_ENTRIES}")


def _since(text: str) -> float:
    ago = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
    if ago:
        return time.time() - int(ago[1]) * UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            "has to be how long ago (30m, 2h, 3d, 1w), or a date such as 2026-11-30"
        ) from None


def _name(arguments: argparse.Namespace, gate: Any) -> str:
    name = credentials.canonical_name(arguments.name, gate.valid_username_regex)
    if name is None:
        raise CommandError(f"{arguments.name!r} cannot be a login name here (valid_username_regex).")
    return name


def _known(arguments: argparse.Namespace, gate: Any) -> str:
    name = _name(arguments, gate)
    if not gate.store.knows(name):
        raise CommandError(f"{name} never had a device or a token here. 'carme user list' shows who did.")
    return name


def actor() -> str:
    """Name who runs this, as well as it can be known: whoever may change the database may also lie."""
    name = os.environ.get("SUDO_USER", "")
    if not name:
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = str(os.getuid())
    return f"command:{printable(name)[:MAX_ACTOR]}"


def _record(gate: Any, event: str, name: str, detail: str = "") -> None:
    gate.store.audit.write(Event(event, account=name, actor=actor(), detail=detail))


# ---- what the actions do


def _list(arguments: argparse.Namespace, gate: Any) -> None:
    accounts = gate.store.accounts()
    if arguments.json:
        _print_json([people.account_model(account) for account in accounts])
    elif accounts:
        rows = [
            (
                account.username,
                str(len(account.devices)),
                str(account.recovery_left),
                people.state_line(account),
            )
            for account in accounts
        ]
        sys.stdout.write(people.table(("NAME", "DEVICES", "CODES LEFT", "STATE"), rows))
    else:
        sys.stdout.write("Nobody has a device yet. 'carme user enrol-token NAME' lets a person set one up.\n")


def _show(arguments: argparse.Namespace, gate: Any) -> None:
    name = _known(arguments, gate)
    account = gate.store.account(name)
    logins = gate.store.audit.logins(name, LOGINS_SHOWN)
    if arguments.json:
        models = [people.entry_model(entry) for entry in logins]
        _print_json({**people.account_model(account), "last_logins": models})
        return
    facts = [
        ("state", people.state_line(account)),
        ("first device", moment(account.enrolled)),
        ("recovery codes", f"{account.recovery_left} left"),
        ("wrong codes", f"{account.code_failures} in a row"),
    ]
    lines = [account.username, *(f"  {title:<16}{text}" for title, text in facts)]
    for device in account.devices:
        used = f"last used {moment(device.last_used)}" if device.last_used else "never used"
        title = f"{printable(device.name)} ({device.kind})"
        lines.append(f"  {'device':<16}{title}, since {moment(device.confirmed)}, {used}")
    sys.stdout.write("\n".join([*lines, "", "Last logins:" if logins else "No logins yet.", ""]))
    if logins:
        _print_entries(logins)


def _enrol_token(arguments: argparse.Namespace, gate: Any) -> None:
    name = _name(arguments, gate)
    token = gate.store.enrolments.new_token(name, arguments.hours)
    _record(gate, "enrol-token", name, f"valid for {arguments.hours:g} hours")
    base = str(gate.config.get("JupyterHub", {}).get("base_url", "/")).strip("/")
    page = f"{'/' + base if base else ''}/hub/enrol"
    if arguments.json:
        expires = people.iso(gate.store.account(name).open_enrolment)
        _print_json({"username": name, "token": token, "expires": expires, "path": page})
        return
    sys.stdout.write(
        f"Token for {name}, valid for {arguments.hours:g} hours, for one use:\n\n    {token}\n\n"
        f"Hand it over in person or by another safe way; it is shown only now. {name} opens {page} and needs "
        "the password too.\n"
    )


def _reset(arguments: argparse.Namespace, gate: Any) -> None:
    name = _known(arguments, gate)
    if not arguments.yes and sys.stdin.isatty():
        _confirm(name, gate.store.account(name))
    count = gate.store.reset(name)
    _record(gate, "reset", name, people.devices(count))
    if arguments.json:
        _print_json(
            {"username": name, "devices_removed": count, "logins_end_within_seconds": gate.auth_refresh_age}
        )
        return
    sys.stdout.write(
        f"{name} has no device any more ({people.devices(count)} removed) and cannot log in; "
        f"'carme user enrol-token {name}' lets them set up a new one.\n"
        f"Logins in browsers and API tokens end when the hub next looks at them, {gate.auth_refresh_age} s "
        "from now at the latest (auth_refresh_age).\n"
        "Sessions that run go on: end them on the hub's admin page.\n"
    )


def _confirm(name: str, account: Account) -> None:
    sys.stderr.write(
        f"This removes {people.devices(len(account.devices))} and {account.recovery_left} recovery codes of "
        f"{name}, and ends their logins.\nType the name to confirm: "
    )
    sys.stderr.flush()
    if sys.stdin.readline().strip() != name:
        raise CommandError("That is not the name; nothing was changed.")


def _unlock(arguments: argparse.Namespace, gate: Any) -> None:
    name = _name(arguments, gate)
    changed = gate.store.unlock(name)
    if changed:
        _record(gate, "unlock", name)
    if arguments.json:
        _print_json({"username": name, "unlocked": changed})
    elif changed:
        sys.stdout.write(f"{name} can log in again without waiting.\n")
    else:
        sys.stdout.write(f"Nothing was counted against {name}; nothing was changed.\n")


def _audit(arguments: argparse.Namespace, gate: Any) -> None:
    name = None if arguments.name is None else _name(arguments, gate)
    entries = gate.store.audit.entries(name, arguments.limit, arguments.since)
    if arguments.json:
        # Lines, not a list: they are those of the log's file, so what reads one reads the other.
        for entry in reversed(entries):
            sys.stdout.write(json.dumps(people.entry_model(entry)) + "\n")
    elif entries:
        _print_entries(entries)
    else:
        sys.stdout.write("Nothing is in the audit log about that.\n")


# ---- how it is shown


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _print_entries(entries: list[Entry]) -> None:
    """Print entries, which come newest first, as logs do: the newest at the end, where the eye is."""
    head = ("TIME", "ACCOUNT", "EVENT", "OUTCOME", "ADDRESS", "DETAIL")
    sys.stdout.write(people.table(head, [people.entry_row(entry) for entry in reversed(entries)]))
