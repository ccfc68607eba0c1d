"""What the server writes to the session's log: failures of people who are in, in short lines.

The log lies in the owner's home. So nobody who is not in can write to it at will, and no line is as long as
what somebody sent. The log as a whole is bounded by the program around the server.
"""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Any

from jupyter_server.prometheus.log_functions import prometheus_log_method
from tornado.log import access_log

from .guard import stranger

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 400  # characters of a line about a request
LONGEST_RECORD = 4000  # of anything else, a traceback included
LONGEST_OF_STRANGERS = 1000
STRANGERS_ERRORS = 10  # mistakes of ours that strangers can cause, an hour
FAILED, OURS = 400, 500  # HTTP's classes
HOUR = 3600.0
# The arguments of an address: there may be tokens in them.
_ARGUMENTS = re.compile(r"(/[^\s?'\"]*)\?[^\s'\")]+")


def answered(handler: Any) -> None:
    """Note how a request was answered: tornado's ``log_function``."""
    if stranger.get() is not False:
        return
    # Counted by the request's method: a stranger's may be any word, and each would be kept.
    prometheus_log_method(handler)
    status = handler.get_status()
    if status < FAILED:
        return
    request = handler.request
    # The address goes without its arguments: there are tokens in them.
    line = f"{status} {request.method} {request.path!a} {1000 * request.request_time():.0f} ms"
    access_log.log(logging.ERROR if status >= OURS else logging.WARNING, "%s", cut(line, LONGEST))


def cut(text: str, longest: int) -> str:
    """Return a text, or its two ends when it is too long."""
    if len(text) <= longest:
        return text
    half = (longest - 40) // 2
    return f"{text[:half]} ... {len(text) - 2 * half} characters ... {text[-half:]}"


class Short(logging.Filter):
    """Lets through what belongs into a session's log, cut.

    Parameters
    ----------
    clock
        Seconds; for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._hour, self._errors = -HOUR, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is written, and shorten it."""
        unknown = stranger.get()
        if unknown and not self._allows(record):
            return False
        longest = LONGEST_OF_STRANGERS if unknown else LONGEST_RECORD
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        record.msg, record.args = cut(_ARGUMENTS.sub(r"\1?...", text), longest), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = cut(record.exc_text, longest)
        return True

    def _allows(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            return False
        if self._clock() - self._hour >= HOUR:
            self._hour, self._errors = self._clock(), 0
        self._errors += 1
        return self._errors <= STRANGERS_ERRORS


def setup(serverapp: Any) -> None:
    """Bound the log of a server, once all other parts of it have had their say."""
    short = Short()
    make = serverapp.init_httpserver

    def init_httpserver() -> None:
        serverapp.web_app.settings["log_function"] = answered
        for handler in (*serverapp.log.handlers, *logging.getLogger().handlers):
            handler.addFilter(short)
        make()

    serverapp.init_httpserver = init_httpserver
