"""batchspawner's route is gone, and ours takes one port from the right token at the right time."""

import json
import subprocess
import sys
import time

import pytest
from tornado import web

from carme_hub.spawner import report
from carme_hub.spawner.timelimit import TimeLimit

UPSTREAM = "import batchspawner"
OURS = "import carme_hub.spawner.report"
ROUTES = """
from jupyterhub.apihandlers import default_handlers
print([h[0] for h in default_handlers if 'batch' in h[0] or 'report' in h[0]])
"""


def routes(*lines):
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*lines, ROUTES])], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_upstream_registers_the_route():
    assert routes(UPSTREAM) == "['/api/batchspawner']"


@pytest.mark.parametrize(
    "order", [(OURS,), (UPSTREAM, OURS), (OURS, UPSTREAM), (OURS, "import batchspawner.api", OURS)]
)
def test_ours_removes_it_in_any_order(order):
    assert routes(*order) == "['/api/carme/report']"


def test_the_spawners_module_alone_is_enough():
    assert routes("import carme_hub.spawner.spawner") == "['/api/carme/report']"


def test_a_second_route_of_that_name_stops_the_hub(monkeypatch):
    handlers = [(r"/api/batchspawner", web.RequestHandler)]
    monkeypatch.setattr(report.apihandlers, "default_handlers", handlers)
    with pytest.raises(report.HubError, match="batchspawner"):
        report.disarm_batchspawner()


def test_a_port_is_read():
    assert report.parse_report(b'{"port": 40000}') == 40000
    assert report.parse_report(b'{"begun": true}') == report.BEGUN
    assert report.parse_report(b'{"ended": true}') == report.ENDED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"8888",
        b"{}",
        b'{"port": 0}',
        b'{"port": 65536}',
        b'{"port": -1}',
        b'{"port": true}',
        b'{"port": "8888"}',
        b'{"port": 8888.0}',
        b'{"port": null}',
        b'{"port": 8888, "ip": "10.0.0.1"}',
        b'{"port": 8888, "exec_prefix": "id"}',
        b'{"exec_prefix": "id"}',
        b'{"ended": 1}',
        b'{"begun": 1}',
        b'{"begun": true, "ended": true}',
        b'{"begun": true, "port": 8888}',
        b'"begun"',
        b'{"ended": false}',
        b'{"ended": true, "port": 8888}',
        b"\xff\xfe",
        b'{"port": 8888' + b" " * report.LONGEST_BODY + b"}",
        b'{"told": null}',
        b'{"told": {"home": [], "killed": 0}}',
        b'{"told": {"home": [], "killed": 0, "log": "", "exec_prefix": "id"}}',
        b'{"told": {"home": "full", "killed": 0, "log": ""}}',
        b'{"told": {"home": ["<script>"], "killed": 0, "log": ""}}',
        b'{"told": {"home": [["full"]], "killed": 0, "log": ""}}',
        b'{"told": {"home": [' + b'"full", ' * 20 + b'"full"], "killed": 0, "log": ""}}',
        b'{"told": {"home": [], "killed": -1, "log": ""}}',
        b'{"told": {"home": [], "killed": true, "log": ""}}',
        b'{"told": {"home": [], "killed": 1e3, "log": ""}}',
        b'{"told": {"home": [], "killed": 10000000, "log": ""}}',
        b'{"told": {"home": [], "killed": 0, "log": 7}}',
        b'{"told": {"home": [], "killed": 0, "log": ""}, "ended": true}',
    ],
)
def test_anything_but_one_port_is_refused(body):
    with pytest.raises(ValueError, match=r"."):
        report.parse_report(body)


class Session:
    def __init__(self, token, taken=False):
        self.token, self.port, self.begun = token, 1 if taken else 0, False

    def owns_token(self, token):
        return token == self.token

    def take_begun(self):
        if self.begun or self.port:
            return False
        self.begun = True
        return True

    def take_port(self, port):
        if self.port:
            return False
        self.port = port
        return True

    def take_told(self, told):
        self.told = told
        return bool(self.port)

    async def take_end(self):
        self.ended = bool(self.port)
        return self.ended


