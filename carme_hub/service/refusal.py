"""A request that is not fulfilled, with a sentence for the person."""

from __future__ import annotations

from tornado.web import HTTPError

NO_HUB = "The hub does not answer at the moment. Please try again in a minute."
RELOAD = "This page is not from your current login any more. Please load it again."

# What is said where nobody found better words: what happened, what next.
SENTENCES = {
    400: "The request could not be understood.",
    403: "You may not do that.",
    404: "There is no such page.",
    405: "This address does not take such requests.",
    413: "The request is too large.",
    500: "Something went wrong here. The administrators find it in the log.",
    502: NO_HUB,
    503: NO_HUB,
}


class Refused(HTTPError):  # noqa: N818  it reads as what happened
    """
    An answer with a sentence, for pages and API alike.

    Parameters
    ----------
    status
        The HTTP status.
    sentence
        What happened, to what, what to do next. It is shown as it is.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(status)
        self.sentence = sentence


def sentence_of(status: int, error: BaseException | None) -> str:
    """Return what a person reads of an error; details stay in the log."""
    if isinstance(error, Refused):
        return error.sentence
    return SENTENCES.get(status, SENTENCES[500 if status >= 500 else 400])  # noqa: PLR2004  HTTP's own classes
