"""The inside of the benchmark: brings the cluster up, measures, writes what it found as JSON lines.

Called by ``python -m tests.benchmarks.job`` inside fresh namespaces, with one JSON object: "settings" (see
`carme_hub.demo.site.Settings`), "plan" (see `plan.Plan`), "peers" (their Python), "found" (a file to write).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from carme_hub.demo import site as demo
from carme_hub.demo.layout import checkout
from carme_hub.demo.services import Services
from tests.benchmarks.job import clicks, sessions, site, starts, streams
from tests.benchmarks.job.controller import Count
from tests.benchmarks.job.figures import BATCH_FLOOR, FLOOR, Sample
from tests.benchmarks.job.plan import Plan
from tests.benchmarks.job.site import BENCH, IDLE_PEOPLE, IDLE_PORT, PEOPLE, WAIT, queue, until
from tests.benchmarks.job.systems import OURS, SYSTEMS, URL, Hub, form, hub
from tests.benchmarks.machine import busy

PENDING = 100
SETTLE = 3.0  # seconds between a hub's last look at its sessions and the measurement


class Bench:
    """Measures what the plan says."""

    def __init__(self, plan: Plan, extra: dict[str, str], found: Path, usage: Path, work: Path) -> None:
        self._plan = plan
        self._extra = extra
        self._found = found
        self._usage = usage
        self._work = work
        self._jobs: dict[str, tuple[str, str]] = {}

    # --- Keeping what was found ---

    @contextlib.contextmanager
    def _sample(self, figure: str, system: str, case: int, round_: int) -> Iterator[dict[str, object]]:
        """Take what the body enters, and note how much of the processors others used meanwhile."""
        values: dict[str, object] = {}
        began, all_busy, ours = time.monotonic(), busy(), self._ours()
        yield values
        ticks = (time.monotonic() - began) * (os.cpu_count() or 1)
        others = max((busy() - all_busy) - (self._ours() - ours), 0) / ticks
        with self._found.open("a") as lines:
            lines.write(f"{json.dumps(asdict(Sample(figure, system, case, round_, others, values)))}\n")
        shown = {name: round(v, 3) if isinstance(v, float) else v for name, v in values.items()}
        demo.say(f"  {figure} {system} {case or ''}: {str(shown)[:160]} (others {others:.0%})")

    def _ours(self) -> float:
        """Return the seconds of processor time of all that was ever started here."""
        return int(self._usage.read_text()) / 1e9

    def _turns(self, round_: int) -> list[str]:
        """Return the systems, each round beginning with another one."""
        first = round_ % len(SYSTEMS)
        return [*SYSTEMS[first:], *SYSTEMS[:first]]

    def _folder(self, *words: object) -> Path:
        return self._work.joinpath("-".join(map(str, words)))

    # --- 3, 4, 5 ---

    def starts(self, round_: int) -> None:
        """Click, alone and as a class, and look at the start page."""
        wants = self._plan.wants
        for command, floor in ((starts.SRUN, FLOOR), (starts.SBATCH, BATCH_FLOOR)):
            if wants(3):
                with self._sample("click", floor, 0, round_) as values:
                    values["seconds"] = starts.floor_one_by_one(command)
            if wants(4):
                with self._sample("class", floor, 0, round_) as values:
                    values["seconds"] = starts.floor_of_a_class(command)
        for system in self._turns(round_):
            with hub(system, self._folder("starts", system, round_), self._extra):
                if wants(5) and form(system, BENCH) is not None:
                    with self._sample("page", system, 0, round_) as values:
                        values["seconds"], values["rpcs"] = starts.pages(system) or ([], 0.0)
                if wants(3):
                    with self._sample("click", system, 0, round_) as values:
                        values["seconds"] = starts.one_by_one(system)
                if wants(4):
                    with self._sample("class", system, 0, round_) as values:
                        values["seconds"] = starts.a_class(system)
            site.cancel(BENCH)

    # --- 1, 2, 6 ---

    def prepare_idle(self) -> None:
        """Have each system start one session, and the cluster run as many idle jobs as are wanted."""
        everybody = self._plan.wants(1, 2, 6)
        for system in SYSTEMS if everybody else [OURS]:
            with hub(system, self._folder("template", system), self._extra):
                asyncio.run(_click(system, PEOPLE[0]))
            site.cancel(BENCH)
        most = max(self._plan.sessions) if everybody else 0
        names = IDLE_PEOPLE[: max(most, streams.IDLE if self._plan.wants(7) else 0)]
        demo.say(f"submitting {len(names)} idle jobs")
        site.submit_idle(names)
        until(lambda: len(site.idle_jobs()) >= len(names), "the start of all idle jobs", 600)
        self._jobs = site.idle_jobs()

    def idle(self, round_: int) -> None:
        """Let hubs look after their idle sessions."""
        for number in self._plan.cases(round_):
            names = IDLE_PEOPLE[:number]
            for system in self._turns(round_):
                with self._seeded(system, f"idle-{number}-{round_}", names) as running:
                    time.sleep(SETTLE)
                    self._watch("idle", running, number, round_)

    def pending(self, round_: int) -> None:
        """Let 100 people wait in the queue."""
        for system in self._turns(round_):
            with self._seeded(system, f"pending-{round_}", [], WAIT) as running:
                asyncio.run(_click_and_leave(system, PEOPLE[:PENDING]))
                until(lambda: len(queue(f"--partition={WAIT}")) >= PENDING, "100 jobs are pending", 300)
                self._watch("pending", running, PENDING, round_)
            site.cancel(WAIT)

    # --- 7 ---

    def streams(self, round_: int) -> None:
        """Let people have dashboards open, beside a hub that starts and stops sessions."""
        names = IDLE_PEOPLE[: streams.IDLE]
        for number in streams.STREAMS:
            what = f"streams-{number}-{round_}"
            with self._seeded(OURS, what, names, more=streams.CONFIGURATION) as running:
                time.sleep(SETTLE)
                with self._sample("streams", OURS, number, round_) as values:
                    values.update(
                        asyncio.run(streams.measure(running, names, number, 60 * self._plan.minutes))
                    )
            site.cancel(BENCH)

    @contextlib.contextmanager
    def _seeded(
        self, system: str, what: str, names: list[str], partition: str = BENCH, more: str = ""
    ) -> Iterator[Hub]:
        folder = self._folder(what, system)
        jobs = {name: self._jobs[name] for name in names}
        sessions.seed(self._folder("template", system), folder, jobs, IDLE_PORT)
        with hub(system, folder, self._extra, partition, names, more) as running:
            yield running
            if names and running.ready() < len(names):
                raise SystemExit(f"bench: {system} has lost sessions. Its log:\n{running.log[-4000:]}")

    def _watch(self, figure: str, running: Hub, case: int, round_: int) -> None:
        with self._sample(figure, running.system, case, round_) as values:
            own, commands = running.cpu()
            count = Count()
            time.sleep(60 * self._plan.minutes)
            rpcs, seconds = count.so_far()
            own_after, commands_after = running.cpu()
            values["rpcs"] = rpcs.total() * 60 / seconds
            values["types"] = dict(rpcs.most_common(6))
            values["cpu"] = (own_after - own) * 60 / seconds
            values["commands"] = (commands_after - commands) * 60 / seconds
            values["rss"], values["pss"] = running.memory()

    def run(self) -> None:
        """Measure everything that is wanted."""
        for round_ in range(self._plan.rounds):
            if self._plan.wants(3, 4, 5):
                demo.say(f"round {round_ + 1}: clicks, a class, pages")
                self.starts(round_)
        if self._plan.wants(1, 2, 6, 7):
            self.prepare_idle()
        for round_ in range(self._plan.rounds):
            if self._plan.wants(1, 6):
                demo.say(f"round {round_ + 1}: idle sessions")
                self.idle(round_)
            if self._plan.wants(2):
                demo.say(f"round {round_ + 1}: pending jobs")
                self.pending(round_)
            if self._plan.wants(7):
                demo.say(f"round {round_ + 1}: open dashboards")
                self.streams(round_)


async def _click(system: str, name: str) -> None:
    browsers = await clicks.logged_in(clicks.client(1), URL, [name])
    if (fields := form(system, BENCH)) is not None:
        await browsers[0].page()
    await browsers[0].click(fields)


async def _click_and_leave(system: str, names: list[str]) -> None:
    """Press Start, and do not wait for the session."""
    fields = form(system, WAIT)
    browsers = await clicks.logged_in(clicks.client(len(names)), URL, names)
    if fields is not None:
        for browser in browsers:
            await browser.page()
    for first in range(0, len(browsers), 10):
        answers = await asyncio.gather(*(browser.start(fields) for browser in browsers[first : first + 10]))
        for answer in answers:
            if answer.code >= 400:
                raise clicks.ClickError(f"{system}: {answer.code} {answer.body[:1000]!r}")


def main() -> None:
    """Bring the cluster up, measure, end everything."""
    told = json.loads(sys.argv[1])
    layout = site.BenchLayout(checkout())
    settings = demo.Settings(**told["settings"])
    usage = site.join_cgroup(layout)
    services = Services(layout.logs)

    def end(_number: int, _frame: object) -> None:
        raise SystemExit("bench: interrupted")

    signal.signal(signal.SIGTERM, end)
    try:
        demo.say("starting the cluster")
        site.bring_up(layout, settings, services)
        extra = {"proxy": settings.proxy, "peers": told["peers"]}
        work = Path("/var/lib/bench")
        work.mkdir(mode=0o700)
        try:
            Bench(Plan(**told["plan"]), extra, Path(told["found"]), usage, work).run()
        except (clicks.ClickError, TimeoutError) as error:
            kept = layout.state / "overlay" / "var-lib" / "bench"
            raise SystemExit(f"bench: {error}\nThe hubs' logs are in {kept}.") from error
        demo.say("measured")
    finally:
        services.stop()


if __name__ == "__main__":
    main()
