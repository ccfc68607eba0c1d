"""The site check as a page, and what the watchers see."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tornado.log import app_log

from carme_hub import site_check
from carme_hub.checks.values import ORDER, Check, State
from carme_hub.service.admin_base import AdminPage
from carme_hub.service.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from carme_hub.service.site import Site

TIME_OUT = 180.0  # seconds for all looks together, each of which has its own
AGAIN = 10.0  # seconds between two checks: each submits jobs
OLD_CLUSTER = 900  # seconds; the service reads it every 5 min at least
OLD_JOBS = 120  # seconds from which on a picture is called old; it is read every 10 s


@dataclass
class Checks:
    """The last check, and the one that runs. One at a time, whoever asks: each submits jobs.

    Attributes
    ----------
    found
        What the last one found; None while there was none.
    at, by, seconds
        When it ended (seconds since 1970), who asked, how long it took.
    since, now_by
        When the one that runs began and who asked; 0 while none does.
    """

    found: list[Check] | None = None
    at: float = 0.0
    by: str = ""
    seconds: float = 0.0
    since: float = 0.0
    now_by: str = ""
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def running(self) -> bool:
        """Say whether one runs."""
        return self.task is not None and not self.task.done()

    def start(self, site: Site, person: str) -> bool:
        """Start one as a person; False where one runs, or has just ended."""
        if self.running or time.time() - self.at < AGAIN:
            return False
        self.since, self.now_by = time.time(), person
        self.task = asyncio.get_running_loop().create_task(self._run(site, person))
        return True

    async def _run(self, site: Site, person: str) -> None:
        try:
            async with asyncio.timeout(TIME_OUT):
                found = await site_check.check_site(site.config, person)
        except TimeoutError:
            found = [Check("Site check", State.FAILED, f"It did not end within {TIME_OUT:.0f} s.")]
        except Exception:  # noqa: BLE001 - logged with its traceback
            app_log.exception("The site check failed")
            found = [
                Check("Site check", State.FAILED, "It failed itself; the service's log has the details.")
            ]
        self.found, self.by = found, person
        self.at = time.time()
        self.seconds = self.at - self.since


# One for the process: results are the site's, not a person's.
CHECKS = Checks()


def parts(checks: list[Check]) -> list[tuple[str, list[Check]]]:
    """Sort checks by the part of the site, within it the worst first; parts stay in their order."""
    names = list(dict.fromkeys(check.part for check in checks))
    return [
        (
            name,
            sorted(
                (check for check in checks if check.part == name), key=lambda check: ORDER.index(check.state)
            ),
        )
        for name in names
    ]


@dataclass(frozen=True)
class Picture:
    """How fresh something is that was read of Slurm.

    Attributes
    ----------
    cluster, what
        Of which cluster, and what it shows: "jobs", "nodes", or "cluster" for the service's own, with both.
    at, failing_since
        Seconds since 1970; None for never.
    old
        Whether it is older than it should be.
    """

    cluster: str
    what: str
    at: float | None
    old: bool
    took: float = 0.0
    failures: int = 0
    failing_since: float | None = None
    error: str = ""
    seen: str = ""


def pictures(watchers: dict[str, Any], now: float) -> list[Picture]:
    """Return the hub's pictures, as ``GET /hub/api/carme/watchers`` describes them."""
    found = []
    for cluster, state in watchers.items():
        watched = int(state.get("watched", 0))
        leaving = f", {state['abandoned']} being ended" if state.get("abandoned") else ""
        number = state.get("seen_nodes")
        seen = {
            "jobs": f"{watched} session{'' if watched == 1 else 's'} watched{leaving}",
            "nodes": "" if number is None else f"{number} node{'' if number == 1 else 's'}",
        }
        for what in ("jobs", "nodes") if cluster != "local" else ("jobs",):
            fresh = state[what]
            at, failures = fresh.get("at"), int(fresh.get("failures") or 0)
            # Nothing is read of Slurm while nobody needs it: age alone is no fault then.
            needed = what == "jobs" and watched
            aged = bool(needed) and (at is None or now - at > OLD_JOBS)
            found.append(
                Picture(
                    cluster,
                    what,
                    at,
                    old=aged or bool(failures),
                    took=float(fresh.get("took") or 0),
                    failures=failures,
                    failing_since=fresh.get("failing_since"),
                    error=str(fresh.get("error") or ""),
                    seen=seen[what],
                )
            )
    return found


def own_pictures(
    views: Iterable[tuple[str, Mapping[str, Any] | None, float | None]], now: float
) -> list[Picture]:
    """Return the service's own pictures, of name, last picture, and since when Slurm is silent."""
    found = []
    for cluster, picture, silent in views:
        at = None if picture is None else float(picture["at"])
        # Its samples are the chart's: they are read always, seldom while nobody looks.
        aged = at is not None and now - at > OLD_CLUSTER
        running, pending = (picture or {}).get("running"), (picture or {}).get("pending")
        seen = "" if running is None else f"{running} running, {pending} waiting"
        error = "" if silent is None else "Slurm does not answer; the service's log has its words."
        found.append(
            Picture(
                cluster,
                "cluster",
                at,
                old=aged or silent is not None,
                failures=0 if silent is None else 1,
                failing_since=silent,
                error=error,
                seen=seen,
            )
        )
    return found


class SitePage(AdminPage):
    """Pictures and checks."""

    tab = "site"

    async def get(self) -> None:
        """Show what was found last."""
        self.need_everybody()
        now = time.time()
        try:
            answer = await self.site.ask_hub("GET", "/carme/watchers", time_out=5.0)
            seen, away = pictures(answer["watchers"], now), ""
        except (Refused, KeyError, TypeError) as error:
            seen, away = [], getattr(error, "sentence", "The hub's answer was not understood.")
        found = CHECKS.found or []
        self.show(
            "admin_site.html",
            checks=CHECKS,
            parts=parts(found),
            numbers=Counter(str(check.state) for check in found),
            worst=site_check.worst(found),
            pictures=[*seen, *own_pictures(self._views(), now)],
            away=away,
            hub=self.site.hub,
            open_streams=len(self.site.streams),
            hub_sessions=sum(len(some) for some in self.site.hub.sessions.values()),
            now=now,
        )

    def _views(self) -> list[tuple[str, Mapping[str, Any] | None, float | None]]:
        own, found = self.site.pictures, []
        for name in own.names:
            reader = own.reader(name)
            if reader is not None:
                view = reader.view
                found.append((name, view.picture if view is not None else None, reader.silent_since))
        return found

    async def post(self) -> None:
        """Check, in the background: the page shows how far it is."""
        self.need_everybody()
        if CHECKS.start(self.site, self.person.name):
            await self.note("site-check")
        # Without a fragment: with one, the browser would not load the page again, where no script does.
        self.redirect(f"{self.site.service_url}admin/site")


routes = [(r"admin/site", SitePage)]
