"""Somebody with a browser: logs in, has the start page open, clicks, and waits until the session answers."""

from __future__ import annotations

import asyncio
import http.cookies
import json
import time
from collections.abc import Mapping
from urllib.parse import urlencode, urljoin, urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPResponse

PATIENCE = 300  # seconds
REDIRECTS = 50


class ClickError(Exception):
    """The session did not come up."""


class Browser:
    """One person's browser. It does what JupyterHub's pages and their scripts make a browser do."""

    def __init__(self, client: AsyncHTTPClient, url: str, name: str) -> None:
        self._client = client
        self._url = url
        self.name = name
        self._cookies: dict[tuple[str, str], str] = {}  # path and name

    async def _ask(self, path: str, **options: object) -> HTTPResponse:
        where = urlsplit(path).path
        sent = [
            f"{name}={value}" for (below, name), value in self._cookies.items() if where.startswith(below)
        ]
        answer = await self._client.fetch(
            urljoin(self._url, path),
            headers={
                "Cookie": "; ".join(sent),
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Site": "same-origin",
            },
            raise_error=False,
            follow_redirects=False,
            connect_timeout=PATIENCE,
            request_timeout=PATIENCE,
            **options,
        )
        for header in answer.headers.get_list("Set-Cookie"):
            for name, morsel in http.cookies.SimpleCookie(header).items():
                self._cookies[morsel["path"] or "/", name] = morsel.value
        return answer

    @property
    def _xsrf(self) -> str:
        return self._cookies["/hub/", "_xsrf"]

    async def log_in(self) -> None:
        """Come in, which is not measured here."""
        await self._ask("/hub/login")
        fields = {"username": self.name, "password": "", "_xsrf": self._xsrf}
        answer = await self._ask("/hub/login?next=%2Fhub%2Ftoken", method="POST", body=urlencode(fields))
        if answer.code != 302:
            raise ClickError(f"{self.name} cannot log in: {answer.code} {answer.body[:500]!r}")
        await self._ask("/hub/token")

    async def page(self) -> float:
        """Open the start page; the seconds it took."""
        began = time.monotonic()
        answer = await self._ask(f"/hub/spawn/{self.name}")
        if answer.code != 200:
            raise ClickError(f"{self.name}'s start page: {answer.code} {answer.body[:500]!r}")
        return time.monotonic() - began

    async def start(self, form: Mapping[str, str] | None) -> HTTPResponse:
        """Press Start; where the page is no form, the visit is the click."""
        if form is None:
            return await self._ask(f"/hub/spawn/{self.name}")
        fields = {**form, "_xsrf": self._xsrf}
        return await self._ask(
            f"/hub/spawn/{self.name}?_xsrf={self._xsrf}", method="POST", body=urlencode(fields)
        )

    async def click(self, form: Mapping[str, str] | None) -> float:
        """
        Press Start and go where the pages lead until the session itself answers.

        Returns
        -------
        float
            Seconds from the click.
        """
        began = time.monotonic()
        answer = await self.start(form)
        for _ in range(REDIRECTS):
            if answer.headers.get("X-Stand-In") == "usable":
                return time.monotonic() - began
            if answer.code in {301, 302, 303}:
                path = urljoin(answer.request.url, answer.headers["Location"])
            elif answer.code == 200 and "/spawn-pending/" in answer.effective_url:
                path = await self._ready()
            elif answer.code in {424, 503} and "/hub/user/" in answer.effective_url:
                await asyncio.sleep(0.1)  # its page asks to be loaded again
                path = f"/user/{self.name}/"
            else:
                break
            parts = urlsplit(path)
            answer = await self._ask(parts._replace(scheme="", netloc="").geturl())
        raise ClickError(
            f"{self.name}'s session did not come up: {answer.code} at {answer.effective_url}: "
            f"{answer.body[:2000]!r}"
        )

    async def stop(self) -> None:
        """Stop the session, and wait until it is gone."""
        path = f"/hub/api/users/{self.name}/server?_xsrf={self._xsrf}"
        answer = await self._ask(path, method="DELETE")
        while answer.code == 202:
            await asyncio.sleep(0.2)
            answer = await self._ask(path, method="DELETE")
        # 400: it is gone.
        if answer.code not in {204, 400, 404}:
            raise ClickError(f"{self.name}'s session cannot be stopped: {answer.code} {answer.body[:500]!r}")

    async def _ready(self) -> str:
        """Listen to the start's progress, as the waiting page's script does; return where it leads."""
        seen: list[dict[str, object]] = []
        rest = b""
        ready = asyncio.get_running_loop().create_future()

        def take(chunk: bytes) -> None:
            nonlocal rest
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    seen.append(event)
                    if (event.get("ready") or event.get("failed")) and not ready.done():
                        ready.set_result(event)

        path = f"/hub/api/users/{self.name}/server/progress?_xsrf={self._xsrf}"
        asked = asyncio.ensure_future(self._ask(path, streaming_callback=take))
        await asyncio.wait([asked, ready], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            answer = await asked
            raise ClickError(f"{self.name}'s progress ended with {answer.code}: {seen[-3:]}")
        asked.add_done_callback(lambda task: task.cancelled() or task.exception())
        event = ready.result()
        if event.get("failed"):
            raise ClickError(f"{self.name}'s session failed: {event}")
        return str(event["url"])


def client(people: int) -> AsyncHTTPClient:
    return AsyncHTTPClient(force_instance=True, max_clients=4 * people + 10)


async def logged_in(http_client: AsyncHTTPClient, url: str, names: list[str]) -> list[Browser]:
    """Log people in, a few at a time."""
    browsers = [Browser(http_client, url, name) for name in names]
    for first in range(0, len(browsers), 10):
        await asyncio.gather(*(browser.log_in() for browser in browsers[first : first + 10]))
    return browsers
