"""Groups in a real directory: in groups, through memberOf, and with names that mean something in LDAP."""

from __future__ import annotations

import contextlib

import ldap3
import pytest
from ldap3.utils.dn import escape_rdn

from carme_hub.authenticator.directory import Person, WrongPasswordError
from tests.integration.gate_directory_world import (
    ALICE,
    GROUPS_BASE,
    PEOPLE_BASE,
    maker,
    reader_of,
    slapd_with,
)
from tests.integration.gate_world import PASSWORDS

BOB = f"uid=bob,{PEOPLE_BASE}"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with slapd_with(tmp_path_factory.mktemp("directory"), "memberof", "overlay memberof\n") as directory:
        yield directory


@pytest.fixture
def make(running):
    with maker(running) as made:
        yield made


def dn_of(name, base=GROUPS_BASE):
    return f"cn={escape_rdn(name)},{base}"


@pytest.fixture
def groups(running):
    """Add groups to the directory, which are gone afterwards."""

    @contextlib.contextmanager
    def added(members, base=GROUPS_BASE, kind="groupOfNames"):
        attribute = {"groupOfNames": "member", "groupOfUniqueNames": "uniqueMember"}[kind]
        with running.manager() as manager:
            for name, inside in members.items():
                assert manager.add(dn_of(name, base), kind, {"cn": name, attribute: inside}), manager.result
        try:
            yield
        finally:
            with running.manager() as manager:
                for name in members:
                    manager.delete(dn_of(name, base))

    return added


async def bob(make, **changes):
    return (await make(**changes).authenticate("bob", PASSWORDS["bob"])).groups


@pytest.mark.parametrize("kind", ["groupOfNames", "groupOfUniqueNames"])
async def test_rule_3_nested_groups(make, running, groups, kind):
    members = {"inner": [BOB], "middle": [dn_of("inner")], "outer": [dn_of("middle")], "other": [ALICE]}
    with groups(members, kind=kind):
        assert await bob(make) == {"inner", "middle", "outer"}
        assert await bob(make, nested_group_levels=1) == {"inner", "middle"}
        assert await bob(make, nested_group_levels=0) == {"inner"}
        person = await make(**reader_of(running)).look_up("bob")
        assert person == Person("bob", BOB, frozenset({"inner", "middle", "outer"}))
    assert await bob(make) == set()


async def test_rule_3_groups_in_a_circle(make, groups):
    with groups({"a": [BOB, dn_of("c")], "b": [dn_of("a"), dn_of("b")], "c": [dn_of("b")]}):
        assert await bob(make, nested_group_levels=20) == {"a", "b", "c"}


async def test_rule_3_a_hundred_groups_of_one_person(make, groups):
    many = {f"group {number}": [BOB] for number in range(120)}
    with groups({**many, "all": [dn_of("group 77")]}):
        assert await bob(make) == {*many, "all"}


async def test_rule_3_member_of(make, running, groups):
    with groups({"inner": [BOB], "outer": [dn_of("inner")]}):
        by_entry = {"member_of_attribute": "memberOf", "group_filter": ""}
        assert await bob(make, **by_entry) == {"inner"}
        # The groups' groups are found by search, also where the person's own are not.
        nested_only = f"(&(member={{userdn}})(!(member={BOB})))"
        for changes in (
            {"group_filter": "(member={userdn})"},
            {"group_filter": nested_only},
            {"lookup": True, **reader_of(running)},
            {"lookup": True},
        ):
            assert await bob(make, member_of_attribute="memberof", **changes) == {"inner", "outer"}
        directory = make(member_of_attribute="memberOf", **reader_of(running))
        person = await directory.look_up("bob")
        assert person is not None
        assert person.groups == {"inner", "outer"}
    assert await bob(make, **by_entry) == set()


async def test_rule_3_groups_elsewhere_do_not_count_by_member_of(make, groups):
    with groups({"hpc-admins": [BOB]}, base=PEOPLE_BASE):
        assert await bob(make, member_of_attribute="memberOf") == set()
        assert await bob(make, member_of_attribute="memberOf", group_search_base="") == set()


ODD_NAMES = ["*", "a*b", "*)(cn=*", "(objectClass=*)", "a, b", "a+cn=b", r"\2a", 'say "x"', "<x>;y", "#1"]
ODD_NAMES += ["Müller", "a=b", "{userdn}", "{0}"]


@pytest.mark.parametrize("member_of", ["", "memberOf"])
async def test_rule_3_names_with_meaning_in_ldap_nest_like_others(make, groups, member_of):
    for name in ODD_NAMES:
        with groups({name: [BOB], "outer": [dn_of(name)], "victim": [ALICE]}):
            assert await bob(make, member_of_attribute=member_of) == {name, "outer"}, name


@pytest.mark.parametrize("name", ["*", "*)(uid=*", "al\0ice", "a\nb", "alice)(member=*", "a,b", r"\2a"])
@pytest.mark.parametrize("lookup", [False, True])
async def test_attack_strings_find_nobody_by_look_up_either(make, running, name, lookup):
    directory = make(lookup=lookup, member_of_attribute="memberOf", **reader_of(running))
    assert await directory.look_up(name) is None
    with pytest.raises(WrongPasswordError):
        await directory.authenticate(name, PASSWORDS["alice"])
    assert make.reports == []


async def test_rule_3_of_several_names_the_one_in_the_distinguished_name_counts(make, running, groups):
    with groups({"main": [BOB]}):
        with running.manager() as manager:
            assert manager.modify(dn_of("main"), {"cn": [(ldap3.MODIFY_REPLACE, ["hpc-admins", "main"])]})
        for member_of in ("", "memberOf"):
            assert await bob(make, member_of_attribute=member_of) == {"main"}


async def test_rule_11_a_group_that_lost_a_member_is_gone_at_the_next_look(make, running, groups):
    directory = make(**reader_of(running))
    with groups({"inner": [BOB], "admins": [dn_of("inner")]}):
        assert (await directory.look_up("bob")).groups == {"inner", "admins"}
        with running.manager() as manager:
            assert manager.modify(dn_of("admins"), {"member": [(ldap3.MODIFY_REPLACE, [ALICE])]})
        assert (await directory.look_up("bob")).groups == {"inner"}
    assert (await directory.look_up("bob")).groups == set()


def test_the_overlay_is_there(running, groups):
    with groups({"inner": [BOB]}), running.manager() as manager:
        manager.search(BOB, "(objectClass=*)", attributes=["memberOf"])
        assert manager.response[0]["raw_attributes"]["memberOf"] == [dn_of("inner").encode()]
