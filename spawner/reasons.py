"""Slurm's reason for a waiting job -> what it means, and what its owner can do. A pure function."""

from __future__ import annotations

import re

from carme_hub.spawner.reason_words import ADMINS, OWN, SENTENCES, WORDS, Reason

__all__ = ["Reason", "explain"]

LONGEST = 120  # characters of Slurm's own words on a page; a list of nodes may have thousands

# What a limit is about, as its name says: in plain words, how to have less of it, and what it is over time.
_MEMORY = ("memory", "less memory", "memory hours")
_RUNNING = ("running jobs", "fewer jobs", "")
_SUBMITTED = ("running and waiting jobs", "fewer jobs", "")
_TIME = ("time", "less time", "hours")
_THINGS = {
    "cpu": ("cores", "fewer cores", "core hours"),
    "mem": _MEMORY,
    "memory": _MEMORY,
    "node": ("nodes", "fewer nodes", "node hours"),
    "gres": ("GPUs", "fewer GPUs", "GPU hours"),
    "license": ("licences", "fewer licences", "licence hours"),
    "bb": ("fast temporary storage", "less of it", "storage hours"),
    "billing": ("of what is charged (cores, memory, GPUs)", "less", "charged hours"),
    "energy": ("energy", "less", "units of energy"),
    "unknown": ("of some resource", "less", "hours of some resource"),
    "jobs": _RUNNING,
    "job": _RUNNING,
    "submitjobs": _SUBMITTED,
    "submitjob": _SUBMITTED,
    "wall": _TIME,
    "wallduration": _TIME,
}
# The limits of all resources and releases: AssocGrpGRESRunMinutes, QOSMaxCpuPerUserLimit, MaxNodePerAccount.
_LIMIT = re.compile(
    rf"(assoc|qos)?(grp|max|min)({'|'.join(sorted(_THINGS, key=len, reverse=True))})"
    r"(runminutes|runmins|minutes)?(?:per(job|node|user|account))?(?:limit|notsatisfied)?",
    re.IGNORECASE,
)
_LATER = "It starts when running jobs have less time left, or end. A shorter time limit helps."
_SOME_END = "It starts when some of these jobs end. A session that asks for less may start sooner."


def explain(word: str) -> Reason:
    """Say what Slurm's reason for a waiting job means.

    Parameters
    ----------
    word
        As ``squeue --format=%r`` shows it, with details or without: ``QOSMaxGRESPerUser``,
        ``ReqNodeNotAvail, UnavailableNodes:node[1-2]``; empty when Slurm gives none.

    Returns
    -------
    Reason
        Always with a text and an advice. A word that is not known is shown as it is, and said to be so.
    """
    # squeue of some releases shows "_" for " ".
    said = "".join(c if c.isprintable() else " " for c in word.replace("_", " ")).strip(" ()")
    lower = re.sub(r"\s*,\s*", ", ", said.lower())
    for beginning, reason in SENTENCES:
        if lower.startswith(beginning):
            return reason
    first, _, details = said.partition(",")
    name = first.partition(":")[0].strip()
    if name in {"", "null"}:
        name = "None"
    if name == "ReqNodeNotAvail":
        return _unavailable(details)
    limit = _LIMIT.fullmatch(name)
    if limit is not None:
        return _limit(*(part.lower() for part in limit.groups("")))
    return WORDS.get(name) or Reason(
        f"Slurm says “{_short(said)}”, which this page cannot explain.",
        "If it stays like this, ask the administrators what it means.",
    )


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _unavailable(details: str) -> Reason:
    nodes = details.partition(":")[2].strip()
    which = f" ({_short(nodes)})" if nodes else ""
    return Reason(
        f"Nodes that it could run on are not available{which}: down, drained, in use, or set aside for a "
        "maintenance or for others.",
        "It starts when they are back. With a shorter time limit it may end before a maintenance begins. "
        "If it stays like this, ask the administrators.",
    )


def _limit(whose: str, kind: str, what: str, minutes: str, each: str) -> Reason:
    """Explain a limit of accounting by the parts of its name."""
    owner = "your account" if whose == "assoc" else "its QOS (Slurm's class of jobs)"
    things, _less, hours = _THINGS[what]
    if kind == "min":
        return Reason(
            f"It asks for too little ({things}): {owner} has a minimum.",
            "Cancel it and ask for more, or choose another QOS.",
            hopeless=True,
        )
    if minutes.startswith("run"):
        jobs = "all running jobs of its QOS"
        if each == "user":
            jobs = "your running jobs"
        elif each == "account" or whose == "assoc":
            jobs = "your account's running jobs"
        return Reason(f"The {hours} that {jobs} have still ahead have reached a limit.", _LATER)
    if kind == "grp" and (minutes or what == "wall"):
        return Reason(
            f"The {hours} that {owner} may use in all are used up.",
            f"Choose another account or QOS if you have one. {ADMINS}",
            hopeless=True,
        )
    if kind == "grp" and "job" in what:
        return Reason(f"All people of {owner} together have as many {things} as are allowed.", _SOME_END)
    if kind == "grp":
        return Reason(
            f"Together with all other jobs of {owner}, it asks for more {things} than allowed at once.",
            _SOME_END,
        )
    return _most(owner, what, minutes, each)


def _most(owner: str, what: str, minutes: str, each: str) -> Reason:
    """Explain a limit of one job, one person or one account."""
    things, less, hours = _THINGS[what]
    if "job" in what:
        who = "Your account has" if each == "account" else "You have"
        one = "an account" if each == "account" else "one person"
        return Reason(
            f"{who} as many {things} as {owner} allows {one}.", _SOME_END if each == "account" else OWN
        )
    if each == "account":
        return Reason(
            f"Together with your account's other jobs, it asks for more {things} than {owner} allows "
            "an account at once.",
            _SOME_END,
        )
    if each == "user":
        return Reason(
            f"Together with your other jobs, it asks for more {things} than {owner} allows one "
            "person at once.",
            OWN,
        )
    if what == "wallduration":
        return Reason(
            f"Its time limit is longer than {owner} allows.",
            "Cancel it and ask for less time.",
            hopeless=True,
        )
    where = " on one node" if each == "node" else ""
    return Reason(
        f"It asks for more {hours if minutes else things}{where} than {owner} allows one job.",
        f"Cancel it and ask for {'less time, or ' if minutes else ''}{less}.",
        hopeless=True,
    )
