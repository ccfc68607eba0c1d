"""Slurm, as the hub's machine sees it: the controller, accounting, the partitions that profiles name."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import TYPE_CHECKING

from carme_hub.checks.profiles import look as look_at_profiles
from carme_hub.checks.values import Check, Probe, counted, failed, ok, skipped, warning
from carme_hub.spawner import answers
from carme_hub.spawner.cluster import gres_of
from carme_hub.spawner.slurm import SlurmUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carme_hub.spawner.catalog import Profile
    from carme_hub.spawner.cluster import Cluster, Partition
    from carme_hub.spawner.slurm import Slurm

PART = "Slurm"
TIME_OUT = 25.0  # seconds; a command has its own, `CarmeSpawner.slurm_time_out`, 20 by default
SLOW = 2.0  # seconds for one question to the controller
CLOCK = 5  # seconds by which clocks may differ; munge takes up to 300, people's codes about 30
CLOCK_FAILED = 60
OLDEST, NEWEST = (22, 5), (26, 5)  # releases that its answers were recorded from

_VALUE = r"^{name}\s*=\s*(.*?)\s*$"
_RELEASE = re.compile(r"([0-9]{2})\.([0-9]{2})")


def probes(name: str, slurm: Slurm, profiles: Sequence[Profile], *, several: bool) -> list[Probe]:
    """Return what to look at of one cluster.

    Parameters
    ----------
    name
        What the site calls the cluster.
    slurm
        How it is reached.
    profiles
        Those that run there.
    several
        Whether the site has other clusters, so that the name has to be told.
    """
    of = f" of {name}" if several else ""
    return [
        Probe(PART, f"Controller{of}", TIME_OUT, partial(_controller, f"Controller{of}", slurm, of)),
        Probe(PART, f"Accounting{of}", TIME_OUT, partial(_accounting, f"Accounting{of}", slurm)),
        Probe(PART, f"Partitions{of}", TIME_OUT, partial(_partitions, slurm, profiles, of)),
        Probe(PART, f"Profiles{of}", TIME_OUT, partial(look_at_profiles, slurm, profiles, of)),
    ]


def value_of(config: str, name: str) -> str:
    """Return a value of ``scontrol show config``; empty where it is not there."""
    found = re.search(_VALUE.format(name=re.escape(name)), config, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""


def release(version: str) -> tuple[int, int] | None:
    """Read the release of a version such as ``slurm-wlm 22.05.8``; None where there is none."""
    found = _RELEASE.search(version)
    return (int(found[1]), int(found[2])) if found else None


def judge_version(name: str, controller: str, commands: str) -> Check:
    """Judge the versions of the controller and of the commands on the hub's machine."""
    here, there = release(commands), release(controller)
    if here is None or there is None:
        return warning(name, f"What version Slurm has cannot be read ({controller!r}, {commands!r}).")
    if there < OLDEST:
        return failed(
            name, f"Slurm {controller} is older than {_shown(OLDEST)}, the oldest that is supported."
        )
    if here > there:
        return failed(
            name,
            f"The commands on this machine ({commands}) are newer than the controller ({controller}), which "
            "Slurm does not support: install the controller's release here.",
        )
    if there > NEWEST:
        return warning(
            name,
            f"Slurm {controller} is newer than {_shown(NEWEST)}, the newest that carme-hub was tried with.",
        )
    return ok(name, f"Slurm {controller}, commands on this machine {commands}.")


def _shown(number: tuple[int, int]) -> str:
    return f"{number[0]}.{number[1]:02}"


def judge_clock(name: str, whose: str, difference: float) -> Check:
    """Judge by how many seconds, at least, a clock differs from the hub's."""
    text = f"{whose} clock and the hub's differ by {difference:.0f} s"
    if difference >= CLOCK_FAILED:
        return failed(name, f"{text}: one-time codes, time limits and munge depend on them. Set up NTP.")
    if difference > CLOCK:
        return warning(name, f"{text}; look at NTP on both machines.")
    return ok(name, f"{whose} clock is in step with the hub's.")


async def _said(slurm: Slurm, *words: str) -> str:
    done = await slurm.run([f"{slurm.folder}/{words[0]}", *words[1:]], env={"SLURM_TIME_FORMAT": "%s"})
    if done.code:
        raise SlurmUnavailable(f"{words[0]}: {answers.one_line(done.err or done.out)}")
    return done.out


