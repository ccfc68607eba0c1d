"""The people of the demo site: who they are is in etc/demo/people.toml, their secrets are random."""

from __future__ import annotations

import json
import secrets
import tomllib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyotp

from carme_hub.demo.layout import write_json

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Account:
    """One person of the demo site.

    Attributes
    ----------
    username, name : str
        Login name, and the name people call them by.
    uid : int
        POSIX user and group id.
    groups : list of str
        LDAP groups.
    account : str
        Slurm account that their jobs are charged to.
    password, totp_secret : str
        What they log in with; the secret is base32.
    """

    username: str
    name: str
    uid: int
    groups: list[str]
    account: str
    password: str
    totp_secret: str


def load(people: Path, secrets_file: Path) -> list[Account]:
    """Return the site's people; secrets that do not exist yet are made and kept in `secrets_file` (0600)."""
    known = {}
    if secrets_file.exists():
        known = {account["username"]: account for account in json.loads(secrets_file.read_text())}
    accounts = []
    for username, person in tomllib.loads(people.read_text())["people"].items():
        old = known.get(username, {})
        accounts.append(
            Account(
                username=username,
                password=old.get("password") or secrets.token_urlsafe(9),
                totp_secret=old.get("totp_secret") or pyotp.random_base32(32),
                **person,
            )
        )
    write_json(secrets_file, [asdict(account) for account in accounts])
    return accounts


def groups(people: Path) -> dict[str, int]:
    """Return the site's LDAP groups with their POSIX numbers."""
    numbers: dict[str, int] = tomllib.loads(people.read_text())["groups"]
    return numbers
