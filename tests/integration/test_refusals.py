"""What is refused before anything reaches Slurm, on every way in: form, URL, API."""

from __future__ import annotations

import re

import pytest


def alert(page: str) -> str:
    """Return the sentence that a page shows above its form; the form itself names every field."""
    (sentence,) = re.findall(r'<div class="spawn-error-msg[^>]*>(.*?)</div>', page, re.DOTALL)
    return sentence


# options -> the field that the sentence has to name
WRONG = [
    ({"profile": "nonsense"}, "profile"),
    ({"profile": ["gpu", "cpu"]}, "profile"),
    ({"profile": {"name": "gpu"}}, "profile"),
    ({"profile": "gpu", "nodes": 99}, "nodes"),
    ({"profile": "gpu", "nodes": 0}, "nodes"),
    ({"profile": "gpu", "nodes": True}, "nodes"),
    ({"profile": "gpu", "nodes": "2\n"}, "nodes"),
    ({"profile": "gpu", "nodes": "\uff12"}, "nodes"),
    ({"profile": "gpu", "gpus": 5}, "gpus"),
    ({"profile": "gpu", "gpus": -1}, "gpus"),
    ({"profile": "gpu", "gpus": 10**30}, "gpus"),
    ({"profile": "gpu", "gpu_type": "h100"}, "gpu_type"),
    ({"profile": "gpu", "time": "9-00:00:00"}, "time"),
    ({"profile": "gpu", "time": "1:00:00\n#SBATCH --uid=0"}, "time"),
    ({"profile": "gpu", "image": "../../etc/passwd"}, "image"),
    ({"profile": "cpu", "gpus": 1}, "gpus"),
    ({"profile": "gpu", "partition": "cpu\n#SBATCH --wrap=id"}, "partition"),
    ({"profile": "gpu", "prologue": "id > /tmp/x"}, "prologue"),
    ({"profile": "gpu", "cmd": ["id"]}, "cmd"),
    ({"profile": "gpu", "__class__": "x"}, "__class__"),
]


@pytest.mark.parametrize(("options", "field"), WRONG)
def test_the_api_names_the_wrong_field(site, person, options, field):
    rosa = person("rosa")
    answer = rosa.ask(**options)
    assert answer.status_code == 400, answer.text
    assert field in answer.json()["message"]
    assert not site.jobs("rosa")
    assert not rosa.server()


@pytest.mark.parametrize("body", ['["gpu"]', "7", '"gpu"', '{"profile": null}', "{", '{"profile": 1e400}'])
def test_no_json_makes_the_hub_stumble(site, person, body):
    rosa = person("rosa")
    answer = rosa.api("POST", "/users/rosa/server", data=body)
    assert answer.status_code == 400, answer.text
    assert not site.jobs("rosa")


FORM_WRONG = [
    (options, field)
    for options, field in WRONG
    if all(isinstance(v, (str, int)) and v is not True for v in options.values())
]


@pytest.mark.parametrize(("options", "field"), FORM_WRONG)
def test_the_form_comes_back_with_the_sentence(site, person, options, field):
    rosa = person("rosa")
    url = f"{site.hub_url}/hub/spawn"
    rosa.http.get(url, timeout=30)
    answer = rosa.http.post(url, params={"_xsrf": rosa.xsrf("/hub/")}, data=options, timeout=60)
    assert answer.status_code == 400, answer.status_code
    assert field in alert(answer.text)
    assert "spawn" in answer.url
    assert not site.jobs("rosa")


@pytest.mark.parametrize(("options", "field"), FORM_WRONG[:8])
def test_a_link_with_wrong_options_shows_the_form_with_the_sentence(site, person, options, field):
    rosa = person("rosa")
    query = {f"opt-{name}": value for name, value in options.items()}
    answer = rosa.http.get(f"{site.hub_url}/hub/spawn", params=query, timeout=60)
    assert answer.status_code in (200, 400)
    assert field in alert(answer.text)
    assert not site.jobs("rosa")


def test_a_link_fills_in_the_form_and_starts_nothing(site, person):
    rosa = person("rosa")
    query = {"opt-profile": "gpu", "opt-gpus": "3", "opt-nodes": "2", "opt-image": "ml"}
    answer = rosa.http.get(f"{site.hub_url}/hub/spawn", params=query, timeout=60)
    assert answer.status_code == 200
    assert 'value="3"' in answer.text
    assert not site.jobs("rosa")
    assert not rosa.server()