async def _controller(name: str, slurm: Slurm, of: str) -> list[Check]:
    try:
        commands = (await _said(slurm, "sinfo", "--version")).strip()
        asked, began = time.time(), time.monotonic()
        config = await _said(slurm, "scontrol", "show", "config")
    except SlurmUnavailable as error:
        return [
            failed(name, f"{error} Look at slurmctld and munge, and at the network between here and there.")
        ]
    took, answered = time.monotonic() - began, time.time()
    what = f"slurmctld of the cluster {value_of(config, 'ClusterName')!r} answered in {took:.2f} s"
    quick = (
        warning(name, f"{what}: that is slow. `sdiag` tells who asks it so much.")
        if took > SLOW
        else ok(name, f"{what}.")
    )
    found = [quick, judge_version(f"Slurm's version{of}", value_of(config, "SLURM_VERSION"), commands)]
    stamp = re.match(r"Configuration data as of ([0-9]+)", config)
    if stamp is not None:
        there = int(stamp[1])  # cut to whole seconds
        difference = max(asked - 1 - there, there - answered, 0)
        found.append(judge_clock(f"Clock of the controller{of}", "The controller's", difference))
    return found


async def _accounting(name: str, slurm: Slurm) -> list[Check]:
    try:
        kind = value_of(await _said(slurm, "scontrol", "show", "config"), "AccountingStorageType")
        if not kind.endswith("slurmdbd"):
            sentence = (
                "Slurm keeps no accounting here: limits of accounts and QOS are not known, nor is past use."
            )
            return [skipped(name, sentence)]
        began = time.monotonic()
        await _said(slurm, "sacctmgr", "--noheader", "--parsable2", "show", "cluster", "format=Cluster")
    except SlurmUnavailable as error:
        return [failed(name, f"{error} Look at slurmdbd and its database.")]
    took = time.monotonic() - began
    text = f"slurmdbd answered in {took:.2f} s"
    return [warning(name, f"{text}: that is slow.") if took > SLOW else ok(name, f"{text}.")]


async def _partitions(slurm: Slurm, profiles: Sequence[Profile], of: str) -> list[Check]:
    try:
        cluster = await slurm.cluster()
    except SlurmUnavailable as error:
        return [failed(f"Partitions{of}", str(error))]
    return judge_partitions(cluster, profiles, of)


def judge_partitions(cluster: Cluster, profiles: Iterable[Profile], of: str = "") -> list[Check]:
    """Judge each partition that a profile needs: it is there, up, and has nodes with the profile's GPUs."""
    needed: dict[str, list[Profile]] = {}
    default = next((name for name, one in cluster.partitions.items() if one.default), "")
    for profile in profiles:
        needed.setdefault(profile.partition or default, []).append(profile)
    found = []
    for name, users in needed.items():
        title = f"Partition {name}{of}" if name else f"Default partition{of}"
        whose = f"{counted(len(users), 'profile')} ({', '.join(profile.name for profile in users)})"
        partition = cluster.partitions.get(name)
        if partition is None:
            missing = f"there is no partition {name!r}" if name else "no partition is the default"
            found.append(failed(title, f"{missing.capitalize()} with nodes, and {whose} need it."))
        else:
            found.append(_judge_partition(title, cluster, partition, users, whose))
    return found


def _judge_partition(
    title: str, cluster: Cluster, partition: Partition, users: Sequence[Profile], whose: str
) -> Check:
    nodes = cluster.members(partition.name)
    usable = [node for node in nodes if node.usable]
    state = f"{len(usable)} of {counted(len(nodes), 'node')} take jobs"
    if partition.state != "up":
        return failed(
            title, f"It is {partition.state!r}: no session of {whose} starts. `scontrol update` opens it."
        )
    for profile in users:
        types = profile.gpu_types or (("gpu",) if profile.min_gpus_per_node else ())
        for kind in types:
            wanted = kind if kind == "gpu" or kind.startswith("shard") else f"gpu:{kind}"
            if not any(gres_of(node, wanted) for node in nodes):
                return failed(
                    title, f"None of its nodes has the gres {wanted!r} that profile {profile.name} offers."
                )
    if not usable:
        reasons = ", ".join(sorted({node.reason for node in nodes if node.reason})) or "no reason given"
        return failed(title, f"It is up, but {state} ({reasons}).")
    if len(usable) < len(nodes):
        away = [f"{node.name} ({node.reason or node.state})" for node in nodes if not node.usable]
        more = f" and {len(away) - 5} more" if len(away) > 5 else ""  # noqa: PLR2004 - as many as a line holds
        return warning(title, f"It is up; {state}. Not now: {', '.join(away[:5])}{more}.")
    return ok(title, f"It is up; {state}.")
