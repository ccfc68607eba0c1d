"""What Slurm says of a session before it is submitted: on the form, and as an estimate."""

from __future__ import annotations

import time

import pytest

from tests.integration.test_refusals import alert
from tests.support import until


def estimate(person, path="", **options):
    """Ask until no other question of the same person is open."""

    def answer():
        asked = person.api("POST", f"/carme/estimate{path}", json=options)
        # In a list: an answer that refuses counts as false by itself.
        return [asked] if asked.status_code != 429 else []

    return until(answer, "an estimate", 20)[0]


def test_an_estimate_says_when_and_where(site, person):
    answer = estimate(person("rosa"), profile="gpu", gpus=4, nodes=2)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert abs(told["start"] - time.time()) < 3600
    assert told["partition"] == "gpu"
    assert "node" in told["sentence"]
    assert not site.jobs("rosa")


WRONG = [
    ({"profile": "gpu", "gpus": 9}, "gpus", "9 asked, 1 to 4 allowed"),
    ({"profile": "gpu", "qos": "nonsense"}, "qos", "'nonsense' asked"),
    (
        {"profile": "gpu", "qos": "short", "time": "3:00:00"},
        "time",
        "at most 2:00:00 allowed by Slurm for the QOS short",
    ),
    ({"profile": "gpu", "qos": "short", "gpus": 4, "nodes": 2}, "gpus", "8 GPUs asked in all, at most 4"),
    (
        {"profile": "cpu", "account": "teaching"},
        "account",
        "'teaching' asked, but “CPU session” has research",
    ),
    ({"partition": "x"}, "", "There is no option named 'partition'"),
]


@pytest.mark.parametrize(("options", "field", "words"), WRONG)
def test_what_cannot_be_had_is_told_with_the_field(person, options, field, words):
    answer = estimate(person("rosa"), **options)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert words in answer.json()["sentence"]


def test_only_who_may_start_a_session_may_ask(site, person):
    rosa = person("rosa")
    assert estimate(rosa, "/mia", profile="cpu").status_code in {403, 404}
    nobody = rosa.http.post(f"{site.hub_url}/hub/api/carme/estimate", json={"profile": "cpu"}, timeout=30)
    assert nobody.status_code == 403, "a cookie without the XSRF token is somebody else's page"


def test_the_controller_is_not_asked_twice_for_the_same(person):
    rosa = person("rosa")
    first = estimate(rosa, profile="cpu", time="47")
    began = time.monotonic()
    again = [rosa.api("POST", "/carme/estimate", json={"profile": "cpu", "time": 47}) for _ in range(5)]
    if time.monotonic() - began < 10:
        assert [answer.text for answer in again] == [first.text] * 5


def test_what_slurm_refuses_comes_back_at_the_form_filled_in(site, person):
    rosa = person("rosa")
    url = f"{site.hub_url}/hub/spawn/rosa/work"
    page = rosa.http.get(url, timeout=60)
    assert "named work" in page.text
    assert 'name="qos"' in page.text
    assert "short" in page.text
    site.run("scontrol", "update", "partition=gpu", "state=DRAIN")
    try:
        wish = {"profile": "gpu", "gpus": "3", "qos": "short"}
        answer = rosa.http.post(url, params={"_xsrf": rosa.xsrf("/hub/")}, data=wish, timeout=60)
    finally:
        site.run("scontrol", "update", "partition=gpu", "state=UP")
    assert answer.status_code == 400, answer.text
    assert "takes no sessions now" in alert(answer.text)
    assert "named work" in answer.text
    assert 'value="3"' in answer.text
    assert not site.jobs("rosa")
