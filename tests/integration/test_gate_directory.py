"""The directory as the gate asks it: a real slapd, and servers that do not behave."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import threading
import time

import ldap3
import pytest
from ldap3.core.exceptions import LDAPException
from ldap3.strategy.base import BaseStrategy
from ldapauthenticator.ldapauthenticator import TlsStrategy

from carme_hub.authenticator import connection as connection_module
from carme_hub.authenticator import health as health_module
from carme_hub.authenticator.directory import (
    REFRESH_THREADS,
    Directory,
    DirectoryUnreachableError,
    Person,
    WrongPasswordError,
)
from carme_hub.authenticator.directory_traits import DirectoryTraits
from carme_hub.authenticator.servers import Server, parse_server
from carme_hub.demo import ldap
from tests.integration.gate_directory_world import (
    ALICE,
    babbling_server,
    far_away,
    maker,
    reader_of,
    settings_of,
)
from tests.integration.gate_world import PASSWORDS, dripping_server, free_port, silent_server, slapd


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with slapd(tmp_path_factory.mktemp("directory")) as directory:
        yield directory


@pytest.fixture
def settings(running):
    return settings_of(running)


@pytest.fixture
def make(running):
    with maker(running) as made:
        yield made


def open_connections(port):
    """Say which connections to a port are still open here (proc(5)): ESTABLISHED is 01, CLOSE_WAIT 08."""
    with open("/proc/self/net/tcp") as table:  # noqa: PTH123
        rows = [line.split() for line in table]
    return [row[1] for row in rows if row[2].endswith(f":{port:04X}") and row[3] in {"01", "08"}]


async def test_a_person_with_groups(make):
    person = await make().authenticate("alice", PASSWORDS["alice"])
    assert person == Person("alice", ALICE, frozenset({"ml101", "researchers"}))


async def test_tls_from_the_start(make, running):
    directory = make(servers=[Server("127.0.0.1", running.tls_port)], tls=TlsStrategy.on_connect)
    assert (await directory.authenticate("alice", PASSWORDS["alice"])).username == "alice"


@pytest.mark.parametrize(
    ("username", "password"),
    [("alice", "wrong"), ("nobody", "wrong"), ("alice", ""), ("alice", "(*)"), ("alice", "ä")],
)
async def test_wrong_password_and_unknown_person_are_one_answer(make, username, password):
    directory = make()
    with pytest.raises(WrongPasswordError):
        await directory.authenticate(username, password)
    assert make.reports == []


@pytest.mark.parametrize(
    "name", ["*", "*)(uid=*", "alice,ou=x", "al\0ice", "#alice", 'a"b', "a+uid=alice", "\\61lice"]
)
@pytest.mark.parametrize("lookup", [False, True])
async def test_names_with_meaning_in_ldap_find_nobody(make, name, lookup):
    with pytest.raises(WrongPasswordError):
        await make(lookup=lookup).authenticate(name, PASSWORDS["alice"])
    assert make.reports == []


async def test_search_in_place_of_a_template(make, running):
    for service in ({}, reader_of(running)):
        directory = make(dn_templates=[], lookup=True, **service)
        assert (await directory.authenticate("alice", PASSWORDS["alice"])).groups == {"ml101", "researchers"}
        with pytest.raises(WrongPasswordError):
            await directory.authenticate("nobody", PASSWORDS["alice"])


async def test_found_by_another_attribute_the_name_is_still_the_uid(make):
    directory = make(lookup=True, lookup_filter="(cn={login})")
    assert (await directory.authenticate("alice liddell", PASSWORDS["alice"])).username == "alice"


async def test_a_second_uid_is_no_second_account(make, running):
    with running.manager() as manager:
        manager.modify(ALICE, {"uid": [(ldap3.MODIFY_ADD, ["ally"])]})
    try:
        assert (await make(lookup=True).authenticate("ally", PASSWORDS["alice"])).username == "alice"
    finally:
        with running.manager() as manager:
            manager.modify(ALICE, {"uid": [(ldap3.MODIFY_DELETE, ["ally"])]})


async def test_the_other_kinds_of_groups(make, running):
    base = f"ou=groups,{ldap.BASE}"
    with running.manager() as manager:
        assert manager.add(f"cn=unique,{base}", "groupOfUniqueNames", {"cn": "unique", "uniqueMember": ALICE})
        assert manager.add(
            f"cn=posix,{base}", "posixGroup", {"cn": "posix", "gidNumber": 7, "memberUid": "alice"}
        )
    try:
        found = (await make().authenticate("alice", PASSWORDS["alice"])).groups
    finally:
        with running.manager() as manager:
            manager.delete(f"cn=unique,{base}")
            manager.delete(f"cn=posix,{base}")
    assert found == {"ml101", "researchers", "unique", "posix"}


async def test_the_search_filter_keeps_others_out(make):
    only = "(&({userattr}={username})(uidNumber=20001))"
    assert (await make(user_filter=only).authenticate("alice", PASSWORDS["alice"])).username == "alice"
    with pytest.raises(WrongPasswordError):
        await make(user_filter=only).authenticate("bob", PASSWORDS["bob"])


async def test_looking_up_without_the_password(make, running):
    directory = make(**reader_of(running))
    assert directory.can_look_up
    assert await directory.look_up("alice") == Person("alice", ALICE, frozenset({"ml101", "researchers"}))
    assert await directory.look_up("nobody") is None


async def test_a_wrong_service_password_is_not_told_to_a_person_as_theirs(make, running):
    directory = make(service_dn=running.prepared.reader_dn, service_password="wrong")
    with pytest.raises(DirectoryUnreachableError, match="service account"):
        await directory.authenticate("alice", PASSWORDS["alice"])


async def test_a_server_that_insists_on_tls_is_no_wrong_password(make):
    with pytest.raises(DirectoryUnreachableError, match="confidentialityRequired"):
        await make(tls=TlsStrategy.insecure).authenticate("alice", PASSWORDS["alice"])


# ---- servers that do not behave


async def test_the_next_server_answers_where_the_first_is_down(make, running):
    directory = make(servers=[Server("127.0.0.1", free_port()), Server("127.0.0.1", running.port)])
    assert (await directory.authenticate("alice", PASSWORDS["alice"])).username == "alice"
    assert len(make.reports) == 1
    with pytest.raises(WrongPasswordError):
        await directory.authenticate("alice", "wrong")


async def test_the_next_server_answers_where_the_first_is_silent(make, running):
    with silent_server() as port:
        directory = make(
            servers=[Server("127.0.0.1", port), Server("127.0.0.1", running.port)], receive_timeout=1
        )
        assert (await directory.authenticate("alice", PASSWORDS["alice"])).username == "alice"


async def test_rule_3_a_server_that_failed_is_tried_last_for_a_while(make, running, monkeypatch):
    monkeypatch.setattr(health_module, "FIRST_PAUSE", 60)
    with silent_server() as port:
        good, silent = Server("127.0.0.1", running.port), Server("127.0.0.1", port)
        directory = make(servers=[silent, good], receive_timeout=1)
        await directory.authenticate("alice", PASSWORDS["alice"])
        assert len(make.reports) == 1
        await directory.authenticate("alice", PASSWORDS["alice"])
        assert len(make.reports) == 1  # it was not even asked
        failing, well = directory.health()
        assert (failing.server, failing.failures, well.failures) == (str(silent), 1, 0)
        assert time.time() - failing.failing_since < 60
        assert failing.reason
        directory._health._failing[silent].until = 0  # the pause is over
        await directory.authenticate("alice", PASSWORDS["alice"])
        assert len(make.reports) == 2
        assert directory.health()[0].failures == 2


async def test_rule_3_a_no_of_a_server_that_had_failed_is_an_answer(make, running):
    directory = make()
    directory._health.failed(Server("127.0.0.1", running.port), "tests say so")
    with pytest.raises(WrongPasswordError):
        await directory.authenticate("alice", "wrong")
    assert [state.failures for state in directory.health()] == [0]


async def test_refreshes_by_the_thousand_do_not_delay_a_login(make, running):
    with silent_server() as port:
        directory = make(**reader_of(running), receive_timeout=60, deadline=4)
        with pytest.MonkeyPatch.context() as patch:
            hanging = threading.Semaphore(0)
            silent = [Server("127.0.0.1", port)]
            patch.setattr(directory._health, "order", lambda: [hanging.release(), silent][1])
            refreshes = [asyncio.create_task(directory.look_up("alice")) for _ in range(1000)]
            for _ in range(REFRESH_THREADS):
                assert await asyncio.to_thread(hanging.acquire, timeout=10)
        assert (await directory.authenticate("alice", PASSWORDS["alice"])).username == "alice"
        assert not any(task.done() for task in refreshes)
        for task in refreshes:
            task.cancel()
        await asyncio.gather(*refreshes, return_exceptions=True)


LATE = 0.3  # seconds that each answer takes on the way


@pytest.mark.parametrize(
    ("changes", "service", "expected"),
    [
        ({}, False, "TLS bind search search"),  # the last asks for groups of groups
        ({"nested_group_levels": 0}, False, "TLS bind search"),
        ({"group_search_base": ""}, False, "TLS bind"),
        ({}, True, "TLS bind bind search search"),
        ({"lookup": True}, True, "TLS bind search bind bind search search"),
        ({"lookup": True}, False, "TLS search bind search search"),
        ({"user_filter": "(uid={username})"}, False, "TLS bind search search search"),
    ],
)
async def test_a_login_asks_few_questions(make, running, changes, service, expected):
    names = {"extendedReq": "TLS", "bindRequest": "bind", "searchRequest": "search", "unbindRequest": ""}
    asked = []
    send = BaseStrategy.send

    def counting(self, kind, *words, **more):
        asked.append(names[kind])
        return send(self, kind, *words, **more)

    directory = make(**changes, **(reader_of(running) if service else {}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseStrategy, "send", counting)
        await directory.authenticate("alice", PASSWORDS["alice"])
    assert " ".join(asked).strip() == expected


async def test_fifty_logins_at_a_directory_far_away(make, running):
    async with far_away(running.port, LATE) as port:
        directory = make(servers=[Server("127.0.0.1", port)])
        start = time.monotonic()
        asked = [directory.authenticate("alice", PASSWORDS["alice"]) for _ in range(50)]
        people = await asyncio.gather(*asked)
        seconds = time.monotonic() - start
    assert {person.groups for person in people} == {frozenset({"ml101", "researchers"})}
    assert seconds < 50 * 5 * LATE / 4  # one after the other they would take 75 s


@pytest.mark.parametrize("tls", [TlsStrategy.before_bind, TlsStrategy.on_connect, TlsStrategy.insecure])
async def test_a_dripping_server_is_cut_off_at_the_deadline(make, tls):
    with dripping_server() as (port, ended):
        directory = make(servers=[Server("127.0.0.1", port)], receive_timeout=5, deadline=1, tls=tls)
        start = time.monotonic()
        asked = [directory.authenticate("alice", PASSWORDS["alice"]) for _ in range(5)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(answer) for answer in answers} == {DirectoryUnreachableError}
        assert time.monotonic() - start < 5  # as long as it may be silent once
        for _ in answers:
            assert await asyncio.to_thread(ended.acquire, timeout=3)


async def test_a_dripping_server_leaves_time_for_the_next(make, running):
    with dripping_server() as (port, _):
        servers = [Server("127.0.0.1", port), Server("127.0.0.1", running.port)]
        directory = make(servers=servers, receive_timeout=5, deadline=4)
        assert (await directory.authenticate("alice", PASSWORDS["alice"])).username == "alice"


class Answered:
    """A connection with one answer."""

    response = ()

    def __init__(self, code):
        self.result = {"result": code, "description": "described", "message": "message"}

    def search(self, *_, **__):
        pass


@pytest.mark.parametrize("code", range(1, 81))
def test_rule_3_six_results_of_a_bind_speak_of_the_person(code):
    expected = WrongPasswordError if code in {19, 32, 34, 48, 49, 53} else LDAPException
    with pytest.raises(expected) as refused:
        connection_module._refuse(Answered(code).result)
    # Two of them have a cause that is for the log.
    assert bool(refused.value.args) == (code not in {32, 34, 48, 49})


async def test_a_connection_that_was_closed_is_not_opened_anew_without_tls(make):
    directory = make()
    target = connection_module.Target(directory._health.order()[0], time.monotonic() + 5)
    with connection_module.opened(directory._questions._way, target) as connection:
        connection_module.bind(connection, ALICE, PASSWORDS["alice"])
        connection.strategy.close()
        with pytest.raises(LDAPException, match="closed before the bind"):
            connection_module.bind(connection, ALICE, PASSWORDS["alice"])


def test_an_entry_that_may_not_be_read_is_a_fault():
    assert connection_module.search(Answered(32), ALICE, "(uid=*)", ldap3.BASE, ["uid"]) == []
    with pytest.raises(LDAPException, match="described"):
        connection_module.search(Answered(50), ALICE, "(uid=*)", ldap3.BASE, ["uid"])


async def test_all_servers_down_is_no_wrong_password(make):
    with pytest.raises(DirectoryUnreachableError):
        await make(servers=[Server("127.0.0.1", free_port())]).authenticate("alice", PASSWORDS["alice"])


@pytest.mark.parametrize("tls", [TlsStrategy.before_bind, TlsStrategy.on_connect, TlsStrategy.insecure])
async def test_a_silent_server_costs_its_time_out(make, tls):
    with silent_server() as port:
        directory = make(servers=[Server("127.0.0.1", port)], receive_timeout=1, tls=tls)
        start = time.monotonic()
        with pytest.raises(DirectoryUnreachableError):
            await directory.authenticate("alice", PASSWORDS["alice"])
        assert time.monotonic() - start < 10


@pytest.mark.parametrize("tls", [TlsStrategy.before_bind, TlsStrategy.on_connect, TlsStrategy.insecure])
@pytest.mark.parametrize(
    "words",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"\0" * 50, b"0\0", b"\x30\x03\x81\x01\x00"],
)
async def test_rule_3_a_server_that_speaks_no_ldap_is_a_failure_and_the_next_answers(
    make, running, tls, words
):
    with babbling_server(words) as port:
        babbling = Server("127.0.0.1", port)
        with pytest.raises(DirectoryUnreachableError):
            await make(servers=[babbling], tls=tls).authenticate("alice", PASSWORDS["alice"])
        if tls is TlsStrategy.before_bind:
            directory = make(servers=[babbling, Server("127.0.0.1", running.port)])
            assert (await directory.authenticate("alice", PASSWORDS["alice"])).username == "alice"


async def test_the_deadline_holds_where_time_outs_are_longer(make):
    with silent_server(4) as port:
        directory = make(servers=[Server("127.0.0.1", port)], receive_timeout=60, deadline=0.5)
        start = time.monotonic()
        with pytest.raises(DirectoryUnreachableError, match=r"within 0\.5 s|in time"):
            await directory.authenticate("alice", PASSWORDS["alice"])
        assert time.monotonic() - start < 4  # when the server breaks off


async def test_a_certificate_of_somebody_else_is_refused(make, tmp_path):
    foreign = ldap.make_ca(tmp_path, ["127.0.0.1"])
    with pytest.raises(DirectoryUnreachableError, match=r"(?i)certificate"):
        await make(ca_file=str(foreign.ca)).authenticate("alice", PASSWORDS["alice"])


async def test_the_systems_authorities_do_not_know_ours(make, running):
    for server, tls in [(running.port, TlsStrategy.before_bind), (running.tls_port, TlsStrategy.on_connect)]:
        with pytest.raises(DirectoryUnreachableError, match=r"(?i)certificate"):
            await make(ca_file=None, servers=[Server("127.0.0.1", server)], tls=tls).authenticate(
                "alice", "x"
            )


async def test_a_certificate_for_another_name_is_refused(make, tmp_path):
    with slapd(tmp_path, names=["ldap.example.org"]) as other:
        directory = make(servers=[Server("127.0.0.1", other.port)], ca_file=str(other.certificates.ca))
        with pytest.raises(DirectoryUnreachableError, match=r"(?i)certificate"):
            await directory.authenticate("alice", PASSWORDS["alice"])


async def test_connections_are_closed(make, running, tmp_path):
    directory, distrusting = make(), make(ca_file=str(ldap.make_ca(tmp_path, ["127.0.0.1"]).ca))
    gc.disable()  # it would close what we forget
    try:
        await asyncio.gather(*(directory.authenticate("alice", PASSWORDS["alice"]) for _ in range(20)))
        with pytest.raises(WrongPasswordError):
            await directory.authenticate("alice", "wrong")
        with pytest.raises(DirectoryUnreachableError):
            await distrusting.authenticate("alice", PASSWORDS["alice"])
        assert open_connections(running.port) == []
    finally:
        gc.enable()


def test_the_ca_file_is_read_at_once(settings):
    with pytest.raises(OSError, match="No such file"):
        Directory(dataclasses.replace(settings, ca_file="/nowhere/ca.pem"), print)


# ---- settings and addresses


@pytest.mark.parametrize(
    ("traits", "named"),
    [
        ({"server_address": ""}, "server_address"),
        ({"bind_dn_template": []}, "bind_dn_template"),
        ({"lookup_dn": True}, "user_search_base"),
        ({"member_of_attribute": "memberOf"}, "group_search_base"),
    ],
)
def test_settings_that_make_no_sense_are_named(traits, named):
    good = {"server_address": "ldap.example.org", "bind_dn_template": "uid={username},dc=x"}
    assert DirectoryTraits(**good).directory_settings().nested_group_levels == 5
    with pytest.raises(ValueError, match=named):
        DirectoryTraits(**{**good, **traits}).directory_settings()


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("ldap.example.org", Server("ldap.example.org", 389)),
        ("ldap.example.org:1389", Server("ldap.example.org", 1389)),
        ("10.0.0.1:636", Server("10.0.0.1", 636)),
        ("[fd00::1]:636", Server("fd00::1", 636)),
        ("[fd00::1]", Server("fd00::1", 389)),
    ],
)
def test_addresses(text, server):
    assert parse_server(text, 389) == server
    assert parse_server(str(server), 1) == server


@pytest.mark.parametrize("text", ["", "ldap://x", "x:", "x:0", "x:70000", "fd00::1", "x y", "x\n:1", "x:1:2"])
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="server_address"):
        parse_server(text, 389)


# ---- the demo's directory itself


def test_nobody_reads_passwords_and_everybody_reads_accounts(running):
    server = ldap3.Server("127.0.0.1", running.tls_port, use_ssl=True, get_info=ldap3.NONE)
    for user, password in [(None, None), (running.prepared.reader_dn, running.prepared.reader_password)]:
        connection = ldap3.Connection(server, user, password, auto_bind=True)
        connection.search(ldap.BASE, "(uid=alice)", attributes=["*"])
        attributes = connection.response[0]["raw_attributes"]
        connection.unbind()
        assert attributes["uidNumber"] == [b"20001"]
        assert "userPassword" not in attributes
