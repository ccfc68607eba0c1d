"""What Slurm's accounting says of people and of QOS -> typed values. Parsers only.

They read what sacctmgr (`PERSON`, `QOS`) and ``scontrol show config`` print, from Slurm 22.05 on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carme_hub.spawner import units

if TYPE_CHECKING:
    from collections.abc import Mapping

# What is asked of sacctmgr; the answers have these columns in this order (--parsable2).
PERSON = ("DefaultAccount", "Cluster", "Account", "Partition", "QOS", "DefaultQOS", "MaxWall", "MaxTRES")
QOS = ("Name", "Flags", "MaxWall", "MaxTRES", "MaxTRESPU")
# A name that can be asked for: sacctmgr splits at commas and reads words with "=" as conditions.
USERNAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,254}", re.ASCII)


@dataclass(frozen=True)
class Association:
    """A person in an account. ``partition`` is empty for all of them; times in minutes, memory in MiB."""

    account: str
    partition: str = ""
    qos: tuple[str, ...] = ()
    default_qos: str = ""
    max_time: int | None = None
    max_tres: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Membership:
    """All associations of one person in one cluster."""

    default_account: str
    associations: tuple[Association, ...]


@dataclass(frozen=True)
class Quality:
    """A QOS with its limits for one job and for one person."""

    name: str
    flags: frozenset[str] = frozenset()
    max_time: int | None = None
    max_tres: Mapping[str, int] = field(default_factory=dict)
    max_tres_per_person: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Accounting:
    """What accounting enforces in a cluster (AccountingStorageEnforce), and its QOS by name."""

    cluster: str = ""
    enforced: frozenset[str] = frozenset()
    qualities: Mapping[str, Quality] = field(default_factory=dict)


# --- What the commands print ---


def parse_person(text: str, cluster: str) -> Membership | None:
    """Read the associations of one person; None when Slurm knows none in this cluster."""
    found, default = [], ""
    for row in _rows(text, len(PERSON)):
        default_account, where, account, partition, qos, default_qos, wall, tres = row
        if account and where.lower() == cluster.lower():
            default = default_account.lower()
            qualities = tuple(sorted(_names(qos)))
            association = Association(
                account.lower(),
                partition,
                qualities,
                default_qos.lower(),
                units.minutes_or_none(wall),
                parse_tres(tres),
            )
            found.append(association)
    return Membership(default, tuple(found)) if found else None


def parse_qos(text: str) -> dict[str, Quality]:
    """Read all QOS, by name."""
    rows = [row for row in _rows(text, len(QOS)) if row[0]]
    return {
        name.lower(): Quality(
            name.lower(), _names(flags), units.minutes_or_none(wall), parse_tres(tres), parse_tres(per_person)
        )
        for name, flags, wall, tres, per_person in rows
    }


def parse_config(text: str) -> tuple[str, frozenset[str]]:
    """Read the cluster's name and what accounting enforces from ``scontrol show config``."""
    said = dict(re.findall(r"^(ClusterName|AccountingStorageEnforce)\s*=\s*(\S+)", text, re.MULTILINE))
    enforced = _names(said.get("AccountingStorageEnforce", ""))
    # "limits", "qos" and "safe" need associations, and switch them on (man slurm.conf).
    more = {"associations"} if enforced & {"limits", "qos", "safe", "wckeys", "all"} else set()
    more |= {"limits"} if enforced & {"safe", "all"} else set()
    more |= {"qos"} if "all" in enforced else set()
    return said.get("ClusterName", ""), enforced | more


def parse_tres(text: str) -> dict[str, int]:
    """Read ``cpu=8,mem=16G,gres/gpu=2``: numbers by Slurm's names, memory in MiB."""
    found = {}
    for part in text.split(","):
        name, _, amount = part.strip().lower().partition("=")
        if name == "mem" and amount:
            try:
                found[name] = units.mebibytes(amount)
            except ValueError:
                continue
        elif amount.isdecimal():
            found[name] = int(amount)
    return found


def _rows(text: str, columns: int) -> list[list[str]]:
    rows = (line.split("|") for line in text.splitlines())
    return [row for row in rows if len(row) == columns]


def _names(text: str) -> frozenset[str]:
    return frozenset(name.lower() for name in text.split(",") if name)
