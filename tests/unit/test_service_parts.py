"""The parts of the service that decide: tickets, rights, what of the hub's answers is news, registration."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from jupyterhub.httpclient import JupyterHubHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, HTTPError, RequestHandler
from traitlets.config import Config, PyFileConfigLoader

import carme_hub
from carme_hub.service import hub_client, reading, registration
from carme_hub.service.hub_api import HubApi
from carme_hub.service.hub_client import HubState
from carme_hub.service.person import Person
from carme_hub.service.refusal import NO_HUB, Refused, sentence_of
from carme_hub.service.render import Reader
from carme_hub.service.ticket import fits, hub_secret, ticket

SECRET = b"of the hub"
SERVICES = '[{"name": "culler", "api_token": "of the culler"}]'


def test_a_ticket_counts_for_one_person_in_one_login_at_one_hub():
    good = ticket(SECRET, "session", "rosa")
    assert fits(good, SECRET, "session", "rosa")
    for secret, session, name in itertools.product(
        (SECRET, b"other"), ("session", "other", ""), ("rosa", "mia")
    ):
        right = (secret, session, name) == (SECRET, "session", "rosa")
        assert fits(good, secret, session, name) == right
    assert not fits("", SECRET, "session", "rosa")
    assert not fits("…", SECRET, "session", "rosa")
    # Nobody may move a piece of the session into the name.
    assert ticket(SECRET, "session", "rosa") != ticket(SECRET, "sessionr", "osa")


def test_the_secret_is_found_where_the_hub_finds_it(tmp_path, monkeypatch):
    monkeypatch.delenv("JPY_COOKIE_SECRET", raising=False)
    config = Config()
    (tmp_path / "secret").write_text("00ff\n")
    config.JupyterHub.cookie_secret_file = str(tmp_path / "secret")
    assert hub_secret(config) == b"\x00\xff"
    monkeypatch.setenv("JPY_COOKIE_SECRET", "0a")
    assert hub_secret(config) == b"\x0a"
    config.JupyterHub.cookie_secret = b"given"
    assert hub_secret(config) == b"given"


@pytest.mark.parametrize(
    ("scopes", "user", "groups", "may"),
    [
        ({"admin:servers"}, None, (), True),
        ({"admin:servers"}, "mia", (), True),
        ({"admin:servers!user=rosa"}, "rosa", (), True),
        ({"admin:servers!user=rosa"}, "mia", (), False),
        ({"admin:servers!user=rosa"}, None, (), False),
        ({"admin:servers!group=ml101"}, "mia", ("ml101",), True),
        ({"admin:servers!group=ml101"}, "mia", ("other",), False),
        ({"admin:servers!server=rosa/"}, "rosa", (), False),
        ({"read:servers"}, "rosa", (), False),
        (set(), "rosa", (), False),
    ],
)
def test_rights_are_those_of_the_scopes(scopes, user, groups, may):
    person = Person("rosa", scopes=frozenset(scopes))
    assert person.may("admin:servers", user, frozenset(groups)) == may


def test_a_right_over_others_is_not_the_one_over_oneself():
    assert not Person("rosa", scopes=frozenset({"read:servers!user=rosa"})).may_any("read:servers")
    assert Person("rosa", scopes=frozenset({"read:servers!group=ml101"})).may_any("read:servers")


def test_a_person_is_what_the_hub_says():
    model = {
        "name": "rosa",
        "admin": None,
        "groups": ["a"],
        "scopes": ["b"],
        "token_id": "a3",
        "session_id": None,
    }
    assert Person.of(model) == Person("rosa", False, frozenset("a"), frozenset("b"), "a3", "")


def test_a_name_ends_no_script():
    assert Reader('</script>"').json_escaped_name == '\\u003c/script>\\"'


@pytest.mark.parametrize(
    ("old", "new", "whose"),
    [
        ({}, {}, set()),
        ({}, {"rosa": [{"job": 1}]}, {"rosa"}),
        ({"rosa": [{"job": 1}]}, {}, {"rosa"}),
        ({"rosa": [{"job": 1}], "mia": [{"job": 2}]}, {"rosa": [{"job": 1}], "mia": [{"job": 3}]}, {"mia"}),
    ],
)
def test_only_those_hear_of_it_whose_sessions_changed(old, new, whose):
    assert hub_client.changed(old, new) == whose


def test_sessions_are_sorted_by_whose_they_are():
    sessions = [{"user": "rosa", "name": ""}, {"user": "mia", "name": ""}, {"user": "rosa", "name": "b"}]
    state = HubState(hub_client.by_person(sessions))
    assert [one["name"] for one in state.of("rosa")] == ["", "b"]
    assert state.of("nobody") == []


@pytest.mark.parametrize("path", ["users", "/users/../../secret", "/users/%2e%2e/x", "/users/a%2F..%2Fb"])
async def test_no_name_leads_out_of_the_hubs_api(path):
    with pytest.raises(ValueError, match="no path of the hub's API"):
        await HubApi("http://127.0.0.1:9/hub/api").call("token", "GET", path)


async def test_an_answer_of_the_hub_is_read_to_its_end_however_long_it_is():
    sessions = ["x" * 1500] * 1000

    class Answer(RequestHandler):
        async def get(self) -> None:
            self.write('{"sessions": ')
            await self.flush()
            self.finish(json.dumps(sessions) + "}")

    line, port = bind_unused_port()
    server = HTTPServer(Application([("/carme/sessions", Answer)]))
    server.add_socket(line)
    try:
        answer = await HubApi(f"http://127.0.0.1:{port}").call("token", "GET", "/carme/sessions")
        assert answer == {"sessions": sessions}
    finally:
        await JupyterHubHTTPClient.loop_instance().close()
        server.stop()
        await server.close_all_connections()


@pytest.mark.parametrize(
    ("status", "error", "sentence"),
    [
        (409, Refused(409, "It is just being stopped."), "It is just being stopped."),
        (404, HTTPError(404, "secret detail"), "There is no such page."),
        (
            500,
            ValueError("secret detail"),
            "Something went wrong here. The administrators find it in the log.",
        ),
        (503, None, NO_HUB),
        (418, None, "The request could not be understood."),
        (599, None, "Something went wrong here. The administrators find it in the log."),
    ],
)
def test_every_error_is_a_sentence_without_details(status, error, sentence):
    assert sentence_of(status, error) == sentence


def test_configure_registers_the_service_with_few_rights(tmp_path):
    main, part = tmp_path / "main.py", tmp_path / "part.py"
    part.write_text("import carme_hub\nc = get_config()\ncarme_hub.configure(c)\n")
    main.write_text(f"load_subconfig({str(part)!r})\nc.JupyterHub.services += {SERVICES}\n")
    config = PyFileConfigLoader(main.name, path=str(tmp_path)).load_config()
    culler, service = sorted(config.JupyterHub.services, key=lambda one: one["name"] == "carme")
    assert culler["name"] == "culler"
    # The whole configuration is read by the service, not the part in which configure() is called.
    assert service["command"][1:] == ["-m", "carme_hub.service", "--config", str(main)]
    assert service["oauth_client_allowed_scopes"] == registration.PERSON_SCOPES
    assert "inherit" not in registration.PERSON_SCOPES
    # By itself the service reads, and changes nothing.
    reading = ("read:", "list:users", registration.LOGINS_SCOPE)
    assert all(scope.startswith(reading) for scope in registration.SERVICE_SCOPES)
    assert registration.problems(config) == []


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("c.JupyterHub.services = []", registration.NO_SERVICE),
        ('c.JupyterHub.load_roles = [{"name": "user", "scopes": ["self"]}]', registration.NO_ROLE),
        ('c.JupyterHub.load_roles += [{"name": "user", "scopes": ["self"]}]', registration.NO_USERS),
    ],
)
def test_what_a_site_takes_away_by_mistake_is_told(tmp_path, lines, told):
    (tmp_path / "main.py").write_text(
        f"import carme_hub\nc = get_config()\ncarme_hub.configure(c)\n{lines}\n"
    )
    config = PyFileConfigLoader("main.py", path=str(tmp_path)).load_config()
    assert told in registration.problems(config)


def test_a_site_may_leave_the_service_out():
    config = Config()
    carme_hub.configure(config, service=None)
    assert "services" not in config.JupyterHub
    assert "load_roles" not in config.JupyterHub


async def test_a_database_that_hangs_holds_up_nothing_but_who_waits_for_it(monkeypatch):
    monkeypatch.setattr(reading, "PATIENCE", 0.05)
    answers = threading.Event()
    site = SimpleNamespace(records=None)
    pages = [asyncio.create_task(reading.ask(site, lambda _engine: answers.wait(10))) for _ in range(100)]
    try:
        told = await asyncio.gather(*pages, return_exceptions=True)
        assert {str(getattr(one, "sentence", one)) for one in told} == {reading.AWAY}
        # As for the hub's address, when it has a name.
        async with asyncio.timeout(5):
            await asyncio.to_thread(int)
    finally:
        answers.set()


def test_the_service_takes_all_files_that_it_may_open():
    code = """
import resource
from carme_hub.service import __main__ as service
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
service.open_many()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
