"""What CarmeSpawner offers and takes: its settings, and the checks for options of every origin."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from traitlets import Dict, Instance, Integer, List, default, observe
from traitlets.config import Config

from carme_hub.spawner import associations, limits, progress, report, script
from carme_hub.spawner.asking import Asking, NotStartedYet
from carme_hub.spawner.backends import backend_of
from carme_hub.spawner.bounds import partition_of, within
from carme_hub.spawner.conventions import Conventions
from carme_hub.spawner.description import described, limited
from carme_hub.spawner.errors import SessionError
from carme_hub.spawner.estimate import Estimate, Refusal, told
from carme_hub.spawner.estimates import ESTIMATES
from carme_hub.spawner.people import Standing
from carme_hub.spawner.request import JobRequest, Person, RequestError, mistakes
from carme_hub.spawner.settings import SessionSettings
from carme_hub.spawner.slurm import account_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from jupyterhub.spawner import Spawner

    from carme_hub.spawner.backends import Backend
    from carme_hub.spawner.catalog import Catalog, Profile
    from carme_hub.spawner.form import SpawnForm
    from carme_hub.spawner.limits import Held, LimitRules

PATIENCE = 1.5  # seconds that a page or a start waits for Slurm's first answer about a person or the nodes

report.disarm_batchspawner()


def _no_traceback(record: logging.LogRecord) -> bool:
    """Filter for a log: JupyterHub logs the traceback of whatever a form or a link brings up.

    A link that fills in the form is no event; a refusal is one, told in a line.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, SessionError):
        record.msg, record.args, record.exc_info = "%s: %s", (record.getMessage(), error), None
    return not isinstance(error, NotStartedYet)


def _checked_in_start(_spawner: Spawner, _options: object) -> None:
    """Do nothing here: `CarmeSpawner.start` checks the options, on every path and after every hook."""


async def _options_form(spawner: OfferingSpawner) -> SpawnForm:
    return await spawner.form()


