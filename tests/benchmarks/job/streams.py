"""Figure 7: what open dashboards cost hub and service, while sessions start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.request
from collections import Counter
from collections.abc import Sequence
from urllib.parse import urlsplit

from carme_hub.service import registration
from tests.benchmarks.job import clicks
from tests.benchmarks.job.site import BENCH, PEOPLE
from tests.benchmarks.job.systems import OURS, URL, Hub, form

STREAMS = (0, 200, 1000)  # open at once; none is what everything else costs
IDLE = 200  # sessions that run all the time
STARTERS = 10  # people who start and stop a session over and over
KEPT = 3.0  # seconds that each of those sessions is kept
EACH = 5  # streams of one person at most; the service allows 20
SETTLE = 5.0  # seconds from the last stream's opening to the measurement

# The hub's service, and its own token's right to make tokens for people: nobody types codes here.
CONFIGURATION = """
from jupyterhub.auth import DummyAuthenticator
from carme_hub.gate import WithService
from carme_hub.records.attach import attach
from carme_hub.service import registration
class Gate(WithService, DummyAuthenticator):
    def __init__(self, **traits):
        super().__init__(**traits)
        attach("sqlite:///{folder}/carme.sqlite", self.log)
c.JupyterHub.authenticator_class = Gate
c.CarmeAuthenticator.database_url = "sqlite:///{folder}/carme.sqlite"
registration.register(c, registration.URL)
roles = {role["name"]: role for role in c.JupyterHub.load_roles}
roles["bench"]["scopes"].append("tokens")
# The sessions' owners were entered into the database, and never came in.
roles["user"]["users"] = [f"u{number:03}" for number in range(1, 201)]
"""


def owners(number: int, names: Sequence[str]) -> list[str]:
    """Return whose each of so many streams is: of those who start sessions, and of many who have one."""
    people = [*PEOPLE[:STARTERS], *names]
    if number > EACH * len(people):
        raise ValueError(f"{number} streams need {-(-number // EACH)} people")
    return [people[i % len(people)] for i in range(number)]


def token(running: Hub, name: str) -> str:
    """Make somebody a token for the service."""
    request = urllib.request.Request(  # noqa: S310 - the hub's own address
        f"{URL}/hub/api/users/{name}/tokens",
        data=json.dumps(
            {"scopes": [f"access:services!service={registration.NAME}", "read:servers!user"]}
        ).encode(),
        headers={"Authorization": f"token {running.token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
        return str(json.loads(answer.read())["token"])


class Pages:
    """Open dashboards; they count what they hear."""

    def __init__(self) -> None:
        self.heard: Counter[str] = Counter()
        self._lines: list[asyncio.StreamWriter] = []
        self._reading: list[asyncio.Task[None]] = []

    async def open(self, bearer: str) -> None:
        """Open one."""
        address = urlsplit(URL)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = [
            f"GET /services/{registration.NAME}/api/events HTTP/1.1",
            f"Host: {address.netloc}",
            f"Authorization: token {bearer}",
        ]
        writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in answer.splitlines()[0]:
            raise clicks.ClickError(f"no stream: {answer!r}")
        self._lines.append(writer)
        self._reading.append(asyncio.create_task(self._read(reader)))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            if line.startswith(b"event: "):
                self.heard[line[7:].decode().strip()] += 1
        raise clicks.ClickError("a stream has ended")

    async def close(self) -> None:
        """Close all; whatever ended by itself is an error."""
        ended = [one for one in self._reading if one.done()]
        for one in self._reading:
            one.cancel()
        for line in self._lines:
            line.close()
        await asyncio.gather(*self._reading, return_exceptions=True)
        if ended:
            raise clicks.ClickError(f"{len(ended)} streams have ended by themselves")


async def _start_and_stop(browser: clicks.Browser, done: Counter[str]) -> None:
    while True:
        # A start that fails, as on a machine that others keep busy, is a change as well.
        with contextlib.suppress(clicks.ClickError):
            await browser.click(form(OURS, BENCH))
            done["starts"] += 1
        await asyncio.sleep(KEPT)
        await browser.stop()


async def measure(running: Hub, names: Sequence[str], number: int, seconds: float) -> dict[str, object]:
    """
    Open so many dashboards, let sessions start and stop, and return what that cost.

    Returns
    -------
    dict
        "hub", "service" (seconds of processor time a minute), "rss" (MiB, of the service), "events" (all that
        the dashboards heard, a minute), "starts" (of sessions, a minute).
    """
    pages, done = Pages(), Counter[str]()
    # The service comes up beside the hub, and is not waited for there.
    async with asyncio.timeout(60):
        while not (service := running.service()):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)
    whose = owners(number, names)
    browsers = await clicks.logged_in(clicks.client(STARTERS), URL, PEOPLE[:STARTERS])
    for browser in browsers:
        await browser.page()
    bearers = {name: await asyncio.to_thread(token, running, name) for name in sorted(set(whose))}
    for first in range(0, len(whose), 20):
        await asyncio.gather(*(pages.open(bearers[name]) for name in whose[first : first + 20]))
    starting = [asyncio.create_task(_start_and_stop(browser, done)) for browser in browsers]
    try:
        await asyncio.sleep(SETTLE)
        hub, own, heard, starts = running.cpu()[0], service.cpu(), pages.heard.total(), done["starts"]
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        minutes = (asyncio.get_running_loop().time() - began) / 60
        found: dict[str, object] = {
            "hub": (running.cpu()[0] - hub) / minutes,
            "service": (service.cpu() - own) / minutes,
            "rss": service.memory(),
            "events": (pages.heard.total() - heard) / minutes,
            "starts": (done["starts"] - starts) / minutes,
        }
        for task in starting:
            if task.done():
                task.result()
    finally:
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        with contextlib.suppress(clicks.ClickError):
            for browser in browsers:
                await browser.stop()
        await pages.close()
    return found
