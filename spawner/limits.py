"""What one person may have at once, beside what a profile allows and Slurm enforces. Pure.

``CarmeSpawner.limits`` is for everybody, ``CarmeSpawner.group_limits`` for members of groups. For each
number, what a person's groups say replaces what everybody has; of several groups the most generous counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from carme_hub.spawner import units
from carme_hub.spawner.catalog import CatalogError, Entry, check_entry
from carme_hub.spawner.mistakes import entry as entry_name
from carme_hub.spawner.request import RequestError
from carme_hub.spawner.values import Minutes  # noqa: TC001 - pydantic reads them

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carme_hub.spawner.request import JobRequest


class Limits(Entry):
    """How much one person may have at once, over all sessions on all clusters; None is no limit."""

    max_running: int | None = Field(default=None, ge=0, le=1_000_000)
    """Sessions, those included that wait: they may start any moment."""
    max_pending: int | None = Field(default=None, ge=0, le=1_000_000)
    """Sessions that wait for their job to start."""
    max_gpus: int | None = Field(default=None, ge=0, le=1_000_000)
    """GPUs of all sessions together. A slice of a GPU counts as one, a shard not at all."""
    max_nodes: int | None = Field(default=None, ge=0, le=1_000_000)
    """Nodes of all sessions together."""
    max_time: Minutes | None = None
    """Time limit of one session."""


@dataclass(frozen=True)
class LimitRules:
    """The limits of a whole site."""

    everybody: Limits
    groups: Mapping[str, Limits]

    @classmethod
    def load(cls, limits: object, group_limits: object, setting: str = "CarmeSpawner") -> LimitRules:
        """Check ``limits`` and ``group_limits``.

        Raises
        ------
        CatalogError
            With one line for each mistake, starting with the setting.
        """
        errors: list[str] = []
        everybody = check_entry(Limits, limits, f"{setting}.limits", errors)
        groups: dict[str, Limits] = {}
        if isinstance(group_limits, Mapping):
            for name, entry in group_limits.items():
                checked = check_entry(
                    Limits, entry, f"{setting}.group_limits, {entry_name('group', name)}", errors
                )
                if not isinstance(name, str):
                    errors.append(f"{setting}.group_limits: the name of a group is needed, not {name!r}")
                elif checked is not None:
                    groups[name] = checked
        else:
            errors.append(f"{setting}.group_limits: a dictionary of groups and limits is needed")
        if errors or everybody is None:
            raise CatalogError("\n".join(errors))
        return cls(everybody, groups)

    def of(self, groups: Collection[str]) -> Limits:
        """Return the limits of a member of these groups."""
        own = [limits for name, limits in self.groups.items() if name in groups]
        merged = {}
        for name in Limits.model_fields:
            said = [getattr(limits, name) for limits in own if name in limits.model_fields_set]
            if said:
                merged[name] = None if None in said else max(said)
        return self.everybody.model_copy(update=merged)


@dataclass(frozen=True)
class Held:
    """What one session holds, from the moment it was let in until it has ended.

    Attributes
    ----------
    gpus, nodes
        In all, not per node.
    pending
        Whether its job has not started yet.
    """

    profile: str
    gpus: int
    nodes: int
    pending: bool

    @classmethod
    def by(cls, options: Mapping[str, str | int], *, pending: bool) -> Held:
        """Count what a session holds from the options it was started with (`JobRequest.options`)."""
        nodes = int(options.get("nodes", 1))
        shards = str(options.get("gpu_type", "")).partition(":")[0] == "shard"
        gpus = 0 if shards else nodes * int(options.get("gpus", 0))
        return cls(str(options.get("profile", "")), gpus, nodes, pending)


def check(request: JobRequest, held: Sequence[Held], limits: Limits) -> None:
    """Check one more session against what its owner has already.

    Parameters
    ----------
    request
        What is asked for.
    held
        All other sessions of the same person.
    limits
        What this person may have.

    Raises
    ------
    RequestError
        With a sentence that says how many were asked for, how many are in use, and how many are allowed.
    """
    _sessions("", held, limits.max_running, limits.max_pending, "")
    profile = request.profile
    same = [session for session in held if session.profile == profile.name]
    _sessions("profile", same, profile.max_running, profile.max_pending, f" in “{profile.title}”")
    asked = Held.by(request.options(), pending=True)
    _amount("gpus", "GPU", asked.gpus, (session.gpus for session in held), limits.max_gpus)
    _amount("nodes", "node", asked.nodes, (session.nodes for session in held), limits.max_nodes)
    if limits.max_time is not None and request.time > limits.max_time:
        shown = [units.show_minutes(minutes) for minutes in (request.time, limits.max_time)]
        raise RequestError("time", f"{shown[0]} asked, at most {shown[1]} allowed for one of your sessions.")


def _sessions(
    field: str, held: Sequence[Held], most: int | None, most_pending: int | None, where: str
) -> None:
    if most is not None and len(held) >= most:
        sentence = f"1 more session asked, {len(held)} in use, {most} allowed at once{where}."
        raise RequestError(field, sentence + (" Please stop one of them first." if held else ""))
    waiting = sum(session.pending for session in held)
    if most_pending is not None and waiting >= most_pending:
        sentence = f"1 more session asked, {waiting} waiting to start, {most_pending} allowed to wait{where}."
        raise RequestError(field, sentence + (" Please wait until one has started." if waiting else ""))


def _amount(field: str, what: str, asked: int, each: Iterable[int], most: int | None) -> None:
    used = sum(each)
    if most is not None and asked and asked + used > most:
        plural = what if asked == 1 else f"{what}s"
        sentence = (
            f"{asked} {plural} asked in all, {used} in use, {most} allowed at once over all your sessions."
        )
        raise RequestError(field, sentence)