class OfferingSpawner(Asking, SessionSettings, Conventions):
    """The part of `carme_hub.spawner.spawner.CarmeSpawner` that deals with what can be asked for."""

    images = Dict(
        config=True,
        help="""Container images: name -> {"title", "path", "apps", "groups", "mounts"}. `path` is absolute,
        on the compute nodes; `apps` holds "lab" and "code-server"; without `groups` everybody may use it;
        `mounts` are names of CarmeSpawner.mounts.
        Example: {"base": {"title": "Base", "path": "/images/base.sif"}}""",
    )
    mounts = Dict(
        config=True,
        help="""Folders of the compute nodes that images can show: name -> {"source", "target", "read_only",
        "filesystem"}. A session sees the person's home, the mounts of its image, and nothing else.
        Example: {"data": {"source": "/beegfs/data", "target": "/data", "read_only": True}}""",
    )
    profiles = List(
        Dict(),
        config=True,
        help="""Kinds of sessions, in the order of the page: name, title, description; cluster (a name of
        CarmeSpawner.clusters, or "local"); partition; account, qos, reservation, constraint as Slurm calls
        them: one is fixed, of a list one can be chosen, the first is the default ("": none); gpu_type or
        gpu_types ("a100", "1g.10gb", "shard"), min_, max_ and default_gpus_per_node; min_, max_ and
        default_nodes; min_, max_ and default_tasks_per_node; cpus (for each task), memory ("16G", on each
        node) with max_cpus, max_memory for a choice, or cpus_per_gpu, memory_per_gpu; min_, max_ and
        default_time ("1-00:00:00"), max_extended_time; max_running and max_pending sessions of one person;
        images (the first is the default); groups that may use it; course {"material", "notebook"} makes it
        a course that starts with one click. Without max_time, and with "partition" for max_gpus_per_node or
        max_nodes, the partition's own bound counts. Without account or qos, people choose among their
        own.""",
    )
    limits = Dict(
        config=True,
        help="""What everybody may have at once, over all sessions: max_running sessions (those included that
        wait), max_pending of them that wait to start, max_gpus, max_nodes; max_time of one session. What is
        left out is not limited. Example: {"max_running": 3, "max_gpus": 4, "max_time": "1-00:00:00"}""",
    )
    group_limits = Dict(
        config=True,
        help="""The same for members of groups: each number replaces that of CarmeSpawner.limits, None takes
        the limit away. Of several groups of a person the most generous number counts.
        Example: {"students": {"max_running": 1}, "staff": {"max_gpus": 16, "max_running": None}}""",
    )
    # poll() reads the watcher's picture and costs nothing.
    poll_interval = Integer(10, config=True, help="Seconds between two looks at the watcher's picture.")

    # wrapspawner makes this trait one that is None unless it is given.
    config = Instance(Config, (), {})

    @default("options_form")  # type: ignore[untyped-decorator]
    def _default_options_form(self) -> Any:
        return _options_form

    @default("options_from_form")  # type: ignore[untyped-decorator]
    def _default_options_from_form(self) -> Any:
        return self._read_form

    @default("apply_user_options")  # type: ignore[untyped-decorator]
    def _default_apply_user_options(self) -> Any:
        return _checked_in_start

    def __init__(self, **traits: Any) -> None:
        self._catalog: Catalog | None = None
        self._limit_rules: LimitRules | None = None
        super().__init__(**traits)
        if isinstance(self.log, logging.Logger):
            self.log.addFilter(_no_traceback)  # the same filter a second time changes nothing

    @observe("images", "mounts", "profiles", "clusters", "limits", "group_limits")  # type: ignore[untyped-decorator]
    def _description_changed(self, _change: object) -> None:
        self._catalog = self._limit_rules = None

    @property
    def catalog(self) -> Catalog:
        """Return the site's description, checked."""
        if self._catalog is None:
            self._catalog = described(self.images, self.mounts, self.profiles, self.clusters)
        return self._catalog

    @property
    def limit_rules(self) -> LimitRules:
        """Return the site's limits, checked."""
        if self._limit_rules is None:
            self._limit_rules = limited(self.limits, self.group_limits)
        return self._limit_rules

    @property
    def person(self) -> Person:
        """Return who this session belongs to."""
        return Person(self.user.name, frozenset(group.name for group in self.user.groups))

    # --- What this person can have ---

    async def learn(self, patience: float = PATIENCE) -> None:
        """Have Slurm asked what is not known yet of nodes and person; wait for a moment at most."""
        backends = {id(found): found for found in map(self._backend, self._profiles())}
        questions: list[Awaitable[object]] = []
        for backend in backends.values():
            if backend.people is not None:
                questions.append(backend.people.learn(self.user.name, patience))
                questions.append(backend.watcher.first_cluster(patience))
        await asyncio.gather(*questions)

    def _profiles(self) -> Iterable[Profile]:
        return self.catalog.visible_to(self.person.groups).profiles.values()

    def _backend(self, profile: Profile) -> Backend:
        return backend_of(self, profile.cluster, self.log)

    def offered(self) -> Catalog:
        """Return what this person can have, by the site's description and what is known of Slurm now."""
        person = self.person
        visible = self.catalog.visible_to(person.groups)
        max_time = self.limit_rules.of(person.groups).max_time
        profiles = {}
        for name, profile in visible.profiles.items():
            backend = self._backend(profile)
            standing = backend.people.known(person.username) if backend.people else Standing()
            cluster = backend.watcher.need_cluster() if backend.people else None
            profiles[name] = within(profile, cluster, standing.accounting, standing.membership, max_time)
        return replace(visible, profiles=profiles)

    def waiting(self) -> progress.Event:
        """Return what there is to say of the start now."""
        return progress.event("", None)

    def held(self) -> Held | None:
        """Return what this session holds of its owner's limits; None when it neither runs nor starts."""
        return None

    def others(self) -> list[Held]:
        """Return what all other sessions of the same person hold."""
        spawners = self.user.spawners.values()
        found = [
            other.held() for other in spawners if other is not self and isinstance(other, OfferingSpawner)
        ]
        return [held for held in found if held is not None]

    def parse_options(self, options: object) -> JobRequest:
        """Check options of any origin against what this person can have.

        Raises
        ------
        SessionError
            With status 400 and a sentence about each thing that is not on offer.
        """
        offered = self.offered()
        try:
            request = JobRequest.of(options, offered)
        except RequestError:
            raise _refused(*mistakes(options, offered)) from None
        try:
            backend = self._backend(request.profile)
            if backend.people is not None:
                standing = backend.people.known(self.user.name)
                partition = partition_of(backend.watcher.cluster, request.partition)
                associations.check(request, partition, standing.accounting, standing.membership)
        except RequestError as error:
            raise _refused(error) from None
        return request

    def admit(self, request: JobRequest, *, new: bool = False) -> None:
        """Check a request against what its owner may have at once.

        Whoever starts it for them: the owner's limits count. Nothing is awaited here, so that of two starts
        at the same moment the second one sees the first.

        Parameters
        ----------
        request
            What is asked for.
        new
            Whether it would be one more session, beside this one, too.

        Raises
        ------
        SessionError
            With status 400 and a sentence with the numbers asked for, in use and allowed.
        """
        try:
            own = [held] if new and (held := self.held()) else []
            limits.check(request, [*self.others(), *own], self.limit_rules.of(self.person.groups))
        except RequestError as error:
            raise _refused(error) from None

    async def estimate(self, request: JobRequest) -> Estimate:
        """Ask Slurm when a request would start.

        Raises
        ------
        SessionError
            With status 400 when Slurm would not take it.
        SlurmError
            When Slurm does not answer.
        """
        backend = self._backend(request.profile)
        slurm = backend.slurm
        if slurm is None:
            return Estimate(int(time.time()), "", "", "It would start at once.")
        account = await account_of(self.user.name)
        answer = await slurm.test(script.render(request, script.trial(account.home)), account)
        if isinstance(answer, Refusal):
            cluster = backend.watcher.cluster
            sentence = told(answer, request, cluster, partition_of(cluster, request.partition))
            raise _refused(RequestError(answer.field, sentence))
        ESTIMATES.keep(self.user.name, request, answer)
        return answer

    def known_estimate(self, request: JobRequest) -> Estimate | None:
        """Return what Slurm said a moment ago of this very request of this person; None when it did not."""
        return ESTIMATES.known(self.user.name, request)


def _refused(*errors: RequestError) -> SessionError:
    first = errors[0]
    return SessionError(
        " ".join(error.sentence for error in errors),
        reason="options",
        status_code=400,
        field=first.field,
        short=first.short,
        mistakes=[(error.field, error.short) for error in errors],
    )
