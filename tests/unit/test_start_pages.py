"""The parts of the waiting page's handlers that need no hub; the rest is walked through in tests/browser."""

from types import SimpleNamespace

import pytest
from jupyterhub import handlers
from jupyterhub.handlers.base import UserUrlHandler
from jupyterhub.handlers.pages import SpawnPendingHandler

from carme_hub.spawner import start_pages
from carme_hub.spawner.errors import SessionError
from carme_hub.spawner.start_pages import NO_ANSWER, OUR_FAULT, clock, options_of, sentence_of


def late():
    error = TimeoutError()
    error.reason = "timeout"  # what jupyterhub.user writes on it
    return error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (SessionError("It is <full>.", reason="died", status_code=500), "It is <full>."),
        (late(), NO_ANSWER),
        (KeyError("password"), OUR_FAULT),
        (None, ""),
    ],
)
def test_a_person_reads_a_sentence_and_never_an_exception(error, sentence):
    assert sentence_of(error) == sentence


def test_an_error_keeps_the_end_of_the_log_as_plain_text():
    log = "".join(f"line {number}\n" for number in range(50)) + "\x1b[31m<b>red</b>\x07\n"
    error = SessionError("It died.", reason="died", status_code=500, log=log)
    assert error.log.endswith("line 49\n<b>red</b>")
    assert len(error.log.splitlines()) == 15


def test_a_moment_is_for_scripts_and_for_people():
    assert clock(0) is clock(None) is None
    assert clock(1_700_000_000.5) == {"iso": "2023-11-14T22:13:20Z", "utc": "14 Nov 22:13 UTC"}


def test_what_was_asked_for_is_found_at_every_time_of_a_session(ask):
    request, row = ask({"profile": "gpu"}), SimpleNamespace(user_options={"profile": "old"})
    one = SimpleNamespace(child=None, user_options={}, orm_spawner=row)
    assert options_of(one) == {"profile": "old"}  # after a restart of the hub
    one.user_options = {"profile": "given"}
    assert options_of(one) == {"profile": "given"}  # in the first moment, and after a failure
    one.child = SimpleNamespace(options={}, request=request)
    assert options_of(one) == request.options()  # before the job has a number
    one.child.options = {"profile": "kept"}
    assert options_of(one) == {"profile": "kept"}
    assert options_of(SimpleNamespace(child=None, user_options={}, orm_spawner=None)) is None


def test_the_handlers_are_in_place_once():
    start_pages.install()
    start_pages.install()
    known = [entry[1] for entry in handlers.default_handlers]
    assert SpawnPendingHandler not in known
    assert UserUrlHandler not in known
    paths = [entry[0] for entry in handlers.default_handlers if entry[1] is start_pages.CancelHandler]
    assert paths == [r"/carme/cancel/([^/]+)", r"/carme/cancel/([^/]+)/([^/]+)"]
