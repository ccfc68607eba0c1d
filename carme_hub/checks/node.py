"""What a node sees: images, mounts, Apptainer, its clock. Asked by one small job in each partition.

The job goes the way of every session: submitted as a person, by the same commands (so a hub without root
needs no further rule of sudo), and its log is read as that person. It asks for one core and two minutes;
after `PATIENCE` seconds in the queue it is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from carme_hub.checks import here
from carme_hub.checks.cluster import judge_clock
from carme_hub.checks.values import Check, Probe, failed, ok, skipped, warning
from carme_hub.spawner import answers, node, script
from carme_hub.spawner.answers import PHASES, Phase
from carme_hub.spawner.slurm import SlurmError, SlurmUnavailable, SubmitRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carme_hub.spawner.catalog import Catalog, Image, Mount, Profile
    from carme_hub.spawner.slurm import Account, Slurm

PART = "Nodes"
PATIENCE = 15.0  # seconds a job may wait: whoever checks looks on, and the nodes are other people's
RUNNING = 60.0  # seconds for all that it looks at
OPENING = 20  # seconds for one image to start and end in
MOST = 6  # partitions; each costs a job
_AGAIN = 0.5  # seconds between two looks at the job
# Turns on what makes Jupyter's server that of a session, in an image that has it.
GUARDED = "/etc/jupyter/jupyter_server_config.d/carme_session.json"
_LIMIT = 2  # minutes
_MEMORY = "256M"
_HOST = re.compile(r"\sBatchHost=(\S+)")
_LINE = re.compile(r"^carme-check (?P<kind>[a-z]+) (?P<name>\S+) (?P<word>\S+) ?(?P<text>.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """A partition, and what has to be on its nodes for the profiles that run there."""

    partition: str
    accounts: tuple[str, ...] = ()
    images: tuple[Image, ...] = ()
    mounts: tuple[Mount, ...] = ()
    courses: tuple[Profile, ...] = ()

    @property
    def title(self) -> str:
        """Name it in a sentence."""
        return f"partition {self.partition}" if self.partition else "the default partition"


@dataclass(frozen=True)
class Told:
    """What a job said.

    Attributes
    ----------
    host
        The node it ran on.
    answers
        Word and text by kind and name: ``{("image", "base"): ("ok", "")}``.
    """

    host: str
    answers: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)


class NotRunError(Exception):
    """The job did not run; the sentence says why, and whether that is the site's fault."""

    def __init__(self, sentence: str, *, at_fault: bool = False) -> None:
        super().__init__(sentence)
        self.at_fault = at_fault


def places(catalog: Catalog, profiles: Iterable[Profile]) -> list[Place]:
    """Return the partitions of the profiles, each with the images and mounts that its nodes have to have."""
    found: dict[str, dict[str, dict[str, object]]] = {}
    for profile in profiles:
        at = found.setdefault(
            profile.partition or "", {"accounts": {}, "images": {}, "mounts": {}, "courses": {}}
        )
        at["accounts"].update(dict.fromkeys(profile.account[:1]))
        if profile.course is not None:
            at["courses"][profile.name] = profile
        for name in profile.images:
            image = catalog.images[name]
            at["images"][name] = image
            at["mounts"].update({mount.name: mount for mount in catalog.mounts_of(image)})
    return [
        Place(
            partition,
            tuple(at["accounts"]),
            tuple(at["images"].values()),  # type: ignore[arg-type]
            tuple(at["mounts"].values()),  # type: ignore[arg-type]
            tuple(at["courses"].values()),  # type: ignore[arg-type]
        )
        for partition, at in found.items()
    ]


def probes(slurm: Slurm, apptainer: str, wanted: Sequence[Place], account: Account | None) -> list[Probe]:
    """Return one look for each partition, as a person's jobs; without a person, no node is looked at."""
    time_out = PATIENCE + RUNNING + slurm.time_out
    return [
        Probe(
            PART, f"A node of {place.title}", time_out, partial(_look, slurm, apptainer, place, account, far)
        )
        for far, place in enumerate(wanted)
    ]


