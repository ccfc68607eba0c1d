"""Whom a request is believed to come from, without a hub."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import Application, RequestHandler, create_signed_value

from carme_hub.authenticator import client

SECRET = b"a secret of the hub"
LONG = "9" * 100_000


@pytest.mark.parametrize(
    ("peer", "local", "forwarded", "trusted", "believed"),
    [
        # the hub's own proxy, on this machine
        ("127.0.0.1", "127.0.0.1", ["198.51.100.7"], [], "198.51.100.7"),
        ("127.0.0.9", "127.0.0.1", ["198.51.100.7"], [], "198.51.100.7"),
        ("::1", "::1", ["2001:db8::7"], [], "2001:db8::7"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", ["::ffff:198.51.100.7"], [], "198.51.100.7"),
        ("10.0.0.1", "10.0.0.1", ["198.51.100.7"], [], "198.51.100.7"),
        ("10.0.0.1", "::ffff:10.0.0.1", ["198.51.100.7"], [], "198.51.100.7"),
        ("fe80::1%eth0", "fe80::1", ["198.51.100.7"], [], "198.51.100.7"),
        # it has nothing to say
        ("127.0.0.1", "127.0.0.1", [], [], "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", [""], [], "127.0.0.1"),
        # what the client said before it
        ("127.0.0.1", "127.0.0.1", ["203.0.113.1, 198.51.100.7"], [], "198.51.100.7"),
        ("127.0.0.1", "127.0.0.1", ["203.0.113.1", "198.51.100.7"], [], "198.51.100.7"),
        ("127.0.0.1", "127.0.0.1", ["203.0.113.1,127.0.0.1"], [], "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", [LONG + ",198.51.100.7"], [], "198.51.100.7"),
        # nobody's proxy
        ("10.0.0.5", "10.0.0.1", ["203.0.113.1"], [], "10.0.0.5"),
        ("10.0.0.5", "10.0.0.1", ["10.0.0.1"], ["10.0.0.9"], "10.0.0.5"),
        ("10.0.0.5", "", ["203.0.113.1"], [], "10.0.0.5"),
        ("2001:db8::5", "2001:db8::1", ["::1"], [], "2001:db8::5"),
        # a proxy that the admin named, before the hub's own and in its place
        ("127.0.0.1", "127.0.0.1", ["198.51.100.7, 10.0.0.9"], ["10.0.0.9"], "198.51.100.7"),
        ("127.0.0.1", "127.0.0.1", ["203.0.113.1, 198.51.100.7, 10.0.0.9"], ["10.0.0.9"], "198.51.100.7"),
        ("10.0.0.9", "10.0.0.1", ["203.0.113.1, 198.51.100.7"], ["10.0.0.9"], "198.51.100.7"),
        ("10.0.0.9", "10.0.0.1", ["198.51.100.7"], ["::ffff:10.0.0.9", "no address"], "198.51.100.7"),
        ("127.0.0.1", "127.0.0.1", ["198.51.100.7, 127.0.0.1"], ["127.0.0.1"], "198.51.100.7"),
        ("127.0.0.1", "127.0.0.1", ["10.0.0.9, 10.0.0.9"], ["10.0.0.9"], "127.0.0.1"),
        # what is no address ends the walk, also where the admin named what is none
        ("127.0.0.1", "127.0.0.1", ["203.0.113.1, unknown"], [], "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", ["203.0.113.1, unknown"], ["unknown"], "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", ["198.51.100.7:4711"], [], "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", ["198.51.100.7,"], [], "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", [LONG], [], "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", ["١٩٨.51.100.7"], [], "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", ["fe80::2%" + "z" * 5000], [], "fe80::2"),
        ("no address", "127.0.0.1", ["203.0.113.1"], [], ""),
        ("", "", ["203.0.113.1"], [], ""),
    ],
)
def test_the_header_counts_as_far_as_a_proxy_wrote_it(peer, local, forwarded, trusted, believed):
    assert client.client_address(peer, local, forwarded, trusted) == believed


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("", ""),
        ("unknown", ""),
    ],
)
def test_a_limit_counts_ipv6_by_network(address, network):
    assert client.network_of(address) == network


def request(peer="198.51.100.7", stream=None, **headers):
    """A request as tornado hands it over, with the connection's far end at `peer`."""
    context = SimpleNamespace(
        address=peer and (peer, 50000), remote_ip="6.6.6.6", protocol="http", trusted_downstream=set()
    )
    connection = SimpleNamespace(
        context=context, stream=stream, set_close_callback=lambda _call: None, no_keep_alive=False
    )
    fields = HTTPHeaders({"Host": "hub"} | {name.replace("_", "-"): text for name, text in headers.items()})
    line = RequestStartLine("GET", "/hub/login", "HTTP/1.1")
    return HTTPServerRequest(start_line=line, headers=fields, connection=connection)


