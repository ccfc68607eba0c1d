"""``/hub/security/csp-report``: where browsers tell of what a page's Content-Security-Policy stopped.

A browser sends its report with its cookies and without a token of the page, which JupyterHub refuses; and
from whoever is in it takes any text of any length, and writes it into the log as it is.
"""

from __future__ import annotations

import json
import time
from collections import deque
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.metrics import CSP_REPORT_COUNT

LONGEST = 4096  # bytes
LONGEST_FIELD = 120  # characters
MOST, EACH = 5, 60.0  # reports of one person in so many seconds
PEOPLE = 1000  # of whom it is remembered when they reported
# What a field is called, by the older way to report and by the newer one.
FIELDS = {
    "page": ("document-uri", "documentURL"),
    "rule": ("effective-directive", "effectiveDirective", "violated-directive"),
    "stopped": ("blocked-uri", "blockedURL"),
    "source": ("source-file", "sourceFile"),
    "line": ("line-number", "lineNumber"),
}
ADDRESSES = {"page", "stopped", "source"}


def _shown(value: object, name: str) -> str:
    text = str(value)[: 8 * LONGEST_FIELD] if isinstance(value, str | int) else ""
    if name in ADDRESSES:
        try:
            address = urlsplit(text)
        except ValueError:
            return ""
        # No query: there are codes and tokens in it.
        text = address._replace(query="", fragment="", netloc=address.netloc.rpartition("@")[2]).geturl()
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)[:LONGEST_FIELD]


def line_of(body: bytes) -> str:
    """Return what a report says, in one line; empty when it is none.

    Parameters
    ----------
    body
        What the browser sent: ``{"csp-report": {...}}`` or a list of reports, the first of which counts.
    """
    if len(body) > LONGEST:
        return ""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if isinstance(told, list):
        told = told[0] if told else None
    report = (told.get("csp-report") or told.get("body")) if isinstance(told, dict) else None
    if not isinstance(report, dict):
        return ""
    found = {
        field: next((report[name] for name in names if name in report), "") for field, names in FIELDS.items()
    }
    shown = {field: _shown(value, field) for field, value in found.items()}
    return " ".join(f"{field}={value!r}" for field, value in shown.items() if value)


class Turns:
    """Lets each person report a few times, and then waits."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}

    def take(self, name: str, now: float) -> bool:
        """Say whether somebody may report now."""
        times = self._times.pop(name, deque(maxlen=MOST))
        self._times[name] = times  # the last one now
        if len(self._times) > PEOPLE:
            del self._times[next(iter(self._times))]
        if len(times) == MOST and now - times[0] < EACH:
            return False
        times.append(now)
        return True


class CspReports(BaseHandler):  # type: ignore[misc]  # JupyterHub ships no types
    """Takes reports."""

    turns = Turns()

    def check_xsrf_cookie(self) -> None:
        """Do nothing: a browser sends no token with a report, and nothing is changed by one."""

    def set_default_headers(self) -> None:
        """Answer without a policy: there is nothing in the answer."""

    def post(self) -> None:
        """Write a line; of somebody who is not in, none."""
        self.set_status(204)
        user: Any = self.current_user
        if user is None or not self.turns.take(user.name, time.monotonic()):
            return
        line = line_of(self.request.body)
        if line:
            self.log.warning("A page of %s wanted what its policy forbids: %s", user.name, line)
            CSP_REPORT_COUNT.inc()


handlers: list[tuple[str, type]] = [(r"/security/csp-report", CspReports)]