async def _look(slurm: Slurm, apptainer: str, place: Place, account: Account | None, far: int) -> list[Check]:
    title = f"A node of {place.title}"
    if account is None:
        sentence = "Nodes are looked at by a job, and nobody was named whose job it can be."
        return [skipped(title, sentence), *await here.look(place.images, place.mounts)]
    if far >= MOST:
        return [skipped(title, f"Only the first {MOST} partitions are looked at, each by a job.")]
    asked = time.time()
    try:
        told = await _run(slurm, apptainer, place, account)
    except NotRunError as error:
        check = failed(title, str(error)) if error.at_fault else skipped(title, str(error))
        return [check, *await here.look(place.images, place.mounts)]
    except SlurmUnavailable as error:
        return [failed(title, str(error))]
    return judge(place, told, account.name, asked, time.time())


async def _run(slurm: Slurm, apptainer: str, place: Place, account: Account) -> Told:
    job_id = await _submit(slurm, apptainer, place, account)
    ended = False
    try:
        host = await _wait(slurm, job_id, place)
        ended = True
    finally:
        if not ended:
            # Shielded, because this look may be at its end: a job that nobody waits for must not start.
            await asyncio.shield(_cancel(slurm, job_id, account))
    log = await slurm.log_tail(script.log_path(account.home, job_id), account)
    told = Told(host, read(log))
    if not told.answers:
        raise NotRunError(
            f"Job {job_id} ran on {host or place.title} as {account.name}, but what it wrote into "
            f"{account.home}/{script.LOG_FOLDER} cannot be read on the hub's machine: is the home shared?"
        )
    return told