class Owner:
    def __init__(self, *sessions):
        self.spawners = dict(enumerate(sessions))


class Call(report.ReportHandler):
    """The handler without a web server: what JupyterHub has found out about the request is given."""

    def __init__(self, owner, header, *, by_token=True, body=b'{"port": 40000}'):
        self._jupyterhub_user, self._header, self._token_authenticated = owner, header, by_token
        self.request = type("Request", (), {"body": body})
        self.status, self.answer = None, None

    def get_auth_token(self):
        return self._header

    def set_status(self, status):
        self.status = status

    def finish(self, answer):
        self.answer = answer


async def refused(call):
    with pytest.raises(web.HTTPError) as error:
        await call.post()
    return error.value.status_code


async def test_the_sessions_own_token_reports_once():
    session, other = Session("t1"), Session("t2")
    call = Call(Owner(other, session), "t1")
    await call.post()
    assert (call.answer, session.port, other.port) == ({"end": None, "extend": False}, 40000, 0)
    assert await refused(Call(Owner(other, session), "t1", body=b'{"port": 1}')) == 409
    assert session.port == 40000


@pytest.mark.parametrize(
    ("header", "by_token"),
    [("another token of the same person", True), (None, False), ("t1", False), (None, True), ("", True)],
)
async def test_other_tokens_and_cookies_report_nothing(header, by_token):
    session = Session("t1")
    assert await refused(Call(Owner(session), header, by_token=by_token)) == 403
    assert session.port == 0


async def test_the_beginning_is_told_once_before_the_port_and_by_its_own_token():
    session = Session("t1")
    assert await refused(Call(Owner(session), "t2", body=b'{"begun": true}')) == 403
    assert not session.begun
    call = Call(Owner(session), "t1", body=b'{"begun": true}')
    await call.post()
    assert (call.status, call.answer, session.begun) == (204, None, True)
    assert await refused(Call(Owner(session), "t1", body=b'{"begun": true}')) == 409
    assert await refused(Call(Owner(Session("t1", taken=True)), "t1", body=b'{"begun": true}')) == 409


async def test_the_end_is_told_after_the_port_and_by_its_own_token():
    session = Session("t1")
    assert await refused(Call(Owner(session), "t1", body=b'{"ended": true}')) == 409
    session = Session("t1", taken=True)
    assert await refused(Call(Owner(session), "t2", body=b'{"ended": true}')) == 403
    call = Call(Owner(session), "t1", body=b'{"ended": true}')
    await call.post()
    assert (call.status, session.ended) == (204, True)


class TimedSession(Session):
    limit = None

    def time_limit(self):
        return self.limit

    async def extend(self, minutes):
        raise AssertionError(f"a report extends nothing, here to {minutes}")


async def test_a_session_is_told_its_end_with_its_own_token_only():
    session = TimedSession("t1", taken=True)
    call = Call(Owner(session), "t1")
    await call.get()
    assert call.answer == {"end": None, "extend": False}
    start = int(time.time())
    session.limit = TimeLimit(start, start + 3600, most=120)
    await call.get()
    assert call.answer == {"end": start + 3600, "extend": True}
    session.limit = TimeLimit(start, start + 3600)
    await call.get()
    assert call.answer == {"end": start + 3600, "extend": False}
    for stranger in (
        Call(Owner(session), "t2"),
        Call(Owner(session), "t1", by_token=False),
        Call(None, "t1"),
    ):
        with pytest.raises(web.HTTPError) as error:
            await stranger.get()
        assert error.value.status_code == 403
        assert stranger.answer is None


async def test_a_service_and_a_stranger_report_nothing():
    assert await refused(Call(object(), "t1")) == 403
    assert await refused(Call(None, "t1")) == 403
    assert await refused(Call(Owner(Session("t1")), "t2")) == 403


async def test_a_bad_body_is_a_400():
    assert (
        await refused(Call(Owner(Session("t1")), "t1", body=json.dumps({"port": 8888, "ip": "x"}).encode()))
        == 400
    )
