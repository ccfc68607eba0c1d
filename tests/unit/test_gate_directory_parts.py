"""What the directory's part decides without a directory: names, groups, health, policy answers."""

from __future__ import annotations

import re
import threading

import pytest
from ldap3.core.exceptions import LDAPException, LDAPSocketReceiveError

from carme_hub.authenticator import health as health_module
from carme_hub.authenticator import password_change, policy
from carme_hub.authenticator.directory_errors import (
    ChangeUnclearError,
    PasswordPolicyError,
    WrongPasswordError,
)
from carme_hub.authenticator.dn import is_below, key_of, parts_of, value_of
from carme_hub.authenticator.groups import MAX_MEMBERS, Group, Layout, groups_of
from carme_hub.authenticator.health import Health
from carme_hub.authenticator.servers import Server

# ---- distinguished names


@pytest.mark.parametrize(
    ("dn", "attribute", "value"),
    [
        ("cn=ml101,ou=groups,dc=x", "cn", "ml101"),
        ("CN=ml101 , ou=groups,dc=x", "cn", "ml101"),
        (r"cn=a\, b\+\"c\\,dc=x", "cn", r'a, b+"c' + "\\"),
        (r"cn=M\C3\BCller,dc=x", "CN", "Müller"),
        (r"cn=ends with \ ,dc=x", "cn", "ends with  "),
        (r"cn=\#one,dc=x", "cn", "#one"),
        ("cn=a=b,dc=x", "cn", "a=b"),
        ("cn=a,", "cn", None),
        ("cn=a+", "cn", None),
        ("cn=a,b,dc=x", "cn", None),
        ("cn=a\\", "cn", None),
        ("cn=,dc=x", "cn", ""),
        ("cn=a\nb,dc=x", "cn", "a\nb"),
        ("uid=alice+cn=x,dc=x", "cn", "x"),
        ("ou=x,cn=y", "cn", None),
        ("alice@example.org", "cn", None),
        ("", "cn", None),
    ],
)
def test_the_value_in_a_distinguished_name(dn, attribute, value):
    assert value_of(dn, attribute) == value


def test_spellings_of_one_distinguished_name():
    assert key_of(r"CN=A\2C b, OU=x") == key_of(r"cn=a\, B,ou=X")
    assert key_of("cn=a+uid=b,dc=x") == key_of("uid=b+cn=a,dc=x")
    assert key_of(r"cn=a\,ou=b") != key_of("cn=a,ou=b")
    assert parts_of("no name") == ()
    assert key_of("NO name") == key_of("no name")


@pytest.mark.parametrize(
    ("dn", "base", "expected"),
    [
        ("cn=a,ou=groups,dc=x", "ou=Groups, dc=x", True),
        ("cn=a,ou=b,ou=groups,dc=x", "ou=groups,dc=x", True),
        ("ou=groups,dc=x", "ou=groups,dc=x", False),
        (r"cn=a\,ou=groups,dc=x", "ou=groups,dc=x", False),
        ("cn=a,ou=mygroups,dc=x", "ou=groups,dc=x", False),
        ("nonsense", "ou=groups,dc=x", False),
        ("cn=a,ou=groups,dc=x", "nonsense", False),
    ],
)
def test_below(dn, base, expected):
    assert is_below(dn, base) is expected


# ---- groups

BASE = "ou=groups,dc=x"
QUERY = "(|(member={userdn})(memberUid={uid}))"


class Tree:
    """Groups with members, searched as the real filter would."""

    def __init__(self, members):
        self.members = members
        self.queries = []

    def __call__(self, query):
        self.queries.append(query)
        asked = set(re.findall(r"\(member=([^)]*)\)", query))
        for name, inside in self.members.items():
            if asked & set(inside):
                yield Group(f"cn={name},{BASE}", [name])


def group(name):
    return f"cn={name},{BASE}"