def read(log: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Return what a job wrote about each thing: word and text by kind and name."""
    return {(line["kind"], line["name"]): (line["word"], line["text"]) for line in _LINE.finditer(log)}


async def _submit(slurm: Slurm, apptainer: str, place: Place, account: Account) -> int:
    """Submit as the person, in the account that is theirs; where that is refused, in the profile's."""
    refused = ""
    for name in ("", *place.accounts):
        try:
            return await slurm.submit(write(apptainer, place, account.home, name), account, {})
        except SubmitRefused as error:
            refused = str(error).partition(": ")[2]
    raise NotRunError(
        f"{account.name} can run no job in {place.title}, so its nodes were not looked at: {refused}"
    )


async def _wait(slurm: Slurm, job_id: int, place: Place) -> str:
    """Wait until the job has ended, and return the node it ran on."""
    loop = asyncio.get_running_loop()
    began, ran = loop.time(), 0.0
    while True:
        done = await slurm.run([f"{slurm.folder}/scontrol", "--oneliner", "show", "job", str(job_id)])
        job = answers.parse_job(done.out)
        if done.code or job is None:
            raise SlurmUnavailable(f"scontrol show job: {answers.one_line(done.err or done.out)}")
        phase, now = PHASES.get(job.state, Phase.RUNNING), loop.time()
        if phase is Phase.ENDED:
            found = _HOST.search(done.out)
            _explain(job, place)
            return found[1] if found else ""
        if phase is Phase.PENDING and now - began > PATIENCE:
            why = f" ({job.reason})" if job.reason else ""
            raise NotRunError(
                f"No node of {place.title} had room within {PATIENCE:.0f} s{why}: none was looked at."
            )
        if phase is not Phase.PENDING:
            ran = ran or now
            if now - ran > RUNNING:
                raise NotRunError(f"The job did not end within {RUNNING:.0f} s.", at_fault=True)
        await asyncio.sleep(_AGAIN)


def _explain(job: answers.Ending, place: Place) -> None:
    """Raise for a job that ended before it could look."""
    if job.exit_code == script.EXIT_LOG:
        raise NotRunError(
            f"A job in {place.title} could not write into its owner's home: is it mounted there?",
            at_fault=True,
        )
    if job.state != "COMPLETED":
        raise NotRunError(f"A job in {place.title} did not run ({job.state}, {job.reason}).", at_fault=True)


async def _cancel(slurm: Slurm, job_id: int, account: Account) -> None:
    with contextlib.suppress(SlurmError):
        await slurm.cancel(job_id, account)


def write(apptainer: str, place: Place, home: str, account: str = "") -> str:
    """Return the batch script of the look. A pure function."""
    directives: dict[str, str | int] = {
        "job-name": "carme-check",
        "partition": place.partition,
        "account": account,
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": 1,
        "mem": _MEMORY,
        "time": _LIMIT,
        "chdir": "/",
        "output": "/dev/null",
        "error": "/dev/null",
        # What sbatch is given by the hub, and not what a login shell would make.
        "export": "ALL",
        "propagate": "NONE",
    }
    lines = [script.directive(name, value) for name, value in directives.items() if value]
    # Mounts that only have to be there are looked at as `check_mount` looks: nobody waits for a dead one.
    words: list[tuple[str, ...]] = [
        ("mount_of", mount.name, mount.source, mount.filesystem or "") for mount in place.mounts
    ]
    words += [("image", image.name, image.path) for image in place.images]
    words += [
        ("course", profile.name, f"{profile.course.material}/{profile.course.notebook}")
        for profile in place.courses
        if profile.course is not None
    ]
    looks = [shlex.join(one) for one in words]
    functions = _LOOKS.format(
        apptainer=shlex.quote(apptainer), guarded=GUARDED, opening=OPENING, patience=node.MOUNT_PATIENCE
    )
    return "\n".join(
        [
            "#!/bin/bash",
            *lines,
            script.directive("no-requeue"),
            "",
            script.open_log(home),
            node.mount_check(),
            functions,
            *looks,
            'say clock end "$EPOCHREALTIME"',
            "",
        ]
    )


_LOOKS = """\
set +e

say() {{
  printf 'carme-check %s %s %s\\n' "$1" "$2" "$3"
}}

mount_of() {{
  local answer
  if [[ -n $3 ]]; then
    answer=$(check_mount "$1" "$2" "$3" 2>&1) && answer=ok || answer="no ${{answer#*, but }}"
  else
    IFS= read -r -t {patience} answer < <(
      {{ stat -- "$2/." || stat -L -- "$2"; }} &>/dev/null && echo ok || echo 'no it does not exist there'
    ) || answer='no it does not answer'
  fi
  say mount "$1" "$answer"
}}

image() {{
  local answer said
  IFS= read -r -t {patience} answer < <(
    [[ -e $2 ]] && {{ [[ -r $2 ]] && echo ok || echo closed; }} || echo missing
  ) || answer=silent
  if [[ $answer == ok && -z $version ]]; then
    answer=unopened
  elif [[ $answer == ok ]]; then
    said=$(timeout -k 2 {opening} {apptainer} exec --containall --pwd / "$2" /bin/sh -c \\
      '[ -e {guarded} ] || echo carme: unguarded' 2>&1 </dev/null) \\
      || answer="broken $(tail -n 1 <<<"$said" | tr -d '\\000-\\037' | cut -c 1-160)"
    [[ $answer != ok || $said != *'carme: unguarded'* ]] || answer=unguarded
  fi
  say image "$1" "$answer"
}}

course() {{
  local answer
  IFS= read -r -t {patience} answer < <([[ -r $2 ]] && echo ok || echo missing) || answer=silent
  say course "$1" "$answer"
}}

say clock begin "$EPOCHREALTIME"
version=$({apptainer} --version 2>/dev/null | head -n 1)
say apptainer version "${{version:-missing}}"
"""


def judge(place: Place, told: Told, person: str, asked: float, ended: float) -> list[Check]:
    """Judge what a job said.

    Parameters
    ----------
    place
        What had to be there.
    told
        What was.
    person
        Whose job it was.
    asked, ended
        When it was submitted and found ended, by the hub's clock, in seconds since 1970.
    """
    host = told.host or f"a node of {place.title}"
    where = f"on {host}"
    if place.partition:
        where += f" ({place.partition})"
    found = [_apptainer(f"Apptainer {where}", told)]
    found += [_mount(mount, where, told) for mount in place.mounts]
    found += [_image(image, where, told, person) for image in place.images]
    found += [_course(profile, where, told) for profile in place.courses]
    times = [
        float(word)
        for kind, name in (("clock", "begin"), ("clock", "end"))
        if (word := _number(told, kind, name))
    ]
    if times:
        difference = max(asked - min(times), max(times) - ended, 0)
        found.append(judge_clock(f"Clock of {host}", f"{host}'s", difference))
    return found


def _number(told: Told, kind: str, name: str) -> str:
    word = told.answers.get((kind, name), ("", ""))[0]
    return word if re.fullmatch(r"[0-9]{1,12}([.,][0-9]+)?", word) and "," not in word else ""


def _apptainer(title: str, told: Told) -> Check:
    word, text = told.answers.get(("apptainer", "version"), ("missing", ""))
    if word == "missing":
        return failed(
            title,
            "There is no Apptainer, so no session can start. Install it, or set CarmeSpawner.apptainer.",
        )
    return ok(title, f"{word} {text}".strip().replace("apptainer version", "Version").capitalize() + ".")


def _mount(mount: Mount, where: str, told: Told) -> Check:
    title = f"Mount {mount.name} {where}"
    word, text = told.answers.get(("mount", mount.name), ("", ""))
    if word == "ok":
        kind = f", on {mount.filesystem}" if mount.filesystem else ""
        return ok(title, f"{mount.source} is there{kind}.")
    if not word:
        return warning(title, f"The job did not get as far as {mount.source}.")
    needed = f" has to be on {mount.filesystem}, but" if mount.filesystem else " is needed:"
    return failed(
        title, f"{mount.source}{needed} {text or 'it is not there'}. Sessions that use it do not start."
    )


def _course(profile: Profile, where: str, told: Told) -> Check:
    title = f"Course {profile.name} {where}"
    word, course = told.answers.get(("course", profile.name), ("", ""))[0], profile.course
    path = f"{course.material}/{course.notebook}" if course is not None else ""
    if word == "ok":
        return ok(title, f"{path} can be read.")
    if word == "missing":
        return failed(
            title, f"{path} cannot be read there. Copy the material, or correct the profile's course."
        )
    return warning(title, f"{path} was not found out about.")


def _image(image: Image, where: str, told: Told, person: str) -> Check:
    title = f"Image {image.name} {where}"
    word, text = told.answers.get(("image", image.name), ("", ""))
    if word == "ok":
        return ok(title, f"{image.path} can be read, and a program starts in it.")
    if word == "unguarded":
        return warning(
            title,
            f"{image.path} can be read, and a program starts in it. It has no carme_session, so its server "
            "keeps what anybody sends before it asks who that is, and a session can be ended from outside. "
            "Build it on base.def, or copy singularity/files/carme_session into it; see docs/bounds.md.",
        )
    if word == "unopened":
        return warning(title, f"{image.path} can be read; what starts in it is not known without Apptainer.")
    sentences = {
        "missing": f"{image.path} does not exist there. Copy the image, or correct its path.",
        "closed": f"{image.path} cannot be read by {person} there. Look at its mode and its folders'.",
        "silent": f"{image.path} lies in a file system that does not answer there.",
        "broken": f"{image.path} is there, but nothing starts in it: {text or 'no reason given'}",
    }
    if word in sentences:
        return failed(title, sentences[word])
    return warning(title, f"The job did not get as far as {image.path}.")
