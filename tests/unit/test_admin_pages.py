"""The admin pages' decisions: whose rights reach how far, which sessions are wanted, who used how much."""

from __future__ import annotations

import time
from datetime import date
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from carme_hub.checks.values import Check, State
from carme_hub.records.announcements import Announcement
from carme_hub.records.use import Use
from carme_hub.service import admin_form, admin_site
from carme_hub.service.admin_base import model_of, over_others
from carme_hub.service.admin_form import Typed, stage
from carme_hub.service.admin_list import COLUMNS, PAGE, Wanted, fitting, held, key_of, listed, read_key
from carme_hub.service.admin_people import bounds
from carme_hub.service.admin_sessions import told_of_stops
from carme_hub.service.admin_sums import Period, add_up, as_csv
from carme_hub.service.admin_use import everybodys_groups, visible_to, within_reach
from carme_hub.service.hub_api import HubApi
from carme_hub.service.person import Person
from carme_hub.spawner.freshness import Freshness
from carme_hub.spawner.limits import Limits

HOUR = 3600
NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("scopes", "over"),
    [
        ({"read:servers"}, True),
        ({"read:servers!group=ml101"}, True),
        ({"read:servers!user=mia"}, True),
        ({"read:servers!server=mia/"}, True),
        ({"read:servers!user=ines", "read:servers!server=ines/a"}, False),
        ({"delete:servers"}, False),
        (set(), False),
    ],
)
def test_a_right_over_ones_own_servers_makes_nobody_an_admin(scopes, over):
    assert over_others(Person("ines", scopes=frozenset(scopes)), "read:servers") is over


def session(user="mia", **values):
    return {"user": user, "name": "", "state": "running", "profile": "cpu", "node": "n1", **values}


PARTITIONS = {"cpu": "cpu", "gpu": "gpu"}


@pytest.mark.parametrize("name", [".", ".."])
async def test_a_name_that_is_a_path_is_nobodys(name):
    hub = HubApi("http://127.0.0.1:9/hub/api")
    site = SimpleNamespace(ask_hub=lambda method, path: hub.call("token", method, path))
    assert await model_of(site, name) == {}


@pytest.mark.parametrize(
    ("query", "users"),
    [
        ({}, ["anna", "Ben", "carl"]),
        ({"user": "b"}, ["Ben"]),
        ({"profile": "gpu"}, ["carl"]),
        ({"partition": "gpu"}, ["carl"]),
        ({"partition": "other"}, []),
        ({"state": "pending"}, ["Ben"]),
        ({"state": "<script>"}, ["anna", "Ben", "carl"]),
        ({"node": "n1"}, ["anna"]),
        ({"node": "n"}, []),
        ({"sort": "-user"}, ["carl", "anna", "Ben"]),
        ({"sort": "left"}, ["carl", "anna", "Ben"]),
        ({"sort": "held"}, ["carl", "Ben", "anna"]),
        ({"sort": "__class__"}, ["anna", "Ben", "carl"]),
    ],
)
def test_the_address_says_which_sessions_in_which_order(query, users):
    sessions = [
        session("carl", profile="gpu", gpus=2, node="n10", end=NOW + 60),
        session("anna", end=NOW + 600),
        session("Ben", state="pending", node=""),
    ]
    found = [one["user"] for one in fitting(sessions, Wanted.parse(query), PARTITIONS)]
    assert sorted(found) == sorted(users)
    if "sort" in query and "_" not in query["sort"]:
        assert found == users


@pytest.mark.parametrize("column", COLUMNS)
def test_what_the_hub_does_not_know_spoils_no_order(column):
    bare = {"user": "mia", "name": ""}
    full = session("rosa", start=1, end=2, gpus=1, cpus=1, title="T", submitted=1)
    for sort in (column, f"-{column}"):
        assert len(fitting([bare, full, bare], Wanted(sort=sort), {})) == 3


def test_a_thousand_sessions_are_a_page_in_little_time():
    sessions = [session(f"user{number:04}", cpus=1, memory=1024, end=NOW + number) for number in range(1000)]
    began = time.monotonic()
    page = listed(sessions, Wanted(sort="left", page=20), PARTITIONS, NOW)
    assert time.monotonic() - began < 1
    assert (len(page.rows), page.number, page.last, page.total, page.of) == (PAGE, 20, 20, 1000, 1000)
    assert listed(sessions, Wanted(page=99), PARTITIONS, NOW).number == 20
    assert page.rows[0].left == "15 min 50 s" or page.rows[0].left.startswith("1")


def test_a_page_that_is_none_is_the_first():
    for number in ("", "x", "-1", "0", "9" * 50, "٣"):
        assert Wanted.parse({"page": number}).page == 1


def test_the_address_of_a_list_leads_back_to_it():
    wanted = Wanted.parse({"user": "a&b=c", "sort": "-left", "page": "3"})
    assert wanted.query(page=wanted.page) == "user=a%26b%3Dc&sort=-left&page=3"
    assert wanted.sorted_by("left") == "user=a%26b%3Dc&sort=left"
    assert Wanted().query() == ""


