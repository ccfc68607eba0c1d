"""The hub's API, as somebody: as a person by their token, or as the service by its own."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import aiohttp
from jupyterhub.httpclient import fetch

from carme_hub.service.refusal import NO_HUB, Refused

if TYPE_CHECKING:
    import ssl

TIME_OUT = 15.0  # seconds for one call
CLIENT_ERROR, SERVER_ERROR = 400, 500


@dataclass(frozen=True)
class HubApi:
    """Calls ``/hub/api``.

    Attributes
    ----------
    url : str
        The API's address, as the service reaches it.
    tls : ssl.SSLContext or None
        Our certificate, when the site has TLS between its parts (``JupyterHub.internal_ssl``).
    """

    url: str
    tls: ssl.SSLContext | None = None

    async def call(
        self, token: str, method: str, path: str, body: object = None, time_out: float = TIME_OUT
    ) -> Any:
        """
        Send one request, and return what the JSON of the answer says; None for an empty one.

        Parameters
        ----------
        token
            Of whoever asks.
        path
            Below ``/hub/api``; names in it are quoted by the caller: ``quote(name, safe="")``.
        body
            What is sent as JSON; None sends nothing.
        time_out
            Seconds for all of it.

        Raises
        ------
        Refused
            The hub refused (its sentence and status), or does not answer (503).
        ValueError
            The path leads out of the API. It was not quoted.
        """
        if not path.startswith("/") or ".." in unquote(urlsplit(path).path).split("/"):
            raise ValueError(f"{path!r} is no path of the hub's API")
        headers = {"Authorization": f"token {token}"}
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            async with asyncio.timeout(time_out):
                answer = await fetch(
                    self.url + path,
                    method=method,
                    data=data,
                    headers=headers,
                    raise_for_status=False,
                    allow_redirects=False,
                    ssl=self.tls or True,
                )
                async with answer:
                    text = await answer.read()
                    status = answer.status
        except (TimeoutError, aiohttp.ClientError, OSError):
            raise Refused(503, NO_HUB) from None
        return _read(status, text)


def _read(status: int, text: bytes) -> Any:
    try:
        value = json.loads(text) if text.strip() else None
    except ValueError:
        raise Refused(503, NO_HUB) from None  # a proxy's own page
    if status < CLIENT_ERROR:
        return value
    said = value.get("message") if isinstance(value, dict) else None
    if status >= SERVER_ERROR:
        raise Refused(503, str(said) if said and status == 503 else NO_HUB)  # noqa: PLR2004
    raise Refused(status, str(said or "The hub refused that."))
