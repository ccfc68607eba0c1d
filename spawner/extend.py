"""Makes a running session last longer: asks Slurm what is in the way, and has it change the limit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from carme_hub.spawner import timelimit
from carme_hub.spawner.slurm import SlurmError
from carme_hub.spawner.timelimit import NotExtended

if TYPE_CHECKING:
    from carme_hub.spawner.slurm import Slurm


async def extend(slurm: Slurm, job_id: int, owner: str, asked: int, most: int) -> bool:
    """Set a running job's time limit.

    The limit is the one asked for, not one more piece: to ask twice is to ask once. A limit that is longer
    already stays. Slurm lets its operators, of whom the hub is one, go beyond every limit, so they are looked
    at here.

    Parameters
    ----------
    slurm
        The job's cluster.
    job_id
        From the spawner's own state.
    owner
        Name of the account the job runs as.
    asked, most
        Minutes from the job's start.

    Returns
    -------
    bool
        False when the limit was as long already.

    Raises
    ------
    NotExtended
        With a sentence.
    """
    try:
        job = await slurm.running(job_id)
        longest, partition_qos = await slurm.partition_bounds(job.partition) if job else (None, "")
        problem = timelimit.refusal(asked, most, job, longest)
        if problem or job is None:
            raise NotExtended(problem)
        if job.limit is None or asked <= job.limit:
            return False
        problem = await _accounting(slurm, job, partition_qos, owner, asked)
        problem = problem or await _in_the_way(slurm, job, asked)
        if problem:
            raise NotExtended(problem)
        await slurm.set_time_limit(job_id, asked)
    except SlurmError as error:
        raise NotExtended(f"{error} The time limit stays as it is.") from error
    except ValueError as error:
        raise NotExtended(
            f"Slurm's answer cannot be read ({error}). Please tell the administrators."
        ) from error
    return True


async def _accounting(slurm: Slurm, job: timelimit.Job, partition_qos: str, owner: str, asked: int) -> str:
    known = await slurm.accounting()
    if "limits" not in known.enforced:
        return ""
    member = await slurm.membership(owner, known.cluster)
    return timelimit.accounting_refusal(asked, job, partition_qos, known, member)


async def _in_the_way(slurm: Slurm, job: timelimit.Job, asked: int) -> str:
    now, end = time.time(), (job.start or 0) + 60 * asked
    found = [
        one
        for one in await slurm.reservations()
        if one.name == job.reservation or (now < one.end and one.start < end)
    ]
    if not found:
        return ""
    nodes = await slurm.host_names(job.nodes)
    pairs = [(one, bool(nodes & await slurm.host_names(one.nodes))) for one in found]
    return timelimit.obstacle(asked, job, pairs, now)