@pytest.mark.parametrize("name", ["", "a b", "x/y", "ünï", "100%"])
def test_a_session_is_found_by_its_key(name):
    assert read_key(key_of(session("o'neil", name=name))) == ("o'neil", name)


def test_what_a_session_holds_is_said_in_words():
    assert held(session(nodes=2, gpus=4, gpu_type="a100", cpus=8, memory=16384)) == (
        "2 nodes, 4 GPUs (a100), 8 cores, 16 GiB"
    )
    assert held(session(nodes=1, cpus=1)) == "1 core"
    assert held({"user": "mia", "name": ""}) == ""


@pytest.mark.parametrize(
    ("said", "text", "level"),
    [
        ([""], "1 session is being stopped.", "success"),
        (["", ""], "2 sessions are being stopped.", "success"),
        (["", "No."], "1 session is being stopped. 1 session was not stopped: No.", "warning"),
        (["No.", "No."], "2 sessions were not stopped: No.", "warning"),
    ],
)
def test_it_is_told_how_many_sessions_were_stopped_and_why_others_were_not(said, text, level):
    assert told_of_stops(said) == (text, level)


# ---- use


def use(user="mia", profile="cpu", image="base", *, hours=1.0, waited=60, gpus=0, cpus=2):
    return Use(user, profile, image, int(hours * HOUR), waited, gpus, cpus)


USES = [
    use("mia", hours=2, waited=10),
    use("mia", hours=0, waited=None),
    use("rosa", "gpu", "ml", hours=3, gpus=2, waited=100),
    use("noah", waited=20),
]
GROUPS = {"mia": ["ml101"], "noah": ["ml101", "chess"], "rosa": []}


@pytest.mark.parametrize(
    ("by", "sums"),
    [
        ("user", {"rosa": (1, 6.0, 6.0), "mia": (2, 0.0, 4.0), "noah": (1, 0.0, 2.0)}),
        ("profile", {"gpu": (1, 6.0, 6.0), "cpu": (3, 0.0, 6.0)}),
        ("image", {"ml": (1, 6.0, 6.0), "base": (3, 0.0, 6.0)}),
        ("group", {"": (1, 6.0, 6.0), "ml101": (3, 0.0, 6.0), "chess": (1, 0.0, 2.0)}),
    ],
)
def test_sessions_are_added_up_and_who_used_most_comes_first(by, sums):
    found = add_up(USES, by, GROUPS, lambda _user: True)
    assert {one.key: (one.sessions, one.gpu_hours, one.core_hours) for one in found.each} == sums
    assert next(iter(sums)) == found.each[0].key
    assert (found.whole.sessions, found.whole.started, found.whole.gpu_hours) == (4, 3, 6.0)
    assert found.whole.median_wait == 20
    assert found.share(found.each[0]) == 100


async def test_everybodys_groups_are_found_however_few_users_the_hub_names_at_once():
    users = [{"name": f"user{number}", "groups": ["all"]} for number in range(7)]

    async def ask_hub(_method, path):
        query = parse_qs(urlsplit(path).query)
        first = int(query["offset"][0])
        # JupyterHub.api_page_max_limit
        return users[first : first + min(3, int(query["limit"][0]))]

    assert await everybodys_groups(SimpleNamespace(ask_hub=ask_hub)) == {
        one["name"]: ["all"] for one in users
    }


def test_only_those_are_added_up_whom_the_reader_may_see():
    ines = Person("ines", scopes=frozenset({"read:servers!group=ml101", "read:servers!user=ines"}))
    reach = within_reach(ines, GROUPS)
    found = add_up(USES, "group", reach, visible_to(ines, reach))
    assert [one.key for one in found.each] == ["ml101"]  # chess is not hers to know
    assert found.whole.people == {"mia", "noah"}


@pytest.mark.parametrize(
    ("name", "first", "last", "expected"),
    [
        ("week", "", "", (date(2026, 11, 16), date(2026, 11, 22))),
        ("", "", "", (date(2026, 10, 24), date(2026, 11, 22))),
        ("days", "2026-01-01", "2026-01-31", (date(2026, 1, 1), date(2026, 1, 31))),
        ("days", "2026-02-01", "2026-01-31", (date(2026, 10, 24), date(2026, 11, 22))),
        ("days", "0001-01-01", "9999-12-31", (date(2026, 10, 24), date(2026, 11, 22))),
        ("days", "x", "", (date(2026, 10, 24), date(2026, 11, 22))),
    ],
)
def test_a_period_is_days_of_the_address(name, first, last, expected):
    period = Period.parse(name, first, last, date(2026, 11, 22))
    assert (period.first, period.last) == expected
    begin, end = period.seconds
    assert end - begin == 86400 * ((expected[1] - expected[0]).days + 1)


def test_the_file_holds_no_formula():
    text = as_csv(add_up([use("=1+1")], "user", {}, lambda _user: True), "user", str)
    assert text.splitlines()[1].startswith('"\'=1+1"')


# ---- announcements


