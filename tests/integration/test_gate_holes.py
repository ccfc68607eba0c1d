"""Holes of the packages we build on, shown on them and shown closed here.

Hole 4 is in test_gate_hub.py, hole 7 on plain pyotp in test_gate_totp.py.

Hole 6, nativeauthenticator, cannot be run side by side: it breaks on JupyterHub 6 we do not use it.
What it gets wrong in itself is tested on ours: secrets in plain text and of 80 bit (test_gate_store.py,
test_gate_totp.py), no replay check (test_gate_store.py, test_gate_hub.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import threading
import time

import pytest
from jupyterhub.handlers.base import BaseHandler
from ldapauthenticator import LDAPAuthenticator
from tornado import web
from traitlets import TraitError

from carme_hub.authenticator import logins, proofs
from carme_hub.authenticator.answers import GateUnavailableError
from carme_hub.authenticator.authenticator import CarmeAuthenticator
from carme_hub.authenticator.secretbox import new_key_file
from carme_hub.demo import ldap
from tests.integration.gate_world import PASSWORDS, Slapd, code, silent_server

TEMPLATE = f"uid={{username}},ou=people,{ldap.BASE}"
ALICE = {"username": "alice", "password": PASSWORDS["alice"]}

# Upstream leaves its sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


@pytest.fixture(autouse=True)
def _collect_what_upstream_left_open():
    yield
    gc.collect()


@pytest.fixture
def make_ours(tmp_path):
    """Our authenticator, outside a hub."""
    made = []
    new_key_file(tmp_path / "key")

    def make(**traits) -> CarmeAuthenticator:
        values = {
            "bind_dn_template": TEMPLATE,
            "group_search_base": f"ou=groups,{ldap.BASE}",
            "database_url": f"sqlite:///{tmp_path}/carme.sqlite",
            "secret_key_file": str(tmp_path / "key"),
            "audit_file": str(tmp_path / "audit.jsonl"),
            "refusal_seconds": 0.0,
            **traits,
        }
        made.append(CarmeAuthenticator(**values))
        return made[-1]

    yield make
    for gate in made:
        gate.close()


def device(gate: CarmeAuthenticator, username: str = "alice") -> str:
    gate.store.add_totp(username, "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    return "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def upstream(running: Slapd, **traits) -> LDAPAuthenticator:
    return LDAPAuthenticator(
        server_address="127.0.0.1",
        server_port=running.port,
        bind_dn_template=TEMPLATE,
        allow_all=True,
        **traits,
    )


# ---- hole 5


async def longest_stall(work) -> float:
    """Run something and measure the longest time, in seconds, in which the loop did nothing else."""
    longest = 0.0

    async def heartbeat():
        nonlocal longest
        while True:
            start = time.monotonic()
            await asyncio.sleep(0.02)
            longest = max(longest, time.monotonic() - start)

    beating = asyncio.create_task(heartbeat())
    await asyncio.sleep(0)
    with contextlib.suppress(Exception):  # how it fails is another test's matter
        await work
    await asyncio.sleep(0.05)
    beating.cancel()
    return longest


async def test_hole_5_a_silent_server_stops_the_loop_of_the_plain_package(make_ours):
    with silent_server(2) as port:
        plain = LDAPAuthenticator(server_address="127.0.0.1", server_port=port, bind_dn_template=TEMPLATE)
        assert await longest_stall(plain.authenticate(None, ALICE)) > 1.5
    with silent_server() as port:
        ours = make_ours(server_address=f"127.0.0.1:{port}", receive_timeout=3, directory_deadline=3.5)
        device(ours)
        assert await longest_stall(ours.authenticate(None, {**ALICE, "otp": "123456"})) < 1.5


async def test_hole_5_the_plain_package_takes_any_certificate(make_ours, directory, tmp_path):
    foreign = str(ldap.make_ca(tmp_path / "foreign", ["127.0.0.1"]).ca)
    for traits in ({}, {"tls_kwargs": {"ca_certs_file": foreign}}):
        assert (await upstream(directory, **traits).authenticate(None, ALICE))["name"] == "alice"
    for traits in ({}, {"ca_file": foreign}):
        ours = make_ours(server_address=f"127.0.0.1:{directory.port}", **traits)
        secret = device(ours)
        with pytest.raises(web.HTTPError) as refused:
            await ours.authenticate(None, {**ALICE, "otp": code(secret)})
        assert refused.value.status_code == 503
    ours = make_ours(server_address=f"127.0.0.1:{directory.port}", ca_file=str(directory.certificates.ca))
    assert (await ours.authenticate(None, {**ALICE, "otp": code(device(ours))}))["name"] == "alice"


def test_hole_5_verification_cannot_be_lost_by_accident(make_ours):
    with pytest.raises(TraitError, match="ca_file"):
        make_ours(tls_kwargs={"validate": 0})


async def test_hole_5_manage_groups(make_ours, directory):
    plain = await upstream(directory, manage_groups=True).get_authenticated_user(None, ALICE)
    assert "groups" not in plain  # what JupyterHub raises ValueError for
    ours = make_ours(server_address=f"127.0.0.1:{directory.port}", ca_file=str(directory.certificates.ca))
    model = await ours.get_authenticated_user(None, {**ALICE, "otp": code(device(ours))})
    assert model["groups"] == ["ml101", "researchers"]


async def test_hole_5_a_newline_in_the_name(make_ours, directory):
    name = "alice\n"
    assert re.match(LDAPAuthenticator().valid_username_regex, name)  # upstream's test
    ours = make_ours(server_address=f"127.0.0.1:{directory.port}", ca_file=str(directory.certificates.ca))
    secret = device(ours)
    assert await ours.authenticate(None, {**ALICE, "username": name, "otp": code(secret)}) is None
    assert await ours.authenticate(None, {**ALICE, "otp": code(secret)}) is not None


# ---- hole 7


async def test_hole_7_the_step_counts_and_not_the_text(make_ours, directory):
    ours = make_ours(server_address=f"127.0.0.1:{directory.port}", ca_file=str(directory.certificates.ca))
    otp = code(device(ours))
    fullwidth = "".join(chr(ord(digit) + 0xFEE0) for digit in otp)
    assert await ours.authenticate(None, {**ALICE, "otp": otp}) is not None
    for twin in (otp, fullwidth, f"{otp} "):
        assert await ours.authenticate(None, {**ALICE, "otp": twin}) is None


# ---- who may come in (a truth table): the admin flag as JupyterHub gets it, or no login

REFUSED = "refused"


@pytest.mark.parametrize(
    ("traits", "username", "outcome"),
    [
        ({}, "alice", None),
        ({"allowed_groups": {"ml101"}}, "alice", None),
        ({"allowed_groups": {"ml101"}}, "bob", REFUSED),
        ({"allowed_users": {"bob"}}, "alice", REFUSED),
        ({"allowed_users": {"bob"}}, "bob", None),
        ({"allowed_groups": {"ml101"}, "allowed_users": {"bob"}}, "bob", None),
        ({"blocked_users": {"alice"}}, "alice", REFUSED),
        ({"admin_groups": {"hpc-admins"}}, "carol", True),
        ({"admin_groups": {"hpc-admins"}}, "alice", False),
        ({"admin_groups": {"hpc-admins"}, "allowed_groups": {"ml101"}}, "carol", True),
        ({"admin_groups": {"hpc-admins"}, "admin_users": {"bob"}}, "bob", True),
        ({"admin_users": {"bob"}}, "bob", True),
        ({"allow_all": True, "allowed_groups": {"ml101"}}, "bob", None),
    ],
)
async def test_who_may_come_in(make_ours, directory, traits, username, outcome):
    ours = make_ours(
        server_address=f"127.0.0.1:{directory.port}", ca_file=str(directory.certificates.ca), **traits
    )
    data = {"username": username, "password": PASSWORDS[username], "otp": code(device(ours, username))}
    model = await ours.get_authenticated_user(None, data)
    assert (model["admin"] if model else REFUSED) == outcome


async def test_who_left_the_group_stays_out_also_after_having_been_in(make_ours):
    class User:
        name = "alice"

    ours = make_ours(allowed_groups={"ml101"}, allowed_users={"bob"})
    ours.add_user(User)  # what the hub does with everybody who was in once
    assert not await ours.check_allowed("alice", {"name": "alice", "groups": []})
    assert await ours.check_allowed("bob", {"name": "bob", "groups": []})


async def test_a_database_that_hangs_is_a_sentence(make_ours, directory, monkeypatch):
    ours = make_ours(server_address=f"127.0.0.1:{directory.port}", ca_file=str(directory.certificates.ca))
    otp = code(device(ours))
    released = threading.Event()
    monkeypatch.setattr(ours.store, "totp_devices", lambda _: released.wait(20))
    monkeypatch.setattr(proofs, "STORE_SECONDS", 0.3)
    with pytest.raises(GateUnavailableError) as refused:
        await ours.authenticate(None, {**ALICE, "otp": otp})
    assert "database of devices does not answer" in refused.value.jupyterhub_message
    # Whatever else the hub does in threads does not queue behind it.
    waiting = asyncio.gather(
        *(ours.in_thread(lambda: released.wait(20)) for _ in range(40)), return_exceptions=True
    )
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 10) == "done"
    assert {type(answer) for answer in await waiting} == {GateUnavailableError}
    released.set()


def test_a_window_of_more_than_one_step_is_refused(make_ours):
    assert make_ours(totp_window=0).totp_window == 0
    with pytest.raises(TraitError, match="totp_window"):
        make_ours(totp_window=2)


def test_groups_are_named_and_not_given_as_dns(make_ours):
    with pytest.raises(TraitError, match="names"):
        make_ours(allowed_groups={"cn=ml101,ou=groups,dc=example,dc=org"})


async def test_a_refresh_reads_groups_and_ends_those_who_left(make_ours, directory, monkeypatch):
    class User:
        name = "alice"

    address = {"server_address": f"127.0.0.1:{directory.port}", "ca_file": str(directory.certificates.ca)}
    assert await make_ours(**address).refresh_user(User) is True
    reader = {
        "lookup_dn_search_user": directory.prepared.reader_dn,
        "lookup_dn_search_password": directory.prepared.reader_password,
    }
    ours = make_ours(**address, **reader, admin_groups={"hpc-admins"}, allowed_groups={"ml101"})
    assert await ours.refresh_user(User) == {
        "name": "alice",
        "groups": ["ml101", "researchers"],
        "admin": False,
    }
    User.name = "bob"  # not in the allowed group
    assert await ours.refresh_user(User) is False
    ended = []
    monkeypatch.setattr(logins, "end_logins", ended.append)
    User.name = "nobody"
    assert await ours.refresh_user(User) is False
    assert ended == [User]  # who is gone is out for good
    down = make_ours(**{**address, "server_address": "127.0.0.1:9"}, **reader)
    assert await down.refresh_user(User) is True


def test_our_handlers_are_the_hubs(make_ours):
    with pytest.raises(ValueError, match="server_address"):
        make_ours().get_handlers(None)
    with pytest.raises(ValueError, match="ca_file"):
        make_ours(server_address="127.0.0.1", ca_file="/nowhere").get_handlers(None)
    handlers = make_ours(server_address="127.0.0.1").get_handlers(None)
    pages = [handler for _, handler, *arguments in handlers if not arguments]  # the others are files
    assert all(issubclass(handler, BaseHandler) for handler in pages)
