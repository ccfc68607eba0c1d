"""What a person may have by Slurm's accounting: accounts, QOS, limits for one job. Pure.

What is not known is not decided: without accounting, or where Slurm does not enforce it, Slurm has the last
word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from carme_hub.spawner import units
from carme_hub.spawner.accounting import Membership, Quality
from carme_hub.spawner.request import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carme_hub.spawner.accounting import Accounting, Association
    from carme_hub.spawner.cluster import Partition
    from carme_hub.spawner.request import JobRequest


def accounts_of(membership: Membership, partition: Partition | None) -> tuple[str, ...]:
    """Return the accounts a person may use in a partition, the person's default first."""
    usable = {
        association.account
        for association in membership.associations
        if _in_partition(association, partition) and (_takes_account(partition, association.account))
    }
    return tuple(sorted(usable, key=lambda account: (account != membership.default_account, account)))


def qos_of(membership: Membership, partition: Partition | None, accounts: Iterable[str]) -> tuple[str, ...]:
    """Return the QOS a person may use in a partition with one of these accounts."""
    wanted = set(accounts)
    usable = {
        qos
        for association in membership.associations
        if association.account in wanted and _in_partition(association, partition)
        for qos in association.qos
        if _takes_qos(partition, qos)
    }
    return tuple(sorted(usable))


def _takes_account(partition: Partition | None, account: str) -> bool:
    return partition is None or partition.rules is None or partition.rules.account(account)


def _takes_qos(partition: Partition | None, qos: str) -> bool:
    return partition is None or partition.rules is None or partition.rules.qos(qos)


def _in_partition(association: Association, partition: Partition | None) -> bool:
    return not association.partition or partition is None or association.partition == partition.name


def association_of(membership: Membership, account: str, partition: str | None) -> Association | None:
    """Return the association that counts for a job: that of its partition before that of all partitions."""
    own = [
        association
        for association in membership.associations
        if association.account == account
        and (not association.partition or partition is None or association.partition == partition)
    ]
    return next((one for one in own if one.partition and partition), own[0] if own else None)


class TimeBound(NamedTuple):
    """How long one job may last, and what says so ("the QOS normal")."""

    minutes: int
    source: str


def sources_of(
    own: Quality | None, qos: Quality | None, association: Association | None
) -> list[Quality | Association]:
    """Return what limits one job, in Slurm's order: of several limits the first counts that is set.

    That is: the partition's QOS, the job's QOS, the association (https://slurm.schedmd.com/resource_limits.html);
    a job's QOS with the flag OverPartQOS comes before the partition's.

    Parameters
    ----------
    own, qos, association
        The partition's QOS, the job's QOS, and its owner in its account; None when there is none, or it is
        not known.
    """
    order = [qos, own] if qos and "overpartqos" in qos.flags else [own, qos]
    return [source for source in (*order, association) if source is not None]


def longest(own: Quality | None, qos: Quality | None, association: Association | None) -> TimeBound | None:
    """Return how long one job may last by accounting, for starts and extensions alike; None for no limit.

    The parameters are those of `sources_of`.
    """
    bounds = (
        TimeBound(source.max_time, _called(source))
        for source in sources_of(own, qos, association)
        if source.max_time is not None
    )
    return next(bounds, None)


def check(
    request: JobRequest,
    partition: Partition | None,
    accounting: Accounting | None,
    membership: Membership | None,
) -> None:
    """Refuse what Slurm would refuse, or leave waiting for ever, because of who asks.

    Parameters
    ----------
    request
        What is asked for.
    partition, accounting, membership
        What Slurm says of the partition, the cluster and the person; None when it is not known.

    Raises
    ------
    RequestError
        With a sentence that names what was asked and what Slurm allows.
    """
    if accounting is None or membership is None or "associations" not in accounting.enforced:
        return
    account = (request.account or membership.default_account).lower()
    usable = accounts_of(membership, partition)
    association = association_of(membership, account, partition.name if partition else None)
    if association is None or account not in usable:
        raise RequestError("account", _no_account(account, usable, membership, partition))
    qos = _qos(request, association, accounting, partition)
    if "limits" in accounting.enforced:
        _check_limits(request, association, accounting, partition, qos)


