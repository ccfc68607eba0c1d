"""``carme new-key`` and ``carme rotate-key``: the key of the secrets in the database."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from carme_hub.authenticator import keyfile, rotation
from carme_hub.authenticator.audit import Event
from carme_hub.authenticator.secretbox import KEY_VARIABLE, new_key_file
from carme_hub.authenticator.user_command import CommandError, actor, exit_code, open_gate

SETTLE_SECONDS = 60  # the hub seals a secret and writes it down a moment later, never this much later


def register(subparsers: Any) -> None:
    """
    Add ``new-key`` and ``rotate-key`` to the ``carme`` command.

    Parameters
    ----------
    subparsers
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    key = subparsers.add_parser("new-key", help="make a key file for the secrets in the database")
    key.add_argument("file", type=Path)
    key.set_defaults(run=_new_key)
    rotate = subparsers.add_parser(
        "rotate-key",
        help="change the key of the secrets in the database, also while the hub runs",
        description="Put a fresh key in front of those in CarmeAuthenticator.secret_key_file and seal all "
        "secrets with it. The old key stays behind it for copies of the database; --drop-old removes it.",
    )
    rotate.add_argument(
        "--drop-old",
        action="store_true",
        help="make no key, but remove those that no secret needs any more",
    )
    rotate.set_defaults(run=_rotate_key)


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
    return exit_code(
        lambda: arguments.run(arguments, config),
        "The database failed half-way ({fault}). Nothing is lost, all secrets open with the keys in the "
        "file. Run the same command again when it works.",
    )


def _new_key(arguments: argparse.Namespace, _config: Any) -> None:
    new_key_file(arguments.file)
    sys.stdout.write(
        f"A new key is in {arguments.file}, readable by its owner only. Name it in "
        "CarmeAuthenticator.secret_key_file, and keep a copy apart from the database's.\n"
    )


def _rotate_key(arguments: argparse.Namespace, config: Any) -> None:
    if os.environ.get(KEY_VARIABLE):
        raise CommandError(
            f"The key comes from the environment variable {KEY_VARIABLE}, which this command cannot change. "
            "Write its value to a file that only the hub's account can read, name that in "
            f"CarmeAuthenticator.secret_key_file, restart the hub without {KEY_VARIABLE}, and try again."
        )
    with open_gate(config) as gate, keyfile.locked(gate.secret_key_file) as file:
        # The database is opened first: where it cannot be, the key file stays as it is.
        done = (_drop_old if arguments.drop_old else _rotate)(gate.store, file)
        gate.store.audit.write(Event("key-rotated", actor=actor(), detail=done))


def _rotate(store: Any, file: Path) -> str:
    keyfile.add_key(file)
    count = rotation.reseal(store.engine, store.box)
    sys.stdout.write(
        f"A fresh key is in front in {file}, and {count} secrets are sealed with it. A hub that runs takes "
        "it by itself. Keep a copy of the file apart from the database's; when no copy of the database needs "
        "the old key any more, remove it with 'carme rotate-key --drop-old'.\n"
    )
    if left := rotation.not_newest(store.engine, store.box):
        sys.stdout.write(_unreadable(left) + "\n")
    return f"{count} secrets"


def _drop_old(store: Any, file: Path) -> str:
    age = time.time() - file.stat().st_mtime
    if age < SETTLE_SECONDS:
        raise CommandError(
            f"The key file changed {max(age, 0):.0f} seconds ago, and the hub may still be writing with the "
            f"key before. Try again in {SETTLE_SECONDS} seconds."
        )
    rotation.reseal(store.engine, store.box)
    if left := rotation.not_newest(store.engine, store.box):
        raise CommandError(f"No key is removed. {_unreadable(left)}")
    count = keyfile.drop_old_keys(file)
    if not count:
        raise CommandError(f"There is one key in {file}, and it is in use.")
    sys.stdout.write(
        f"{count} old keys are gone from {file}. What they sealed, in copies of the database for example, "
        "does not open any more without a copy of the file from before.\n"
    )
    return f"{count} old keys removed"


def _unreadable(usernames: list[str]) -> str:
    return (
        f"There are secrets that no key here opens, of {', '.join(usernames)}: put the key that sealed them "
        "below the others in the file, or end them with 'carme user reset NAME'."
    )
