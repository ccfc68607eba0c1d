"""A start that fails, as the hub's pages and its API show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyterhub.spawner import SpawnException
from tornado import web

from carme_hub.spawner import failure

if TYPE_CHECKING:
    from collections.abc import Sequence


class SessionError(SpawnException):  # type: ignore[misc]  # JupyterHub has no types
    """A start that fails, with the sentence where the hub's pages look for it.

    Attributes
    ----------
    field
        The option it is about (`carme_hub.spawner.request.FIELDS`); empty for none.
    log
        The end of the session's log as plain text: what the session wrote, which is its owner's.
    short
        The sentence without the option's name, for a place where that is said already.
    mistakes
        Where several options are wrong: each with its ``short``, this error's own among them.
    """

    def __init__(
        self,
        sentence: str,
        *,
        reason: str,
        status_code: int,
        log: str = "",
        field: str = "",
        short: str = "",
        mistakes: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(sentence, reason=reason, status_code=status_code)
        self.field = field
        self.log = failure.last_lines(log)
        self.short = short or sentence
        self.mistakes = tuple(mistakes) or ((field, self.short),)
        self.jupyterhub_message = sentence
        if log:
            self.jupyterhub_html_message = failure.as_html(sentence, log)


class HubFault(web.HTTPError):
    """A start that fails by no fault of its person or of what was asked for: nobody's would succeed now.

    No `SpawnException`, which is a refusal to JupyterHub: this one has ``status="error"`` in the metrics, and
    counts for ``consecutive_failure_limit``. Nothing that one person can bring about may be one, or that
    person could end the hub.

    Attributes
    ----------
    log
        As a `SessionError` has it; empty, since there was no session.
    """

    log = ""

    def __init__(self, sentence: str, *, reason: str, status_code: int) -> None:
        super().__init__(status_code, sentence, reason=reason)
        self.jupyterhub_message = sentence
