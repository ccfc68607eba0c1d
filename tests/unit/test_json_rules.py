"""Types and lengths of what comes in as JSON, and what is cut where it goes out."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub import orm

from carme_hub.front import csp_reports, json_door
from carme_hub.front.json_rules import FIELDS, NAME, OPTIONS, body_problem
from carme_hub.spawner.brief import Who

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), JSON, max_size=4) | JSON)
def test_a14_any_body_is_taken_or_refused_with_a_short_sentence(body):
    found = body_problem(body)
    assert len(found) < 400
    if not found and body is not None:
        # What is taken can be written to a database and to a log.
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()


@given(st.text(st.characters(codec=None), max_size=300))
def test_a5_a_name_that_is_taken_is_one_line_of_bounded_length(text):
    if not body_problem({"display_name": text}):
        assert len(text) <= NAME
        assert len((text + "x").splitlines()) == 1
        assert "\0" not in text
        text.encode()


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        (None, True),
        ({}, True),
        ([], False),
        ("x", False),
        ({"display_name": "x" * 255}, True),
        ({"display_name": "x" * 256}, False),
        ({"note": None}, True),
        ({"note": ["a"]}, False),
        ({"note": "a\n"}, False),
        ({"note": "\x1b[31m"}, False),
        ({"name": 5}, False),
        ({"name": ["x"]}, False),
        ({"usernames": "abc"}, False),
        ({"usernames": ["a", 5]}, False),
        ({"scopes": None}, True),
        ({"expires_in": 0}, False),
        ({"expires_in": True}, False),
        ({"expires_in": 10**30}, False),
        ({"expires_in": 3600}, True),
        ({"admin": 1}, False),
        ({"user_options": {"a": "x" * OPTIONS}}, False),
        ({"user_options": {"a": "x" * (OPTIONS - 100)}}, True),
        ({"other": {"a": {"b": [float("nan")]}}}, False),
    ],
)
def test_a14_what_is_taken(body, taken):
    assert (not body_problem(body)) == taken


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"user_options": {"gpus": 10**30}}, "user_options.gpus"),
        ({"user_options": {"gpus": [1, float("inf")]}}, "user_options.gpus"),
        ({"user_options": {"image": "\0"}}, "user_options.image"),
        ({"expires_in": 10**30}, "expires_in"),
        ({"user_options": {"a\nb": 10**30}}, "user_options"),
        ({"user_options": {"x" * 300: 10**30}}, "user_options"),
        ({"\0": 1}, "The request"),
        ([10**30], "The body"),
    ],
)
def test_a14_the_sentence_names_the_wrong_field(body, field):
    assert body_problem(body).startswith(f"{field} has ")


def test_a5_the_dashboard_gets_no_name_that_is_longer_whatever_is_stored():
    user = SimpleNamespace(name="noah", server_url=lambda name: f"/user/noah/{name}/")
    long = SimpleNamespace(name="x", user=user, display_name="x" * 20_000_000)
    assert len(Who.of(long).display_name) == NAME


@pytest.mark.filterwarnings("ignore:TypeDecorator JSONDict")  # JupyterHub's
def test_a5_what_is_stored_from_before_is_cut_when_the_hub_starts():
    session = orm.new_session_factory("sqlite:///:memory:")()
    user = orm.User(name="noah")
    session.add_all(
        [
            orm.Spawner(
                user=user, name="long", display_name="x" * 100_000, user_options={"a": "x" * 100_000}
            ),
            orm.Spawner(user=user, name="fits", display_name="Fits", user_options={"profile": "cpu"}),
        ]
    )
    session.commit()
    json_door.shorten(session)
    kept = {row.name: (row.display_name, row.user_options) for row in session.query(orm.Spawner)}
    assert kept == {"long": ("long", None), "fits": ("Fits", {"profile": "cpu"})}
    session.close()
    session.bind.dispose()


@given(st.binary(max_size=6000) | JSON.map(lambda value: json.dumps({"csp-report": value}).encode()))
def test_a9_any_report_becomes_one_short_printable_line_or_none(body):
    line = csp_reports.line_of(body)
    assert len(line) < 6 * 200
    assert line.isprintable()


@pytest.mark.parametrize(
    "report",
    [
        {
            "csp-report": {
                "document-uri": "https://u:p@hub/hub/home?token=t#f",
                "blocked-uri": "inline",
                "line-number": 5,
            }
        },
        [
            {
                "type": "csp-violation",
                "body": {
                    "documentURL": "https://hub/hub/home?token=t",
                    "blockedURL": "inline",
                    "lineNumber": 5,
                },
            }
        ],
    ],
)
def test_a9_both_kinds_of_reports_are_understood_and_codes_left_out(report):
    line = csp_reports.line_of(json.dumps(report).encode())
    assert line == "page='https://hub/hub/home' stopped='inline' line='5'"


def test_a9_each_person_reports_a_few_times():
    turns = csp_reports.Turns()
    assert [turns.take("noah", 1.0 * second) for second in range(7)] == [True] * 5 + [False] * 2
    assert turns.take("ravi", 3.0)
    assert turns.take("noah", 61.0)
