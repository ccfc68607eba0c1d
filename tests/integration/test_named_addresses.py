"""Named sessions beside the default one, on the demo site: names, addresses, rows that nobody asked for."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urlsplit

import pytest
import requests

from tests.support import until

WHO = "ravi"


@pytest.fixture(scope="module")
def ravi(site):
    person = site.login(WHO)
    person.end_session()
    for name in names(person):
        remove(person, name)
    person.start(profile="cpu")
    yield person
    for name in names(person):
        remove(person, name)
    person.end_session()


def names(person) -> set[str]:
    servers = person.api("GET", f"/users/{WHO}?include_stopped_servers").json()["servers"]
    return set(servers) - {""}


def remove(person, name: str) -> None:
    def gone() -> bool:
        person.api("DELETE", f"/users/{WHO}/servers/{name}", json={"remove": True})
        return name not in names(person)

    until(gone, f"the end of {name}")


def navigate(person, path: str, **headers: str) -> requests.Response:
    return person.http.get(f"{person.site.hub_url}{path}", headers=headers, timeout=60)


@pytest.mark.parametrize(
    "name", ["api", "code-server", "lab", "tree", "proxy", "static", "terminals", "files"]
)
def test_c7_a_reserved_name_is_refused_at_every_way_to_a_start(ravi, name):
    options = {"user_options": {"profile": "cpu"}}
    path = f"/users/{WHO}/servers/{name}"
    answers = [ravi.api("POST", path, json=options), ravi.api("PUT", path, json=options)]
    answers += [navigate(ravi, f"/hub/spawn/{WHO}/{name}"), navigate(ravi, f"/hub/carme/session?name={name}")]
    answers += [navigate(ravi, f"/hub/spawn/{WHO}/{name}?opt-profile=cpu")]
    form = {"profile": "cpu", "_xsrf": ravi.xsrf("/hub/")}
    answers += [ravi.http.post(f"{ravi.site.hub_url}/hub/spawn/{WHO}/{name}", data=form, timeout=60)]
    assert ravi.api("PUT", f"/users/{WHO}/servers/good").status_code == 201
    answers += [ravi.api("PATCH", f"/users/{WHO}/servers/good", json={"name": name})]
    assert [answer.status_code for answer in answers] == [400] * 7
    assert all("cannot be called" in answer.text for answer in answers)
    assert names(ravi) == {"good"}
    # What it is called is free: no address is made of it.
    named = ravi.api("PATCH", f"/users/{WHO}/servers/good", json={"display_name": name})
    assert named.status_code == 200, named.text
    remove(ravi, "good")


def test_c7_the_address_of_a_named_session_that_does_not_run_is_the_hubs(ravi):
    own = navigate(ravi, f"/user/{WHO}/second/lab")
    assert "X-JupyterHub-Version" in own.headers
    assert own.status_code == 404, "the default session's: nobody has such a name"
    assert ravi.api("PUT", f"/users/{WHO}/servers/second", json={"user_options": {}}).status_code == 201
    for path in ("lab", "lab/tree/x", ""):
        page = navigate(ravi, f"/user/{WHO}/second/{path}", Accept="text/html")
        assert page.status_code == 424, path
        assert urlsplit(page.url).path.startswith("/hub/")
        assert f"/hub/spawn/{WHO}/second" in page.text
    api = ravi.get("/second/api/kernels", allow_redirects=True)
    assert api.status_code in {424, 503}
    assert ravi.get("/api/status").status_code == 200, "the default session is where it was"
    remove(ravi, "second")
    assert navigate(ravi, f"/user/{WHO}/second/lab").status_code == 404
    assert "/hub/" not in navigate(ravi, f"/user/{WHO}/second/lab").url


@pytest.mark.parametrize(
    "options",
    [
        {"profile": "no-such-profile"},
        {"profile": "gpu", "gpus": 99},
        {"profile": "cpu", "time": "999-00:00:00"},
        {"profile": "cpu", "nonsense": "x"},
        {"profile": ["x"]},
    ],
)
def test_c14_a_start_that_is_refused_leaves_nothing(ravi, options):
    before = names(ravi)
    refused = ravi.api("POST", f"/users/{WHO}/servers/never", json={"user_options": options})
    assert 400 <= refused.status_code < 500, refused.text
    assert names(ravi) == before
    form = {name: str(value) for name, value in options.items()} | {"_xsrf": ravi.xsrf("/hub/")}
    again = ravi.http.post(f"{ravi.site.hub_url}/hub/spawn/{WHO}/never", data=form, timeout=60)
    assert 400 <= again.status_code < 500
    assert names(ravi) == before
    # A name that was there before stays.
    assert ravi.api("PUT", f"/users/{WHO}/servers/mine").status_code == 201
    ravi.api("POST", f"/users/{WHO}/servers/mine", json={"user_options": options})
    assert "mine" in names(ravi)
    remove(ravi, "mine")


@pytest.mark.parametrize("name", ["100%.txt", "a#b.txt", "a?b.txt", "%41.txt", "a b+c.txt"])
def test_c13_a_link_for_everybody_finds_a_file_of_any_name(ravi, name):
    ravi.site.run("bash", "-c", f"echo here > ~/'{name}'", user=WHO)
    found = navigate(ravi, f"/hub/user-redirect/files/{quote(name)}")
    assert unquote(urlsplit(found.url).path) == f"/user/{WHO}/files/{name}"
    assert found.text == "here\n"
    ravi.site.run("bash", "-c", f"rm ~/'{name}'", user=WHO)


@pytest.mark.parametrize("path", ["/evil.example", "%2Fevil.example", "\\evil.example", "%5Cevil.example"])
def test_c13_no_link_leads_to_another_site(ravi, path):
    answer = ravi.http.get(f"{ravi.site.hub_url}/hub/user-redirect/{path}", allow_redirects=False, timeout=60)
    assert re.match(rf"/hub/spawn/{WHO}\?next=%2Fuser%2F{WHO}%2F(?!%2F|%5C)", answer.headers["Location"])


def test_c7_start_in_an_old_tab_links_to_the_session_that_runs(ravi):
    form = {"profile": "cpu", "_xsrf": ravi.xsrf("/hub/")}
    late = ravi.http.post(f"{ravi.site.hub_url}/hub/spawn/{WHO}", data=form, timeout=60)
    assert late.status_code in {400, 409}
    assert f'href="/user/{WHO}/"' in late.text
