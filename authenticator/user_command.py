"""``carme user ...`` and ``carme new-key``: the gate's commands, which also work when the hub is down."""

import argparse
import json
import sys
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from carme_hub.authenticator import credentials
from carme_hub.authenticator.secretbox import SecretKeyError, new_key_file
from carme_hub.authenticator.store import Device, Store
from carme_hub.authenticator.tables import StoreError

DEFAULT_HOURS = 72.0
MAX_HOURS = 24.0 * 31


class CommandError(Exception):
    """The command cannot do what was asked; the sentence says why."""


def register(subparsers: Any) -> None:
    """
    Add ``user`` and ``new-key`` to the ``carme`` command.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    user = subparsers.add_parser("user", help="devices of people: list, enrol, reset")
    actions = user.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="show who has a device")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(run=_list)
    token = actions.add_parser("enrol-token", help="make a token that lets a person set up a device, once")
    token.add_argument("name", help="login name")
    token.add_argument(
        "--hours", type=float, default=DEFAULT_HOURS, help="how long it is valid (default: %(default)g)"
    )
    token.set_defaults(run=_enrol_token)
    reset = actions.add_parser("reset", help="remove a person's devices, for example after a loss")
    reset.add_argument("name", help="login name")
    reset.set_defaults(run=_reset)
    key = subparsers.add_parser("new-key", help="make a key file for the secrets in the database")
    key.add_argument("file", type=Path)
    key.set_defaults(run=_new_key)


def run(arguments: argparse.Namespace, config: Any) -> int:
    """
    Carry out a command that `register` knows.

    Parameters
    ----------
    arguments
        As parsed.
    config
        traitlets Config of ``jupyterhub_config.py``; not read by ``new-key``.

    Returns
    -------
    int
        Exit code; on 1 a sentence is on standard error.
    """
    try:
        arguments.run(arguments, config)
    except (CommandError, SecretKeyError, StoreError) as error:
        sys.stderr.write(f"carme: {error}\n")
        return 1
    return 0


def open_store(config: Any) -> Store:
    """
    Open the database that the hub's configuration names.

    Raises
    ------
    SecretKeyError, StoreError
        Key or database cannot be used.
    """
    store: Store = _gate(config).store
    return store


def _gate(config: Any) -> Any:
    # Imported here: it brings JupyterHub with it, which the other commands need not wait for.
    from carme_hub.authenticator.authenticator import CarmeAuthenticator  # noqa: PLC0415

    return CarmeAuthenticator(config=config)


def _name(arguments: argparse.Namespace, gate: Any) -> str:
    name = credentials.canonical_name(arguments.name, gate.valid_username_regex)
    if name is None:
        raise CommandError(f"{arguments.name!r} cannot be a login name here (valid_username_regex).")
    return name


def _list(arguments: argparse.Namespace, config: Any) -> None:
    people: defaultdict[str, list[Device]] = defaultdict(list)
    for device in open_store(config).devices():
        people[device.username].append(device)
    if arguments.json:
        shown = [
            {"username": name, "devices": [asdict(device) for device in devices]}
            for name, devices in people.items()
        ]
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
        return
    for name, devices in people.items():
        for device in devices:
            day = time.strftime("%Y-%m-%d %H:%M", time.localtime(device.confirmed))
            sys.stdout.write(f"{name:<24} {device.kind:<6} {device.name:<24} since {day}\n")
    if not people:
        sys.stdout.write("Nobody has a device yet. 'carme user enrol-token NAME' lets a person set one up.\n")


def _enrol_token(arguments: argparse.Namespace, config: Any) -> None:
    if not 0 < arguments.hours <= MAX_HOURS:
        raise CommandError(f"--hours has to be more than 0 and at most {MAX_HOURS:g}.")
    gate = _gate(config)
    name = _name(arguments, gate)
    token = gate.store.new_enrolment(name, arguments.hours)
    base = str(config.get("JupyterHub", {}).get("base_url", "/")).strip("/")
    page = f"{'/' + base if base else ''}/hub/enrol"
    sys.stdout.write(
        f"Token for {name}, valid for {arguments.hours:g} hours, for one use:\n\n    {token}\n\n"
        f"Hand it over in person or by another safe way. {name} opens {page} and needs the password too.\n"
    )


def _reset(arguments: argparse.Namespace, config: Any) -> None:
    gate = _gate(config)
    name = _name(arguments, gate)
    count = gate.store.reset(name)
    if not count:
        raise CommandError(f"{name} has no device.")
    sys.stdout.write(
        f"{name} has no device any more and cannot log in; 'carme user enrol-token {name}' lets them set up "
        "a new one.\nSessions and API tokens that exist go on: end them on the hub's admin page.\n"
    )


def _new_key(arguments: argparse.Namespace, _config: Any) -> None:
    new_key_file(arguments.file)
    sys.stdout.write(
        f"A new key is in {arguments.file}, readable by its owner only. Name it in "
        "CarmeAuthenticator.secret_key_file, and keep a copy apart from the database's.\n"
    )
