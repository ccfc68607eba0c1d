"""``api/events``: the one connection over which an open page hears of everything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tornado.httputil import url_concat
from tornado.iostream import StreamClosedError
from tornado.log import app_log

from carme_hub.service.base import ApiHandler
from carme_hub.service.refusal import Refused
from carme_hub.service.streams import Stream

if TYPE_CHECKING:
    from carme_hub.service.site import Site

BEAT_SECONDS = 20.0  # web servers close what is silent for a minute (nginx' proxy_read_timeout)
LOGIN_SECONDS = 5.0  # between two looks at which logins still hold
MAX_LINE = 4 << 20  # bytes that may wait for one reader
TOO_MANY = "So many pages of yours are open that this one shows no news by itself. Close some of them."


class Events(ApiHandler):
    """An endless answer (Server-Sent Events): `sessions`, `cluster`, `news`, `notices`, `away`."""

    def nobody(self) -> None:
        """Send a page of the hub's, whose reader has not been here yet, to the hub and back.

        The hub lets a script do that only with the hub's own XSRF token, which such a page has.
        """
        if not (hub := self.get_query_argument("hub", "")):
            super().nobody()
        self.redirect(url_concat(self.get_login_url(), {"_xsrf": hub}))

    async def get(self) -> None:
        """Take the connection over: from here on `Streams` writes to it."""
        streams = self.site.streams
        if streams.full(self.person.name):
            raise Refused(429, TOO_MANY)
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")  # nginx hands on what comes, at once
        self.set_header("Connection", "close")  # its end is the answer's end
        head = "".join(f"{name}: {value}\r\n" for name, value in self._headers.get_all())
        line = self.detach()
        line.max_write_buffer_size = MAX_LINE
        try:
            # Browsers call it open when the first byte of the body is there.
            await line.write(f"HTTP/1.1 200 OK\r\n{head}\r\n:\n\n".encode())
        except StreamClosedError:
            return
        await streams.add(Stream(line, self.person.name, self.person.token_id))


async def beat(site: Site) -> None:
    """Keep the streams alive."""
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        site.streams.beat()


async def look_at_logins(site: Site) -> None:
    """Close the streams of those who signed out, whose token was revoked, or whose login has expired."""
    while True:
        await asyncio.sleep(LOGIN_SECONDS)
        tokens = site.streams.tokens()
        if not tokens:
            continue
        try:
            answer = await site.ask_hub("POST", "/carme/logins", {"tokens": sorted(tokens)})
        except Refused as refusal:
            # Nobody can sign out at a hub that is away.
            app_log.warning("Which logins still hold cannot be asked: %s", refusal.sentence)
            continue
        if ended := set(answer["ended"]):
            app_log.info("%d streams end with their logins", site.streams.end(ended))


routes = [(r"api/events", Events)]
background = [beat, look_at_logins]