def typed(**fields):
    return Typed.parse(lambda name: {"title": "T", "level": "info", **fields}.get(name, ""), NOW)


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({}, {}),
        ({"title": "  "}, {"title": admin_form.NO_TITLE}),
        ({"level": "primary"}, {"level": admin_form.NO_LEVEL}),
        ({"starts": "tomorrow"}, {"starts": admin_form.NO_TIME}),
        ({"starts": "2026-02-30T10:00"}, {"starts": admin_form.NO_TIME}),
        ({"ends": "2027-01-15T08:00", "ends_epoch": "inf"}, {"ends": admin_form.NO_TIME}),
        ({"ends": "2020-01-01T00:00"}, {"ends": admin_form.BACKWARDS}),
        ({"starts": "2020-01-02T00:00", "ends": "2020-01-03T00:00"}, {"ends": admin_form.OVER}),
        ({"starts": "2030-01-02T00:00", "ends": "2030-01-01T00:00"}, {"ends": admin_form.BACKWARDS}),
        ({"starts": "2030-01-02T00:00", "ends": "2030-01-03T00:00"}, {}),
    ],
)
def test_a_form_that_makes_no_sense_says_so_at_the_field(fields, errors):
    assert typed(**fields).errors == errors


def test_a_time_is_the_readers_where_a_script_says_so_and_else_in_utc():
    assert typed(starts="2030-01-02T10:00").starts == 1893578400
    assert typed(starts="2030-01-02T10:00", starts_epoch="1893574800").starts == 1893574800
    assert typed(starts="2030-01-02T10:00", starts_epoch="1893574800").typed_starts == "2030-01-02T09:00"


def test_a_title_is_one_line_without_hidden_signs():
    assert typed(title="a\r\nb\u202ec").title == "a b c"


@pytest.mark.parametrize(
    ("starts", "ends", "word"),
    [(NOW - 1, None, "shown"), (NOW - 1, NOW + 1, "shown"), (NOW + 1, None, "planned"), (1, NOW, "over")],
)
def test_an_announcement_is_planned_shown_or_over(starts, ends, word):
    assert stage(Announcement(title="T", starts=starts, ends=ends), NOW) == word


# ---- a person, the site


def test_limits_stand_beside_what_is_held():
    held_now = [session(gpus=2, nodes=1), session(state="pending", gpus=1, nodes=2)]
    found = {one.name: one for one in bounds(Limits(max_running=2, max_gpus=6, max_time="1:30:00"), held_now)}
    assert (found["sessions"].used, found["sessions"].most, found["sessions"].percent) == ("2", "2", 100)
    assert (found["gpus"].used, found["gpus"].percent) == ("3", 50)
    assert (found["waiting"].used, found["waiting"].most, found["waiting"].percent) == ("1", "", None)
    assert found["time"].most == "1 h 30 min"
    none = {one.name: one for one in bounds(Limits(max_running=0), [])}
    assert (none["sessions"].most, none["sessions"].percent) == ("0", None)


def state(watched=0, jobs=None, nodes=None):
    fresh = {"at": NOW, "took": 0.1, "failures": 0, "failing_since": None, "error": ""}
    return {"watched": watched, "abandoned": 0, "jobs": fresh | (jobs or {}), "nodes": fresh | (nodes or {})}


@pytest.mark.parametrize(
    ("seen", "old"),
    [
        (state(), [False, False]),
        (state(3), [False, False]),
        (state(0, {"at": None}), [False, False]),
        (state(3, {"at": None}), [True, False]),
        (state(3, {"at": NOW - 600}), [True, False]),
        (state(0, {"at": NOW - 600}, {"at": NOW - 9999}), [False, False]),
        (state(0, {"failures": 2, "error": "squeue: no"}), [True, False]),
    ],
)
def test_a_picture_that_nobody_needs_may_be_old(seen, old):
    assert [one.old for one in admin_site.pictures({"slurm": seen}, NOW)] == old


def test_the_hubs_own_machine_has_no_nodes():
    assert [one.what for one in admin_site.pictures({"local": state()}, NOW)] == ["jobs"]


def test_freshness_remembers_since_when_it_fails():
    fresh = Freshness()
    fresh.succeeded(0.5)
    first = fresh.at
    fresh.failed("a" * 999)
    since = fresh.failing_since
    fresh.failed("b")
    assert (fresh.at, fresh.failures, fresh.failing_since, fresh.error) == (first, 2, since, "b")
    fresh.succeeded(0.1)
    assert (fresh.failures, fresh.failing_since, fresh.error) == (0, None, "")


def test_of_each_part_of_the_site_what_is_wrong_comes_first():
    checks = [
        Check("a", State.OK, "", part="Slurm"),
        Check("b", State.FAILED, "", part="Hub"),
        Check("c", State.WARNING, "", part="Slurm"),
    ]
    found = admin_site.parts(checks)
    assert [(name, [check.name for check in some]) for name, some in found] == [
        ("Slurm", ["c", "a"]),
        ("Hub", ["b"]),
    ]
