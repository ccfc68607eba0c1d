"""The start page's way in and out: what the form shows, what becomes of it, and links that fill it in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from carme_hub.spawner import choices, closed, named
from carme_hub.spawner.errors import SessionError
from carme_hub.spawner.form import Problem, SpawnForm
from carme_hub.spawner.free import OLD, Free, remembered
from carme_hub.spawner.request import from_form, harmless
from carme_hub.spawner.slurm import SlurmError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from carme_hub.spawner.backends import Backend
    from carme_hub.spawner.catalog import Catalog, Profile
    from carme_hub.spawner.request import JobRequest

TEST_PATIENCE = 5.0  # seconds that a form waits for "sbatch --test-only"
LOOK = 0.3  # seconds that a page waits for a picture of the nodes when the last one is old
CHOSEN = 60.0  # seconds in which JupyterHub will have begun with what a form has chosen


@dataclass(frozen=True)
class Again:
    """Options to show once more: of which server, what is wrong with them, whether they are a link's."""

    server: str
    options: Mapping[str, str]
    problems: tuple[Problem, ...] = ()
    from_link: bool = False


class NotStartedYet(Exception):  # noqa: N818 - no error: a link fills in the form, a person presses Start
    """Shows the form with the options of a link."""

    jupyterhub_message = "Please check the session that the link asks for, and press Start."


class Asking:
    """The part of `carme_hub.spawner.offer.OfferingSpawner` that deals with the page."""

    if TYPE_CHECKING:  # what the spawner has
        user: Any
        orm_spawner: Any
        name: str
        active: bool
        learn: Any
        admit: Any
        estimate: Any
        known_estimate: Any

        def offered(self) -> Catalog: ...  # noqa: D102
        def parse_options(self, options: object) -> JobRequest: ...  # noqa: D102
        def _profiles(self) -> Iterable[Profile]: ...
        def _backend(self, profile: Profile) -> Backend: ...

    def __init__(self, **traits: Any) -> None:
        self._again: Again | None = None
        self._checking = False
        self._chosen = -CHOSEN
        self._testing = asyncio.Lock()
        super().__init__(**traits)

    async def form(self) -> SpawnForm:
        """Return the page's fields, with what was asked for a moment ago, else with the last choices."""
        again, self._again = self._again, None
        again = again or Again(self.name, self._last_options())
        if await closed.sentence(self.user):
            named.drop_unused(self.user, again.server)
            return SpawnForm((), (), again.server, closed=True)
        await self.learn()
        await self._look()
        form = SpawnForm.build(
            self.offered(),
            again.options,
            choices.of(self.user),
            session=again.server,
            free=self.free,
            problems=again.problems,
            from_link=again.from_link,
            estimates=True,
        )
        named.drop_unused(self.user, again.server)
        return form

    async def _look(self) -> None:
        """Have the clusters' nodes shown as they are now, not as they were when somebody looked last."""
        backends = {id(found): found for found in map(self._backend, self._profiles())}
        watchers = [backend.watcher for backend in backends.values() if backend.people is not None]
        await asyncio.gather(*(watcher.fresh_cluster(OLD, LOOK) for watcher in watchers))

    def _last_options(self) -> dict[str, str]:
        return harmless(self.orm_spawner.user_options if self.orm_spawner else None)

    def free(self, profile: Profile) -> Free | None:
        """Return what of an offered profile is free now, by the last picture of its cluster."""
        return remembered(profile, self._backend(profile).watcher.cluster)

    @property
    def in_use(self) -> bool:
        """Say whether a start is on its way or was chosen a moment ago, or the session runs."""
        return bool(self.active) or self._checking or time.monotonic() - self._chosen < CHOSEN

    async def _read_form(self, form: Mapping[str, list[object]]) -> dict[str, str | int]:
        """Check a form as far as that is possible before a start: what is refused comes back filled in."""
        options = from_form(form)
        again = Again(self.name, harmless(options))
        # After an error JupyterHub shows the form of the default server, whichever was meant.
        default = self.user.spawner
        default._again = again  # noqa: SLF001 - the same class
        try:
            request = await self._checked(options)
        except SessionError as error:
            default._again = replace(again, problems=_problems(error))  # noqa: SLF001 - as above
            raise
        default._again = None  # noqa: SLF001 - as above
        self._chosen = time.monotonic()
        return request.options()

    async def _checked(self, options: object) -> JobRequest:
        """Check the options of a form, and ask Slurm what it says of them."""
        if self._checking:
            raise _started_twice()
        self._checking = True
        try:
            await closed.check(self.user)
            await self.learn()
            request = self.parse_options(options)
            self.admit(request)
            if self.known_estimate(request) is None:
                with contextlib.suppress(SlurmError, TimeoutError, ValueError):
                    # No answer is no refusal: the start itself gets one.
                    # One of a person's at a time: their questions must not be everybody's turn.
                    one = self.user.spawner._testing  # noqa: SLF001 - the same class
                    async with asyncio.timeout(TEST_PATIENCE), one:
                        await self.estimate(request)
        finally:
            self._checking = False
        if self.active:
            raise _started_twice()
        return request

    def options_from_query(self, query_data: Mapping[str, list[object]]) -> NoReturn:
        """Fill in the form from a link. A link never starts a job by itself."""
        options = from_form(query_data)
        self._again = again = Again(self.name, harmless(options), from_link=True)
        try:
            self.parse_options(options)
        except SessionError as error:
            self._again = replace(again, problems=_problems(error))
            raise
        raise NotStartedYet


def _problems(error: SessionError) -> tuple[Problem, ...]:
    return tuple(Problem(field, short) for field, short in error.mistakes)


def _started_twice() -> SessionError:
    return SessionError("This session is being started already.", reason="twice", status_code=409)