def _no_account(
    account: str, usable: tuple[str, ...], membership: Membership, partition: Partition | None
) -> str:
    where = f" in the partition {partition.name}" if partition else ""
    own = {association.account for association in membership.associations}
    have = (
        f"you can use {' or '.join(usable)}"
        if usable
        else f"none of yours ({', '.join(sorted(own))}) may be used"
    )
    if not account:
        return f"Slurm knows no default account of yours; {have}{where}."
    return f"{account!r} asked, but in Slurm {have}{where}."


def _qos(
    request: JobRequest, association: Association, accounting: Accounting, partition: Partition | None
) -> Quality | None:
    """Return the QOS that counts; None when Slurm's choice is not known."""
    if "qos" not in accounting.enforced:
        return None
    usable = qos_of(Membership(association.account, (association,)), partition, [association.account])
    if request.qos is None:
        name = association.default_qos or (usable[0] if len(usable) == 1 else "")
        return accounting.qualities.get(name)
    if request.qos.lower() not in usable:
        where = f" with the account {association.account}" + (
            f" in the partition {partition.name}" if partition else ""
        )
        have = f"you can use {' or '.join(usable)}" if usable else "there is none for you"
        raise RequestError("qos", f"{request.qos!r} asked, but in Slurm {have}{where}.")
    return accounting.qualities.get(request.qos.lower())


def _check_limits(
    request: JobRequest,
    association: Association,
    accounting: Accounting,
    partition: Partition | None,
    qos: Quality | None,
) -> None:
    """Check what one job may have."""
    own = accounting.qualities.get(partition.rules.own_qos) if partition and partition.rules else None
    sources = sources_of(own, qos, association)
    qualities = [source for source in sources if isinstance(source, Quality)]
    limit = longest(own, qos, association)
    if limit is not None and request.time > limit.minutes:
        shown = [units.show_minutes(minutes) for minutes in (request.time, limit.minutes)]
        raise RequestError(
            "time", f"{shown[0]} asked, at most {shown[1]} allowed by Slurm for {limit.source}."
        )
    for name, asked in tres_of(request).items():
        per_person = [(quality, quality.max_tres_per_person) for quality in qualities]
        per_job = [(source, source.max_tres) for source in sources]
        for limits in (per_job, per_person):
            source, most = next(
                ((source, all_[name]) for source, all_ in limits if name in all_), (None, asked)
            )
            if source is not None and asked > most:
                field_name, what = _WORDS.get(name.partition(":")[0], ("gpus", name))
                sentence = (
                    f"{asked} {what} asked in all, at most {most} allowed by Slurm for {_called(source)}."
                )
                raise RequestError(field_name, sentence)


_WORDS = {
    "cpu": ("cpus", "cores"),
    "mem": ("memory", "MiB"),
    "node": ("nodes", "nodes"),
    "gres/gpu": ("gpus", "GPUs"),
    "gres/shard": ("gpus", "shards"),
}


def _called(source: Quality | Association) -> str:
    return f"the QOS {source.name}" if isinstance(source, Quality) else f"the account {source.account}"


def tres_of(request: JobRequest) -> dict[str, int]:
    """Return what a request asks for in all, by Slurm's names."""
    asked = {"node": request.nodes, "cpu": request.cpus * request.nodes}
    if request.memory is not None:
        asked["mem"] = request.memory * request.nodes
    if request.gres is not None:
        number = request.gpus * request.nodes
        # A type counts for its own limit and for that of all types.
        asked[f"gres/{request.gres.partition(':')[0]}"] = number
        asked[f"gres/{request.gres}"] = number
    return asked
