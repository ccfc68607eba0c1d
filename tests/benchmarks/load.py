"""Everybody has the login page open, and sends it at one instant."""

from __future__ import annotations

import asyncio
import http.cookies
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from carme_hub.demo import ldap

QUIET_SECONDS = 2.0  # in which nobody logs in, to compare with

Codes = Mapping[str, Callable[[], str]]


class Browser:
    """Somebody with a login page."""

    def __init__(self, client: AsyncHTTPClient, url: str, person: ldap.Person, patience: float) -> None:
        self._client = client
        self._url = f"{url}/hub/login"
        self._person = person
        self._patience = patience
        self._cookies: dict[str, str] = {}

    async def open_page(self) -> None:
        answer = await self._client.fetch(self._url, request_timeout=self._patience)
        for header in answer.headers.get_list("Set-Cookie"):
            parsed = http.cookies.SimpleCookie(header)
            self._cookies |= {name: morsel.value for name, morsel in parsed.items()}

    def form(self, codes: Codes) -> HTTPRequest:
        """The page filled in, ready to be sent."""
        name = self._person.username
        fields = {"_xsrf": self._cookies["_xsrf"], "username": name, "password": self._person.password}
        if name in codes:
            fields["otp"] = codes[name]()
        return HTTPRequest(
            f"{self._url}?next=%2Fhub%2Ftoken",
            method="POST",
            headers={"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())},
            body=urlencode(fields),
            follow_redirects=False,
            connect_timeout=self._patience,
            request_timeout=self._patience,
        )

    async def send(self, form: HTTPRequest, start: float) -> tuple[float, int]:
        """Log in; the seconds since `start`, and the status."""
        answer = await self._client.fetch(form, raise_error=False)
        return time.monotonic() - start, answer.code


async def log_everybody_in(
    url: str, people: Sequence[ldap.Person], codes: Codes, patience: float
) -> tuple[float, list[tuple[float, int]]]:
    """
    Open the page for everybody, be quiet, send all forms.

    Returns
    -------
    tuple of float and list
        The instant they were sent (`time.monotonic`); seconds from then and status for each person.
    """
    client = AsyncHTTPClient(force_instance=True, max_clients=len(people))
    browsers = [Browser(client, url, person, patience) for person in people]
    await asyncio.gather(*(browser.open_page() for browser in browsers))
    await asyncio.sleep(QUIET_SECONDS * 1.1)
    forms = [browser.form(codes) for browser in browsers]
    start = time.monotonic()
    sent = [browser.send(form, start) for browser, form in zip(browsers, forms, strict=True)]
    done = await asyncio.gather(*sent)
    client.close()
    return start, done
