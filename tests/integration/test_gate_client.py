"""The client's address in a running hub behind a real proxy: nobody can make the hub believe another."""

from __future__ import annotations

import http.client
import json
import re
import socket
from urllib.parse import urlsplit

import pytest
import requests

from tests.integration.gate_world import hub

ECHO = """
from jupyterhub.auth import DummyAuthenticator
from jupyterhub.handlers.base import BaseHandler
from carme_hub.authenticator import client

class Echo(BaseHandler):
    def get(self):
        if self.get_argument("remember", ""):
            client.remember_browser(self, "alice")
        self.write({
            "address": client.address_of(self),
            "source": client.source_of(self, "alice"),
            "tornado": self.request.remote_ip,
            "headers": dict(self.request.headers.get_all()),
        })

class EchoAuthenticator(DummyAuthenticator):
    def get_handlers(self, app):
        return [*super().get_handlers(app), (r"/echo", Echo)]

c.JupyterHub.authenticator_class = EchoAuthenticator
c.DummyAuthenticator.allow_all = True
"""
FORGED = "203.0.113.66"
FORGERIES = [
    {},
    {"X-Real-IP": FORGED},
    {"X-Real-Ip": FORGED, "X-Forwarded-For": FORGED},
    {"X-Forwarded-For": FORGED},
    {"X-Forwarded-For": f"{FORGED}, 127.0.0.1"},
    {"X-Forwarded-For": f"{FORGED}, 127.0.0.1,"},
    {"X-Forwarded-For": f"::1, {FORGED}"},
    {"X-Forwarded-For": "no address"},
    {"X-Forwarded-For": "9" * 5000},
    {"Forwarded": f"for={FORGED}"},
    {"X-Client-IP": FORGED, "CF-Connecting-IP": FORGED, "True-Client-IP": FORGED},
]


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    with hub(tmp_path_factory.mktemp("client") / "hub", ECHO) as running:
        yield running


@pytest.fixture(scope="module")
def stranger():
    """An address of this machine that is no loopback one.

    To a hub on a loopback address, who connects from it is a stranger.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no network, and so nobody but itself")
        return str(probe.getsockname()[0])


def ask(port, source="127.0.0.1", **headers):
    """Ask with a connection of one's own; returns what the hub says of it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=(source, 0))
    try:
        connection.request("GET", "/hub/echo", headers=headers)
        return json.load(connection.getresponse())
    finally:
        connection.close()


def proxy_port(running):
    return urlsplit(running.url).port


def hub_port(running):
    config = (running.folder / "jupyterhub_config.py").read_text()
    return int(re.search(r'hub_bind_url = "http://127\.0\.0\.1:(\d+)"', config)[1])


@pytest.mark.parametrize("headers", FORGERIES, ids=str)
def test_what_is_forged_through_the_proxy_is_not_believed(echo, stranger, headers):
    for source in ("127.0.0.1", "127.0.0.9", stranger):
        assert ask(proxy_port(echo), source, **headers)["address"] == source


@pytest.mark.parametrize("headers", FORGERIES, ids=str)
def test_who_comes_past_the_proxy_can_claim_nothing(echo, stranger, headers):
    assert ask(hub_port(echo), stranger, **headers)["address"] == stranger


def test_tornado_believes_what_is_not_believed_here(echo, stranger):
    """Why the hub's own `remote_ip` is not used: when this fails, that has changed for the better."""
    assert ask(proxy_port(echo), **{"X-Real-IP": FORGED})["tornado"] == FORGED
    assert ask(hub_port(echo), stranger, **{"X-Forwarded-For": FORGED})["tornado"] == FORGED


def test_the_address_is_that_of_each_request_of_a_connection(echo):
    with requests.Session() as session:
        for last in (5, 6):
            headers = {"X-Forwarded-For": f"198.51.100.{last}"}
            # As the proxy does it, which keeps connections for other people's requests.
            answer = session.get(f"http://127.0.0.1:{hub_port(echo)}/hub/echo", headers=headers, timeout=30)
            assert answer.json()["address"] == f"198.51.100.{last}"


def test_a_proxy_that_the_admin_names_is_believed(tmp_path):
    with hub(
        tmp_path / "hub", ECHO + 'c.JupyterHub.trusted_downstream_ips = ["127.0.0.1", "127.0.0.7"]\n'
    ) as running:
        port = proxy_port(running)
        for named in ("127.0.0.1", "127.0.0.7"):
            assert ask(port, named, **{"X-Forwarded-For": "198.51.100.7"})["address"] == "198.51.100.7"
            assert ask(port, named, **{"X-Forwarded-For": f"{FORGED}, 198.51.100.7"})["address"] == (
                "198.51.100.7"
            )
        assert ask(port, "127.0.0.9", **{"X-Forwarded-For": FORGED})["address"] == "127.0.0.9"


def test_a_browser_is_known_again_and_shows_its_sign_to_the_hub_alone(echo):
    with echo.visitor() as somebody:
        before = somebody.get("/hub/echo").json()["source"]
        answer = somebody.get("/hub/echo?remember=1")
        (sign,) = [line for line in answer.raw.headers.getlist("Set-Cookie") if "known-browser" in line]
        assert {"HttpOnly", "Path=/hub/", "SameSite=Lax"} <= set(sign.split("; "))
        known = somebody.get("/hub/echo").json()["source"]
        (cookie,) = [cookie for cookie in somebody.session.cookies if "known-browser" in cookie.name]
        assert cookie.path == "/hub/"
        somebody.session.cookies.set(cookie.name, cookie.value[:-1] + "0", path="/hub/")
        forged = somebody.get("/hub/echo").json()["source"]
    assert before == forged == "address:127.0.0.1"
    assert known.startswith("browser:")
    assert known.removeprefix("browser:") not in echo.log
    # As a proxy says it that has a certificate.
    url = f"http://127.0.0.1:{hub_port(echo)}/hub/echo?remember=1"
    over_tls = requests.get(url, headers={"X-Forwarded-Proto": "https"}, timeout=30)
    assert "Secure" in over_tls.headers["Set-Cookie"]
