"""Only our spawner in a hub that is otherwise JupyterHub's own: no `configure`, no pages, no login of ours.

Hub, proxy and pages are real. There is no Slurm here: a start goes as far as the missing `sbatch`, which is
the hub's own fault. Accounts are those that every machine has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
import requests

from tests.attacks.hub import Hub, free_ports
from tests.support import until

PEOPLE = ["nobody", "daemon", "bin"]
PASSWORD = "of the stock hub"
# What an admin adds to a hub of theirs, and nothing else.
CONFIGURATION = f"""
c.JupyterHub.spawner_class = "carme"
c.DummyAuthenticator.password = {PASSWORD!r}
c.CarmeSpawner.images = {{"base": {{"title": "Base <image>", "path": "/srv/images/base.sif"}}}}
common = {{"memory": "64M", "max_time": 60, "images": ["base"]}}
c.CarmeSpawner.profiles = [
    {{"name": "gpu", "title": "GPU <session>", "partition": "gpu", "gpu_type": "a100",
      "max_gpus_per_node": 4, "max_nodes": 2, **common}},
    {{"name": "cpu", "title": "CPU session", "partition": "cpu", "max_cpus": 4, **common}},
]
c.CarmeSpawner.slurm_folder = "/nonexistent"
c.CarmeSpawner.consecutive_failure_limit = 3
"""


class Fields(HTMLParser):
    """The fields of the page's one form, with what a browser would send."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.action, self.values, self.choices = "", {}, {}
        self._select = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        name = given.get("name", "")
        if tag == "form" and given.get("id") == "spawn_form":
            self.action = given["action"]
        elif tag == "input" and given.get("type") == "radio":
            self.choices.setdefault(name, []).append(given["value"])
            if "checked" in given:
                self.values[name] = given["value"]
        elif tag == "input" and name:
            self.values[name] = given.get("value", "")
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select:
            self.choices.setdefault(self._select, []).append(given["value"])
            if "selected" in given:
                self.values[self._select] = given["value"]


class Browser(requests.Session):
    """Somebody's browser, without scripts."""

    def __init__(self, hub: Hub, username: str) -> None:
        super().__init__()
        self.trust_env = False
        self.hub = hub
        page = self.get(f"{hub.hub_url}/hub/login", timeout=60).text
        token = re.search(r'name="_xsrf"\s+value="([^"]+)"', page)
        assert token, page
        fields = {"username": username, "password": PASSWORD, "_xsrf": token[1]}
        answer = self.post(f"{hub.hub_url}/hub/login", data=fields, timeout=60, allow_redirects=False)
        assert answer.status_code == 302, answer.text

    def page(self, path: str, fields: dict[str, str] | None = None) -> requests.Response:
        """Open a page, or send a form; redirects are not followed."""
        method = "GET" if fields is None else "POST"
        url = f"{self.hub.hub_url}{path}"
        return self.request(method, url, data=fields, timeout=60, allow_redirects=False)

    def start(self, profile: str, **more: str) -> requests.Response:
        """Fill in the form and press Start."""
        form = Fields(self.page("/hub/spawn").text)
        values = form.values | {"profile": profile}
        return self.page(form.action, values | {f"{profile}/{name}": value for name, value in more.items()})


@pytest.fixture
def stock(tmp_path) -> Iterator[Hub]:
    scopes = ("read:metrics",)
    with Hub(tmp_path, CONFIGURATION, people=PEOPLE, ports=free_ports(3), scopes=scopes) as running:
        yield running


def count(hub: Hub, status: str, reason: str) -> int:
    """Return how many starts ended like this, by the hub's metrics."""
    answer = requests.get(
        f"{hub.hub_url}/hub/metrics", headers={"Authorization": f"token {hub.token}"}, timeout=60
    )
    assert answer.status_code == 200
    name = "jupyterhub_server_spawn_duration_seconds_count"
    found = re.search(rf'^{name}{{reason="{reason}",status="{status}"}} (\d+)', answer.text, re.MULTILINE)
    return int(found[1]) if found else 0


def test_f6_f2_our_spawner_works_in_a_stock_hub_and_counts_the_hubs_own_faults(stock):
    browser = Browser(stock, PEOPLE[0])
    answer = browser.page("/hub/spawn")
    assert answer.status_code == 200
    assert "SpawnForm" not in answer.text
    assert "carme-static" not in answer.text
    assert "GPU &lt;session&gt;" in answer.text
    form = Fields(answer.text)
    assert form.choices["profile"] == ["gpu", "cpu"]
    assert "profile" not in form.values, "nobody has chosen yet"
    assert (form.values["gpu/gpus"], form.values["cpu/time"]) == ("1", "1:00:00")

    # What is wrong comes back in the page, filled in, and is no fault of the hub.
    for _ in range(4):
        answer = browser.start("gpu", gpus="9")
        assert answer.status_code == 400
        assert "9 asked" in answer.text
    again = Fields(answer.text)
    assert (again.values["profile"], again.values["gpu/gpus"]) == ("gpu", "9")
    assert browser.page("/hub/home").status_code == 200
    assert stock.process is not None
    assert stock.process.poll() is None

    # A form that is right gets as far as Slurm, which is not there: one such start after the other counts.
    for number, username in enumerate(PEOPLE, 1):
        Browser(stock, username).start("cpu", cpus="2")
        if number < len(PEOPLE):
            until(lambda number=number: count(stock, "error", "error") == number, "the count of a failure")
    until(lambda: stock.process.poll() is not None, "the hub to give up")
    log = stock.log()
    assert "Aborting due to 3 consecutive spawn failures" in log
    assert "cannot run sbatch" in log
    assert "Traceback" not in log