def test_rule_3_nested_groups_level_by_level():
    tree = Tree({"a": ["uid=p"], "b": [group("a")], "c": [group("b")], "other": [group("x")]})
    for levels, expected in [(0, {"a"}), (1, {"a", "b"}), (2, {"a", "b", "c"}), (9, {"a", "b", "c"})]:
        tree.queries.clear()
        assert groups_of(tree, Layout(BASE, QUERY, levels), "uid=p", "p") == expected
        assert len(tree.queries) == min(levels + 1, 4)


def test_rule_3_groups_in_a_circle_come_to_an_end():
    tree = Tree({"a": ["uid=p", group("c")], "b": [group("a"), group("b")], "c": [group("b")]})
    assert groups_of(tree, Layout(BASE, QUERY, 20), "uid=p", "p") == {"a", "b", "c"}
    assert len(tree.queries) == 4


def test_rule_3_many_groups_are_asked_for_in_few_searches_of_bounded_size():
    many = {f"g{number}": ["uid=p"] for number in range(2 * MAX_MEMBERS + 1)}
    tree = Tree({**many, "top": [group("g7")]})
    assert groups_of(tree, Layout(BASE, QUERY, 5), "uid=p", "p") == {*many, "top"}
    assert len(tree.queries) == 1 + 3 + 1
    assert max(query.count("(member=") for query in tree.queries) == MAX_MEMBERS


def test_rule_3_groups_of_the_own_entry_are_nested_too_and_count_only_below_the_base():
    tree = Tree({"b": [group("a")], "admins": ["cn=mine,ou=people,dc=x"]})
    own = [group("a"), "cn=mine,ou=people,dc=x", "cn=admins,ou=people,dc=x", "nonsense", ""]
    assert groups_of(tree, Layout(BASE, QUERY, 5), "uid=p", "p", own) == {"a", "b"}


def test_without_a_filter_only_the_own_entry_names_groups():
    tree = Tree({"b": [group("a")]})
    assert groups_of(tree, Layout(BASE, "", 5), "uid=p", "p", [group("a")]) == {"a"}
    assert tree.queries == []


def test_a_groups_own_name_is_never_taken_for_a_persons():
    tree = Tree({"bob": ["uid=p"]})
    groups_of(tree, Layout(BASE, QUERY, 5), "uid=p", "p")
    assert [re.findall(r"memberUid=([^)]*)", query) for query in tree.queries] == [["p"], ["p"]]


def test_filters_are_escaped_at_every_level():
    tree = Tree({"*)(cn=*": ["uid=p"]})
    groups_of(tree, Layout(BASE, QUERY, 5), "uid=p", "*)(uid=\0*")
    assert tree.queries[0] == r"(|(member=uid=p)(memberUid=\2a\29\28uid=\00\2a))"
    assert r"(member=cn=\2a\29\28cn=\2a,ou=groups,dc=x)" in tree.queries[1]


def test_of_several_names_the_one_in_the_distinguished_name_counts():
    assert Group("cn=a,dc=x", ["b", "a"]).name == "a"
    assert Group("ou=a,dc=x", ["b", "c"]).name == "b"
    assert Group("ou=a,dc=x").name == ""


@pytest.mark.parametrize("name", ["", " ", "x" * 256, "a\nb", "a\0b"])
def test_names_that_are_no_names_of_groups(name):
    found = [Group("ou=x,dc=x", [name]), Group("ou=y,dc=x", ["good"])]
    assert groups_of(lambda _: found, Layout(BASE, QUERY, 0), "uid=p", "p") == {"good"}


# ---- health


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

        def time(self):
            return self.now + 1e9

    clock = Clock()
    monkeypatch.setattr(health_module, "time", clock)
    return clock


A, B = Server("a", 389), Server("b", 389)


def test_rule_3_a_server_rests_longer_after_each_failure(clock):
    health = Health([A, B])
    for pause in (30, 60, 120, 240, 300, 300):
        health.failed(A, f"pause {pause}")
        assert health.order() == [B, A]
        clock.now += pause - 1
        assert health.order() == [B, A]
        clock.now += 1
        assert health.order() == [A, B]  # one finds out
        assert health.order() == [B, A]  # nobody else waits for that
    state = health.states()[0]
    assert (state.server, state.failures, state.reason) == ("a:389", 6, "pause 300")
    assert state.failing_since == 1e9 + 1000
    health.answered(A)
    assert health.order() == [A, B]
    assert health.states()[0].failures == 0
    health.failed(A, "again")
    clock.now += 30
    assert health.order() == [A, B]


