"""Which requests are a person's own look at a page, and which a script's, by what browsers say of them.

Sessions share the hub's origin unless each has a host of its own: a script on a session's page may fetch the
hub's pages with its reader's cookies, and read them. So what a page's own scripts prove themselves with is in
an answer to a navigation only. (https://www.w3.org/TR/fetch-metadata/; no script can set these headers.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

WORKER = "No service worker may come from here."
# A window that a session's page opens is no window of its own any more; it could be read like a frame else.
OPENER = ("Cross-Origin-Opener-Policy", "same-origin")


def navigates(headers: Mapping[str, str]) -> bool:
    """Say whether the answer becomes a page of its own, in a tab: no frame, and nothing for a script.

    Browsers too old for these headers, and programs, send none of them.
    """
    mode, dest = headers.get("Sec-Fetch-Mode", "navigate"), headers.get("Sec-Fetch-Dest", "document")
    return mode == "navigate" and dest == "document"


def saves(headers: Mapping[str, str]) -> bool:
    """Say whether the answer goes into a file (``<a download>``), where no script reads it."""
    return headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "empty"


def registers_worker(headers: Mapping[str, str]) -> bool:
    """Say whether the answer would become a service worker, which answers in the hub's place from then on."""
    return "Service-Worker" in headers or headers.get("Sec-Fetch-Dest") == "serviceworker"
