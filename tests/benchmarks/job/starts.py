"""Figures 3, 4 and 5: one click, a class that clicks, the start page; and the floors that Slurm sets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shlex
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Sequence

from tornado.httpclient import AsyncHTTPClient

from carme_hub.demo.layout import NODES
from tests.benchmarks.job import clicks
from tests.benchmarks.job.controller import Count
from tests.benchmarks.job.plan import PAGES
from tests.benchmarks.job.site import BENCH, PEOPLE, as_person, cancel
from tests.benchmarks.job.systems import CONTAINER, IMAGE, MEMORY, SERVER, TIME, URL, form

SRUN, SBATCH = "srun", "sbatch"
CLICKS = 10  # one after the other, per round
CLASS = 30
CLASS_SECONDS = 1.0
ASKING = 50
PAUSE = 1.0  # seconds between two pages of one person
FIRST_PORT = 20000
LOOK = 0.01  # seconds between two looks whether the floor's server answers


def one_by_one(system: str) -> list[float]:
    """Return the seconds of single clicks."""

    async def click() -> list[float]:
        client = clicks.client(CLICKS)
        browsers = await clicks.logged_in(client, URL, PEOPLE[:CLICKS])
        fields = form(system, BENCH)
        seconds = []
        for browser in browsers:
            if fields is not None:
                await browser.page()
            seconds.append(await browser.click(fields))
            await asyncio.sleep(1)  # what the last start left behind is not this one's
        return seconds

    return asyncio.run(click())


def a_class(system: str) -> float:
    """Return the seconds from the first of 30 clicks until the last session works."""

    async def click() -> float:
        client = clicks.client(CLASS)
        browsers = await clicks.logged_in(client, URL, PEOPLE[CLICKS : CLICKS + CLASS])
        fields = form(system, BENCH)
        if fields is not None:
            for browser in browsers:
                await browser.page()

        async def one(number: int, browser: clicks.Browser) -> None:
            await asyncio.sleep(CLASS_SECONDS * number / CLASS)
            await browser.click(fields)

        began = time.monotonic()
        await asyncio.gather(*(one(number, browser) for number, browser in enumerate(browsers)))
        return time.monotonic() - began

    return asyncio.run(click())


def pages(system: str) -> tuple[list[float], float] | None:
    """Return the seconds of each page, and RPCs per page; None where there is no page."""
    if form(system, BENCH) is None:
        return None

    async def ask() -> tuple[list[float], float]:
        client = clicks.client(ASKING)
        browsers = await clicks.logged_in(client, URL, PEOPLE[-ASKING:])
        for browser in browsers:
            await browser.page()  # templates are compiled, rows exist
        chance = random.Random(4)  # noqa: S311 - the same in every run

        async def one(browser: clicks.Browser) -> list[float]:
            await asyncio.sleep(chance.uniform(0, PAUSE))
            seconds = []
            for _ in range(PAGES):
                seconds.append(await browser.page())
                await asyncio.sleep(PAUSE)
            return seconds

        count = Count()
        found = [seconds for each in await asyncio.gather(*map(one, browsers)) for seconds in each]
        return found, count.so_far()[0].total() / len(found)

    return asyncio.run(ask())


@contextlib.asynccontextmanager
async def _started(command: str, number: int) -> AsyncIterator[str]:
    """Start the server in the container with srun or sbatch, as a person; yield its address."""
    node, address = list(NODES.items())[number % len(NODES)]
    port = FIRST_PORT + number
    words = [command, f"--partition={BENCH}", f"--nodelist={node}", f"--mem={MEMORY}", f"--time={TIME}"]
    server = [*CONTAINER, IMAGE, SERVER]
    words += server if command == SRUN else ["--output=/dev/null"]
    person = as_person(PEOPLE[number])
    person["env"] = {**person["env"], "JUPYTERHUB_SERVICE_URL": f"http://0.0.0.0:{port}/"}  # type: ignore[dict-item]
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **person,  # type: ignore[arg-type]
    )
    if command == SBATCH:
        process.stdin.write(f"#!/bin/sh\nexec {shlex.join(server)}\n".encode())
    process.stdin.close()
    try:
        yield f"http://{address}:{port}/"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        await process.wait()


async def _floor(
    client: AsyncHTTPClient, command: str, number: int, answered: Sequence[asyncio.Event]
) -> float:
    began = time.monotonic()
    async with _started(command, number) as url:
        while True:
            with contextlib.suppress(OSError):
                if (await client.fetch(url, raise_error=False)).code == 200:
                    break
            if time.monotonic() - began > clicks.PATIENCE:
                raise clicks.ClickError(f"{command}'s server {number} did not answer")
            await asyncio.sleep(LOOK * len(answered))
        seconds = time.monotonic() - began
        answered[number].set()
        for event in answered:  # all of them run until the last one answers, as a class does
            await event.wait()
    return seconds


def floor_one_by_one(command: str) -> list[float]:
    """Return the seconds of single starts."""

    async def run() -> list[float]:
        client = clicks.client(1)
        seconds = []
        for _ in range(CLICKS):
            seconds.append(await _floor(client, command, 0, [asyncio.Event()]))
            await asyncio.to_thread(cancel, BENCH)
            await asyncio.sleep(1)
        return seconds

    return asyncio.run(run())


def floor_of_a_class(command: str) -> float:
    """Return the seconds from the first of 30 starts until the last server answers."""

    async def run() -> float:
        client = clicks.client(CLASS)
        answered = [asyncio.Event() for _ in range(CLASS)]

        async def one(number: int) -> float:
            late = CLASS_SECONDS * number / CLASS
            await asyncio.sleep(late)
            return late + await _floor(client, command, number, answered)

        return max(await asyncio.gather(*map(one, range(CLASS))))

    seconds = asyncio.run(run())
    cancel(BENCH)
    return seconds
