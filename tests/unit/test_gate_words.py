"""What happened at the gate, in words."""

from __future__ import annotations

import pytest

from carme_hub.authenticator import words
from carme_hub.authenticator.audit import NOTICES, Entry


def entry(event, **more):
    return Entry(**{"event": event, "account": "alice", "time": 1_700_000_000.9, "id": 7, **more})


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("Phone", "Phone"),
        ("  Phone \t at\nhome ", "Phone at home"),
        ("", "Authenticator app"),
        ("\x00\x07\u202e\u200f", "Authenticator app"),
        ("evil\u202eenohp", "evil enohp"),
        ("\ud800", "Authenticator app"),
        ("x" * 65, "x" * 64),
        ("x" * 63 + " y", "x" * 63),
        ("Ü 📱", "Ü 📱"),
    ],
)
def test_a_name_is_one_visible_line(typed, kept):
    assert words.device_name(typed) == kept


def test_a_time_is_said_in_utc():
    when = words.moment(1_700_000_000.9)
    assert (when.machine, when.text) == ("2023-11-14T22:13:20Z", "14 Nov 2023, 22:13 UTC")


@pytest.mark.parametrize(
    ("happened", "line"),
    [
        (entry("login", detail="totp: Phone"), ("Signed in", "", "with a code of “Phone”")),
        (entry("login", detail="passkey: Key"), ("Signed in", "", "with the passkey “Key”")),
        (entry("login", detail="recovery: 7 left"), ("Signed in", "", "with a recovery code; 7 left")),
        (entry("login", outcome="refused", reason="code"), ("Sign-in", "refused: wrong or used code", "")),
        (
            entry("prove", outcome="error", reason="directory"),
            ("Change of this account", "failed: the user directory did not answer", ""),
        ),
        (
            entry("reset", actor="carol", detail="2 devices"),
            ("Devices and recovery codes removed", "", "by carol"),
        ),
        (entry("device-added", detail="Phone: old"), ("Device added", "", "Phone: old")),
        (entry("new-kind", outcome="refused"), ("new-kind", "refused", "")),
        (entry("new-kind", outcome="refused", reason="new"), ("new-kind", "refused: new", "")),
    ],
)
def test_a_line_of_the_list(happened, line):
    said = words.activity(happened)
    assert (said.what, said.outcome, said.detail) == line


def test_notices_speak_of_every_event_that_is_told():
    said = {event: words.notice(entry(event, detail="Phone", actor="")).what for event in NOTICES}
    assert len({*said.values()}) == len(NOTICES)
    assert all(sentence.endswith(".") for sentence in said.values())


def test_a_notice_says_where_but_not_where_an_admin_was():
    own = words.notice(entry("recovery-used", detail="7 left", address="192.0.2.1"))
    assert (own.what, own.where) == ("A recovery code was used; 7 left.", "192.0.2.1")
    reset = words.notice(entry("reset", actor="carol", address="192.0.2.2"))
    assert (reset.what, reset.where) == (
        "An administrator (carol) removed your devices and recovery codes.",
        "",
    )
