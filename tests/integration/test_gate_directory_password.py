"""Changing a password: a real directory with a password policy (ppolicy), servers that do not behave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import ldap3
import pytest
from ldap3.core.exceptions import LDAPSocketReceiveError
from ldap3.strategy.base import BaseStrategy
from ldapauthenticator.ldapauthenticator import TlsStrategy

from carme_hub.authenticator import password_change, policy
from carme_hub.authenticator.directory import (
    ChangeUnclearError,
    DirectoryUnreachableError,
    PasswordPolicyError,
    WrongPasswordError,
)
from carme_hub.authenticator.servers import Server
from carme_hub.demo import ldap
from tests.integration.gate_directory_world import ALICE, PEOPLE_BASE, maker, reader_of, slapd_with
from tests.integration.gate_world import PASSWORDS, free_port, silent_server, slapd

POLICIES = f"ou=policies,{ldap.BASE}"
OVERLAY = f"""overlay ppolicy
ppolicy_default "cn=default,{POLICIES}"
ppolicy_use_lockout
"""
DEFAULT = {
    "pwdMinLength": 10,
    "pwdCheckQuality": 2,
    "pwdInHistory": 3,
    "pwdSafeModify": "TRUE",
    "pwdMustChange": "TRUE",
    "pwdMaxFailure": 50,
    "pwdLockout": "TRUE",
}
OTHERS = {
    "young": {"pwdMinAge": 86400, "pwdAllowUserChange": "TRUE"},
    "fixed": {"pwdAllowUserChange": "FALSE"},
    "expiring": {"pwdMaxAge": 1, "pwdGraceAuthNLimit": 0},
    "locking": {"pwdLockout": "TRUE", "pwdMaxFailure": 1},
}
NEW = "ein gänzlich neues Wort"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with slapd_with(tmp_path_factory.mktemp("directory"), "ppolicy", OVERLAY) as directory:
        with directory.manager() as manager:
            assert manager.add(POLICIES, "organizationalUnit")
            for name, rules in {"default": DEFAULT, **OTHERS}.items():
                kinds = ["organizationalRole", "pwdPolicy"]
                attributes = {"pwdAttribute": "userPassword", **rules}
                assert manager.add(f"cn={name},{POLICIES}", kinds, attributes), manager.result
        yield directory


@pytest.fixture
def make(running):
    with maker(running) as made:
        yield made


@pytest.fixture
def person(running):
    """Add somebody with a policy; returns the name and the password."""
    names = []

    def add(rules="default", **more):
        name = f"somebody{len(names)}"
        names.append(name)
        attributes = {
            "sn": "x",
            "cn": "x",
            "uid": name,
            "userPassword": "the first password",
            "pwdPolicySubentry": f"cn={rules},{POLICIES}",
            **more,
        }
        with running.manager() as manager:
            assert manager.add(f"uid={name},{PEOPLE_BASE}", "inetOrgPerson", attributes), manager.result
        return name, "the first password"

    yield add
    with running.manager() as manager:
        for name in names:
            manager.delete(f"uid={name},{PEOPLE_BASE}")


@pytest.mark.parametrize("tls", [TlsStrategy.before_bind, TlsStrategy.on_connect])
@pytest.mark.parametrize("by", ["template", "search"])
async def test_a_password_is_changed(make, running, person, tls, by):
    port = running.tls_port if tls is TlsStrategy.on_connect else running.port
    changes = {"lookup": True, **reader_of(running)} if by == "search" else {}
    directory = make(servers=[Server("127.0.0.1", port)], tls=tls, **changes)
    name, old = person()
    await directory.change_password(name, old, NEW)
    assert (await directory.authenticate(name, NEW)).username == name
    with pytest.raises(WrongPasswordError):
        await directory.authenticate(name, old)
    with pytest.raises(WrongPasswordError):
        await directory.change_password(name, old, NEW + "!")
    assert make.reports == []


@pytest.mark.parametrize("old", ["wrong", "", " ", "*", "x" * 5000, "\0", "\udfff"])
async def test_the_old_password_has_to_be_right(make, person, old):
    name, first = person()
    with pytest.raises(WrongPasswordError):
        await make().change_password(name, old, NEW)
    assert (await make().authenticate(name, first)).username == name


@pytest.mark.parametrize("name", ["nobody", "*", "*)(uid=*", "a,b", "al\0ice", "a\nb"])
@pytest.mark.parametrize("lookup", [False, True])
async def test_nobodys_password(make, running, name, lookup):
    with pytest.raises(WrongPasswordError):
        await make(lookup=lookup, **reader_of(running)).change_password(name, PASSWORDS["alice"], NEW)
    assert (await make().authenticate("alice", PASSWORDS["alice"])).username == "alice"


@pytest.mark.parametrize("new", ["", "  ", "a\0b" * 9, "x" * 5000, "\udfff" * 12])
async def test_a_new_password_that_cannot_be_one_is_never_sent(make, person, new):
    name, old = person()
    with pytest.raises(PasswordPolicyError, match="Choose another"):
        await make().change_password(name, old, new)
    assert (await make().authenticate(name, old)).username == name


@pytest.mark.parametrize(("rules", "new", "error"), [("default", "short", 6), ("fixed", NEW, 3)])
async def test_the_policy_answers_in_a_sentence(make, person, rules, new, error):
    name, old = person(rules)
    with pytest.raises(PasswordPolicyError) as refused:
        await make().change_password(name, old, new)
    assert refused.value.sentence == policy.SENTENCES[error]
    assert (await make().authenticate(name, old)).username == name


async def test_a_password_from_the_history(make, person):
    name, old = person()
    directory = make()
    await directory.change_password(name, old, NEW)
    for again in (old, NEW):
        with pytest.raises(PasswordPolicyError) as refused:
            await directory.change_password(name, NEW, again)
        assert refused.value.sentence == policy.SENTENCES[8]


async def test_a_password_that_is_too_young(make, person):
    name, old = person("young")
    with pytest.raises(PasswordPolicyError) as refused:
        await make().change_password(name, old, NEW)
    assert refused.value.sentence == policy.SENTENCES[7]


# ---- accounts in a state of their own


async def test_rule_3_a_password_to_be_changed_first_lets_nobody_in_but_can_be_changed(make, running, person):
    name, old = person()
    with running.manager() as manager:
        assert manager.modify(f"uid={name},{PEOPLE_BASE}", {"pwdReset": [(ldap3.MODIFY_REPLACE, ["TRUE"])]})
    for service in ({}, reader_of(running)):
        directory = make(**service)
        with pytest.raises(WrongPasswordError):
            await directory.authenticate(name, old)
        assert "has to be changed first" in make.reports.pop()
        assert [state.failures for state in directory.health()] == [0]
    await make().change_password(name, old, NEW)
    assert (await make().authenticate(name, NEW)).username == name


async def test_rule_3_an_expired_password_is_a_refusal_with_a_line_in_the_log(make, person):
    name, old = person("expiring")
    until = time.monotonic() + 20
    while not make.reports:
        assert time.monotonic() < until
        with contextlib.suppress(WrongPasswordError):
            await make().authenticate(name, old)
    assert "has expired" in make.reports[0]
    with pytest.raises(WrongPasswordError):
        await make().change_password(name, old, NEW)


async def test_rule_3_a_locked_account_is_a_refusal_with_a_line_in_the_log(make, person):
    name, old = person("locking")
    directory = make()
    with pytest.raises(WrongPasswordError):
        await directory.authenticate(name, "wrong")
    with pytest.raises(WrongPasswordError):
        await directory.authenticate(name, old)
    assert "is locked" in make.reports[-1]
    assert old not in str(make.reports)


# ---- servers that do not change passwords, or do not answer


async def test_no_password_goes_out_without_tls(make):
    with pytest.raises(DirectoryUnreachableError, match="confidentialityRequired"):
        await make(tls=TlsStrategy.insecure).change_password("alice", PASSWORDS["alice"], NEW)
    assert (await make().authenticate("alice", PASSWORDS["alice"])).username == "alice"


async def test_a_certificate_of_somebody_else_sees_no_password(make, tmp_path):
    foreign = ldap.make_ca(tmp_path, ["127.0.0.1"])
    with pytest.raises(DirectoryUnreachableError, match=r"(?i)certificate"):
        await make(ca_file=str(foreign.ca)).change_password("alice", PASSWORDS["alice"], NEW)


async def test_a_directory_without_right_to_change_says_so(make, tmp_path):
    plain = ldap._slapd_conf

    def stingy(*words):
        return plain(*words).replace("by self =wx", "by self =x")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ldap, "_slapd_conf", stingy)
        with slapd(tmp_path) as other:
            directory = make(servers=[Server("127.0.0.1", other.port)], ca_file=str(other.certificates.ca))
            with pytest.raises(PasswordPolicyError) as refused:
                await directory.change_password("alice", PASSWORDS["alice"], NEW)
    assert refused.value.sentence.startswith(password_change.NOT_ALLOWED)


async def test_an_operation_the_server_does_not_know(make, monkeypatch):
    monkeypatch.setattr(password_change, "OPERATION", "1.3.6.1.4.1.4203.1.11.999")
    with pytest.raises(PasswordPolicyError) as refused:
        await make().change_password("alice", PASSWORDS["alice"], NEW)
    assert refused.value.sentence.startswith(password_change.NOT_OFFERED)


async def test_a_replica_that_only_reads_leaves_it_to_the_next(make, running, person, tmp_path):
    line = f'syncrepl rid=1 provider=ldap://127.0.0.1:{free_port()} searchbase="{ldap.BASE}" type=refreshOnly'
    lines = f'{line} retry="3600 +"\nupdateref ldap://127.0.0.1:{running.port}\n'
    name, old = person()
    with slapd_with(tmp_path, "syncprov", lines) as replica:
        both = "\n".join(path.read_text() for path in (replica.certificates.ca, running.certificates.ca))
        (tmp_path / "both.pem").write_text(both)
        only = Server("127.0.0.1", replica.port)
        directory = make(servers=[only], ca_file=str(tmp_path / "both.pem"))
        with pytest.raises(DirectoryUnreachableError, match="changes no passwords"):
            await directory.change_password("alice", PASSWORDS["alice"], NEW)
        assert [state.failures for state in directory.health()] == [0]
        servers = [only, Server("127.0.0.1", running.port)]
        directory = make(servers=servers, ca_file=str(tmp_path / "both.pem"))
        with contextlib.suppress(WrongPasswordError):  # the replica does not know this person
            await directory.change_password(name, old, NEW)
        await directory.change_password("alice", PASSWORDS["alice"], NEW)
        try:
            assert (await make().authenticate("alice", NEW)).dn == ALICE
        finally:
            with running.manager() as manager:
                hashed = ldap.hash_password(PASSWORDS["alice"])
                assert manager.modify(ALICE, {"userPassword": [(ldap3.MODIFY_REPLACE, [hashed])]})


async def test_the_next_server_is_asked_while_nothing_was_sent(make, running, person):
    name, old = person()
    with silent_server() as port:
        servers = [Server("127.0.0.1", port), Server("127.0.0.1", running.port)]
        await make(servers=servers, receive_timeout=1).change_password(name, old, NEW)
    assert (await make().authenticate(name, NEW)).username == name


@pytest.mark.parametrize(
    ("cut_at", "when"),
    [("StartTLS", "before"), ("bind", "before"), ("change", "before"), ("change", "after")],
)
async def test_what_was_sent_is_never_sent_to_a_second_server(make, running, person, cut_at, when):
    asked: list[tuple[str, str]] = []
    send = BaseStrategy.send

    def cutting(self, kind, request, controls=None):
        what = {"bindRequest": "bind", "unbindRequest": "unbind"}.get(kind, "StartTLS")
        if kind == "extendedReq" and str(request["requestName"]) == password_change.OPERATION:
            what = "change"
        asked.append((self.connection.server.host, what))
        is_cut = self.connection.server.host == "localhost" and what == cut_at
        if is_cut and when == "before":
            socket.socket.shutdown(self.connection.socket, socket.SHUT_RDWR)
        number = send(self, kind, request, controls)
        if is_cut and when == "after":
            raise LDAPSocketReceiveError("the answer was lost")
        return number

    name, old = person()
    # One directory under two names, the first of which does not get to the end.
    directory = make(servers=[Server(host, running.port) for host in ("localhost", "127.0.0.1")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseStrategy, "send", cutting)
        if cut_at == "change":
            with pytest.raises(ChangeUnclearError):
                await directory.change_password(name, old, NEW)
        else:
            await directory.change_password(name, old, NEW)
    changes = [host for host, what in asked if what == "change"]
    assert changes == ["localhost" if cut_at == "change" else "127.0.0.1"]
    assert [state.failures for state in directory.health()] == [1, 0]
    if cut_at != "change":
        assert (await make().authenticate(name, NEW)).username == name


async def test_the_deadline_holds_and_the_loop_goes_on(make):
    with silent_server(6) as port:
        directory = make(servers=[Server("127.0.0.1", port)], receive_timeout=60, deadline=0.5)
        start = time.monotonic()
        change = asyncio.create_task(directory.change_password("alice", PASSWORDS["alice"], NEW))
        await asyncio.sleep(0)
        assert not change.done()
        with pytest.raises(DirectoryUnreachableError):
            await change
        assert time.monotonic() - start < 6  # when the server breaks off


async def test_rule_5_passwords_are_in_no_report_and_no_error(make, person):
    name, old = person()
    directory = make()
    shown = []
    for attempt in ((old, "short"), ("wrong password", NEW), (old, "short")):
        with pytest.raises((PasswordPolicyError, WrongPasswordError)) as refused:
            await directory.change_password(name, *attempt)
        shown.append(repr(refused.value) + repr(refused.value.__cause__))
    assert not any(
        secret in text for text in [*shown, *make.reports] for secret in (old, NEW, "wrong password")
    )
