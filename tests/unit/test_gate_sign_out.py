"""Which requests sign somebody out, and which ended logins stay ended."""

from __future__ import annotations

import itertools

import pytest

from carme_hub.authenticator.database import open_engine
from carme_hub.authenticator.ended import EndedLogins
from carme_hub.authenticator.sign_out import wanted

HOST = "hub.example.org"
CLICK = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
FETCH = {
    "Sec-Fetch-Site": ["same-origin", "none", "same-site", "cross-site", "", "nonsense"],
    "Sec-Fetch-Mode": ["navigate", "cors", "no-cors", "same-origin", "websocket", None],
    "Sec-Fetch-Dest": ["document", "iframe", "frame", "image", "embed", "object", "empty", "script", None],
}


def test_a8_only_a_navigation_from_our_own_pages_signs_out():
    for values in itertools.product(*FETCH.values()):
        headers = {name: value for name, value in zip(FETCH, values, strict=True) if value is not None}
        own = values[0] in {"same-origin", "none"} and values[1:] == ("navigate", "document")
        assert wanted(headers, HOST) is own, headers


@pytest.mark.parametrize(
    ("referer", "ours"),
    [
        ("", True),
        (f"https://{HOST}/hub/home", True),
        ("https://evil.example/", False),
        (f"https://{HOST}.evil.example/", False),
        (f"https://evil.example/{HOST}/", False),
        (f"https://{HOST}@evil.example/", False),
        ("nonsense", False),
    ],
)
def test_a8_where_a_browser_says_no_more_the_referer_decides(referer, ours):
    assert wanted({"Referer": referer} if referer else {}, HOST) is ours
    # It never overrides what a newer browser says.
    assert wanted({**CLICK, "Referer": referer}, HOST)
    assert not wanted({**CLICK, "Sec-Fetch-Site": "cross-site", "Referer": referer}, HOST)


@pytest.fixture
def engine(tmp_path):
    made = open_engine(f"sqlite:///{tmp_path}/carme.sqlite")
    yield made
    made.dispose()


def test_a8_an_ended_login_stays_ended_for_the_next_process(engine):
    ended = EndedLogins(engine)
    ended.add("one", 60)
    assert ended.has("one")
    assert not ended.has("other")
    assert not EndedLogins(engine).has("one"), "nothing was written yet"
    ended.keep("one")
    ended.keep("one")
    assert EndedLogins(engine).has("one")
    assert not EndedLogins(engine).has("other")


def test_a8_what_has_expired_is_forgotten(engine):
    ended = EndedLogins(engine)
    ended.add("old", -1)
    ended.keep("old")
    ended.add("new", 60)
    ended.keep("new")
    assert not EndedLogins(engine).has("old")
    assert not ended.has("old")
    assert EndedLogins(engine).has("new")


def test_a8_the_id_itself_is_not_kept(engine, tmp_path):
    ended = EndedLogins(engine)
    ended.add("a-very-secret-session-id", 60)
    ended.keep("a-very-secret-session-id")
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"a-very-secret-session-id" not in kept
