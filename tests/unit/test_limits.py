import pytest
from hypothesis import given
from hypothesis import strategies as st

from carme_hub.spawner.catalog import Catalog, CatalogError
from carme_hub.spawner.limits import Held, LimitRules, Limits, check
from carme_hub.spawner.request import JobRequest, Person, RequestError

PROFILES = [
    {"name": "gpu", "title": "GPU session", "max_gpus_per_node": 8, "max_nodes": 8, "max_time": "2-0"},
    {"name": "shard", "title": "Shards", "gpu_type": "shard", "max_gpus_per_node": 8, "max_time": "60"},
    {"name": "few", "title": "Few", "max_time": "60", "max_running": 2, "max_pending": 1},
]
CATALOG = Catalog.load({"base": {"title": "B", "path": "/b.sif"}}, {}, PROFILES)


def request(profile="gpu", **options):
    return JobRequest.parse({"profile": profile, **options}, CATALOG, Person("x"))


def held(*, profile="gpu", gpus=0, nodes=1, pending=False):
    return Held(profile, gpus, nodes, pending)


# limits, what is there, what is asked for -> the words of the refusal; None: it is let in
CASES = [
    ({}, [held(gpus=1000)] * 100, request(gpus=8, nodes=8), None),
    ({"max_running": 2}, [held()], request(), None),
    ({"max_running": 2}, [held(), held()], request(), "1 more session asked, 2 in use, 2 allowed at once."),
    ({"max_running": 2}, [held(pending=True)] * 2, request(), "2 in use, 2 allowed"),
    ({"max_running": 0}, [], request(), "0 in use, 0 allowed at once."),
    ({"max_pending": 1}, [held()], request(), None),
    ({"max_pending": 1}, [held(pending=True)], request(), "1 waiting to start, 1 allowed to wait."),
    ({"max_gpus": 8}, [held(gpus=4)], request(gpus=4), None),
    ({"max_gpus": 8}, [held(gpus=4)], request(gpus=5), "5 GPUs asked in all, 4 in use, 8 allowed"),
    ({"max_gpus": 8}, [], request(gpus=3, nodes=3), "9 GPUs asked in all, 0 in use, 8 allowed"),
    ({"max_gpus": 0}, [], request(gpus=1), "1 GPU asked in all, 0 in use, 0 allowed"),
    ({"max_gpus": 0}, [], request("few"), None),
    ({"max_gpus": 1}, [held(gpus=9)], request("few"), None),
    ({"max_gpus": 0}, [], request("shard", gpus=8), None),
    ({"max_nodes": 4}, [held(nodes=3)], request(nodes=1), None),
    ({"max_nodes": 4}, [held(nodes=3)], request(nodes=2), "2 nodes asked in all, 3 in use, 4 allowed"),
    ({"max_time": "1-0"}, [], request(time="1-0"), None),
    ({"max_time": "1-0"}, [], request(time="1441"), "1-00:01:00 asked, at most 1-00:00:00 allowed"),
    ({}, [held()] * 9, request("few"), None),
    ({}, [held(profile="few")], request("few"), None),
    ({}, [held(profile="few", pending=True)], request("few"), "1 allowed to wait in “Few”."),
    ({}, [held(profile="few")] * 2, request("few"), "2 in use, 2 allowed at once in “Few”."),
]


@pytest.mark.parametrize(("limits", "there", "asked", "words"), CASES)
def test_one_more_session_is_let_in_or_refused_with_numbers(limits, there, asked, words):
    rules = LimitRules.load(limits, {}).of(())
    if words is None:
        check(asked, there, rules)
    else:
        with pytest.raises(RequestError) as error:
            check(asked, there, rules)
        assert words in error.value.sentence


def test_a_session_counts_what_it_was_started_with():
    options = request(gpus=3, nodes=2).options()
    assert Held.by(options, pending=True) == Held("gpu", 6, 2, True)
    assert Held.by(request("shard", gpus=8).options(), pending=False) == Held("shard", 0, 1, False)
    assert Held.by({"profile": "p", "gpu_type": "shard:a100", "gpus": 2}, pending=False).gpus == 0
    assert Held.by({}, pending=False) == Held("", 0, 1, False)


GROUPS = {
    "students": {"max_running": 1, "max_gpus": 2},
    "researchers": {"max_gpus": 16, "max_time": "7-0"},
    "staff": {"max_running": None},
}


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([], (3, 4, 1440)),
        (["unknown"], (3, 4, 1440)),
        (["students"], (1, 2, 1440)),
        (["researchers"], (3, 16, 10080)),
        (["students", "researchers"], (1, 16, 10080)),
        (["students", "staff"], (None, 2, 1440)),
    ],
)
def test_what_a_group_says_replaces_and_of_several_the_most_generous_counts(groups, expected):
    rules = LimitRules.load({"max_running": 3, "max_gpus": 4, "max_time": "1-0"}, GROUPS)
    limits = rules.of(groups)
    assert (limits.max_running, limits.max_gpus, limits.max_time) == expected


@pytest.mark.parametrize(
    ("limits", "groups", "start"),
    [
        ({"gpus": 3}, {}, 'CarmeSpawner.limits: unknown name "gpus"'),
        ({"max_gpus": -1}, {}, "CarmeSpawner.limits, max_gpus: "),
        ({"max_gpus": "3"}, {}, "CarmeSpawner.limits, max_gpus: "),
        ({"max_time": "soon"}, {}, "CarmeSpawner.limits, max_time: "),
        ([], {}, "CarmeSpawner.limits: a dictionary"),
        ({}, [], "CarmeSpawner.group_limits: a dictionary"),
        ({}, {"x": 3}, 'CarmeSpawner.group_limits, group "x": a dictionary'),
        ({}, {3: {}}, "CarmeSpawner.group_limits: the name"),
        ({}, {"x": {"max_nodes": True}}, 'CarmeSpawner.group_limits, group "x", max_nodes: '),
    ],
)
def test_a_mistake_names_its_setting(limits, groups, start):
    with pytest.raises(CatalogError) as error:
        LimitRules.load(limits, groups)
    assert str(error.value).startswith(start)


NUMBERS = st.none() | st.integers(0, 6)


@given(
    st.builds(Limits, max_running=NUMBERS, max_pending=NUMBERS, max_gpus=NUMBERS, max_nodes=NUMBERS),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.booleans()), max_size=12),
)
def test_whoever_comes_in_whatever_order_nothing_exceeds_its_limit(limits, arrivals):
    there = []
    for gpus, nodes, starts_at_once in arrivals:
        asked = request(gpus=gpus, nodes=nodes) if gpus else request("few")
        try:
            check(asked, there, limits)
        except RequestError:
            continue
        there.append(Held.by(asked.options(), pending=not starts_at_once))
        assert limits.max_running is None or len(there) <= limits.max_running
        assert limits.max_pending is None or sum(h.pending for h in there) <= limits.max_pending
        assert limits.max_gpus is None or sum(h.gpus for h in there) <= limits.max_gpus
        assert limits.max_nodes is None or sum(h.nodes for h in there) <= limits.max_nodes
        assert sum(h.profile == "few" for h in there) <= 2