def test_rule_3_many_failures_at_once_are_one_outage(clock):
    health = Health([A, B])
    for _ in range(50):
        health.failed(A, "down")
    assert health.states()[0].failures == 50
    clock.now += 30
    assert health.order() == [A, B]


def test_rule_3_a_server_whose_trial_never_ended_is_tried_again(clock):
    health = Health([A, B])
    health.failed(A, "down")
    clock.now += 30
    assert [health.order(), health.order()] == [[A, B], [B, A]]
    clock.now += 30
    assert health.order() == [A, B]


@pytest.mark.usefixtures("clock")
def test_all_servers_failing_are_all_tried():
    health = Health([A, B])
    health.failed(A, "down")
    health.failed(B, "down")
    assert health.order() == [A, B]
    assert [state.failures for state in health.states()] == [1, 1]


def test_health_is_shared_by_threads():
    health = Health([A, B])

    def work():
        for _ in range(500):
            health.failed(A, "down")
            health.order()
            health.states()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert health.states()[0].failures == 4000


# ---- policy answers


def answer(code, value=None, message="", description="described"):
    controls = {policy.CONTROL: {"value": value}} if value is not None else None
    return {"result": code, "description": description, "message": message, "controls": controls}


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"\x30\x03\x81\x01\x08", 8),
        (b"\x30\x03\x81\x01\x00", 0),
        (b"\x30\x08\xa0\x03\x80\x01\x05\x81\x01\x06", 6),
        (b"\x30\x05\xa0\x03\x81\x01\x02", None),
        (b"\x30\x00", None),
        (b"", None),
        (b"\x30\x7f", None),
        (b"nonsense", None),
        (b"\x04\x01a", None),
        (None, None),
    ],
)
def test_the_error_in_a_policy_answer(value, error):
    assert policy.error_of(answer(19, value)) == error


class Sent:
    """A connection that answers the change."""

    def __init__(self, result):
        self.result = result

    def extended(self, *_):
        if isinstance(self.result, Exception):
            raise self.result


@pytest.mark.parametrize("error", range(10))
def test_every_error_of_a_policy_has_a_sentence(error):
    sent = Sent(answer(19, b"\x30\x03\x81\x01" + bytes([error]), "words"))
    with pytest.raises(PasswordPolicyError) as refused:
        password_change.change(sent, "old", "new")
    assert refused.value.sentence.startswith(policy.SENTENCES[error])
    assert refused.value.sentence.endswith((".", '"words".'))


@pytest.mark.parametrize("code", range(1, 123))
def test_every_result_of_a_change_is_one_of_four(code):
    expected = {
        49: WrongPasswordError,
        10: password_change.ElsewhereError,
        51: password_change.ElsewhereError,
        52: password_change.ElsewhereError,
        **dict.fromkeys([2, 8, 12, 13, 19, 21, 32, 48, 50, 53, 65], PasswordPolicyError),
    }.get(code, ChangeUnclearError)
    with pytest.raises(expected):
        password_change.change(Sent(answer(code)), "old", "new")


def test_a_servers_words_are_passed_on_short_and_on_one_line():
    sent = Sent(answer(19, message="no\n\0 <b>digits</b>" + "x" * 5000))
    with pytest.raises(PasswordPolicyError) as refused:
        password_change.change(sent, "old", "new")
    assert 'It says: "no <b>digits</b>xxx' in refused.value.sentence
    assert len(refused.value.sentence) < 300


@pytest.mark.parametrize("error", [LDAPSocketReceiveError("gone"), LDAPException("odd"), OSError("gone")])
def test_no_answer_to_a_change_is_unclear(error):
    with pytest.raises(ChangeUnclearError):
        password_change.change(Sent(error), "old", "new")