class Page(RequestHandler):
    """What of the hub's handlers is used here."""

    hub = SimpleNamespace(base_url="/hub/")

    def _set_cookie(self, key, value, **options):
        self.set_signed_cookie(key, value, **options)


def page(cookie=None, **options):
    headers = {"Cookie": f"{client.COOKIE}={cookie}"} if cookie else {}
    return Page(Application(cookie_secret=SECRET), request(**headers, **options))


def set_cookie(handler):
    """The cookie that the answer will set."""
    return handler._new_cookie[client.COOKIE]


def test_a_closed_connection_does_not_raise_and_claims_nothing():
    gone = socket.socket()
    gone.close()
    for stream in (None, SimpleNamespace(socket=None), SimpleNamespace(socket=gone)):
        handler = page(stream=stream, X_Forwarded_For="6.6.6.6")
        assert client.address_of(handler) == "198.51.100.7"


def test_the_first_answer_stays_when_the_connection_closes():
    with socket.create_server(("127.0.0.1", 0)) as here:
        stream = SimpleNamespace(socket=here)
        handler = page("", peer="127.0.0.1", stream=stream, X_Forwarded_For="198.51.100.8")
        assert client.address_of(handler) == "198.51.100.8"
        handler.request.connection.stream = None
        assert client.address_of(handler) == "198.51.100.8"


def test_a_unix_socket_is_this_machine():
    handler = page(peer="", X_Forwarded_For="6.6.6.6, 198.51.100.8")
    assert client.address_of(handler) == "198.51.100.8"


def test_without_a_request_there_is_no_address():
    assert client.address_of(None) == ""
    assert client.source_of(None, "alice") == "address:"


def test_a_browser_is_known_for_its_name_only():
    first = page()
    assert client.source_of(first, "alice") == "address:198.51.100.7"
    client.remember_browser(first, "alice")
    cookie = set_cookie(first)
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == ("/hub/", True, "Lax")

    again = page(cookie.value)
    known = client.source_of(again, "alice")
    assert known.startswith("browser:")
    assert len(known) == len("browser:") + 32
    for other in ("bob", "", "ALICE", "alice "):
        assert client.source_of(again, other) == "address:198.51.100.7"

    client.remember_browser(again, "alice")
    renewed = page(set_cookie(again).value)
    assert client.source_of(renewed, "alice") == known

    client.remember_browser(renewed, "bob")  # somebody else at the same browser
    assert client.source_of(page(set_cookie(renewed).value), "alice") == "address:198.51.100.7"


def test_two_browsers_are_two():
    ids = set()
    for _ in range(2):
        handler = page()
        client.remember_browser(handler, "alice")
        ids.add(client.source_of(page(set_cookie(handler).value), "alice"))
    assert len(ids) == 2


ID = "0" * 32


def signed(value=f"{ID}:alice", name=client.COOKIE, secret=SECRET, **options):
    return create_signed_value(secret, name, value, **options).decode()


def test_the_pattern_of_the_garbled_cookies_is_right():
    assert client.source_of(page(signed()), "alice") == f"browser:{ID}"


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "garbled",
        "2|1:0|",
        f"{ID}:alice",
        signed(secret=b"another secret"),
        signed(name="jupyterhub-hub-login"),
        signed(version=1),
        signed(clock=lambda: 1_000_000_000),  # long ago
        signed()[:-1] + "0" * 2,
        signed("alice"),
        signed(":alice"),
        signed(f"{ID}1:alice"),
        signed(f"{'A' * 32}:alice"),
        signed(f"{ID}\n:alice"),
        signed(f"{ID}:alice:alice"),
        signed(b"\xff\xfe:alice"),
        signed("0" * 3000 + ":alice"),
    ],
)
def test_a_cookie_that_is_not_ours_is_no_cookie(cookie):
    assert client.source_of(page(cookie), "alice") == "address:198.51.100.7"
