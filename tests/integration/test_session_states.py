"""A session that Slurm suspends, one that ends itself, and one whose limit was changed, on the demo site."""

from __future__ import annotations

import pytest
import requests

from tests.support import until

WHO = "ravi"


@pytest.fixture
def ravi(site):
    person = site.login(WHO)
    person.end_session()
    person.start(profile="cpu", time="0:30:00")
    yield person
    for job in site.jobs(WHO):
        site.run("scontrol", "resume", job, check=False)
    person.end_session()


def session(person) -> dict[str, object]:
    found = person.api("GET", "/carme/sessions").json()["sessions"]
    return next((one for one in found if one["user"] == WHO), {})


def look(person, path: str, **headers: str) -> requests.Response:
    return person.http.get(f"{person.site.hub_url}{path}", headers=headers, timeout=60)


def test_c17_a_suspended_session_says_so_everywhere_and_goes_on(site, ravi):
    (job,) = site.jobs(WHO)
    site.run("scontrol", "suspend", job)
    until(lambda: session(ravi).get("state") == "suspended", "the word", 40)
    assert session(ravi)["slurm_state"] == "SUSPENDED"
    assert "suspended" in str(session(ravi)["reason_text"])
    assert session(ravi)["advice"]

    def led() -> bool:
        page = look(ravi, f"/user/{WHO}/lab", Accept="text/html")
        return page.status_code == 503 and "Your session is suspended" in page.text

    until(led, "the hub's page", 30)
    api = ravi.get("/api/status", allow_redirects=True)
    assert api.status_code == 503
    assert "suspended" in api.json()["message"]
    home = look(ravi, "/hub/home").text
    assert 'data-state="suspended"' in home
    assert f'href="/user/{WHO}/lab"' not in home, "a way in that hangs"
    site.run("scontrol", "resume", job)
    until(lambda: session(ravi).get("state") == "running", "the end of it", 40)
    until(lambda: ravi.get("/api/status").status_code == 200, "the way back", 30)


def test_c15_a_session_that_was_shut_down_from_inside_says_so(ravi):
    headers = {"Authorization": f"token {ravi.token}"}
    shut = requests.post(f"{ravi.site.hub_url}/user/{WHO}/api/shutdown", headers=headers, timeout=60)
    assert shut.status_code == 200
    until(lambda: not ravi.server(), "its end")
    until(lambda: "shut down from inside" in look(ravi, "/hub/home").text, "the sentence", 60)
    assert "shut down from inside" in look(ravi, f"/user/{WHO}/lab").text
