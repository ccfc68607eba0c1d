"""`carme check --site`: what profiles and groups say, against what Slurm and the directory have."""

from __future__ import annotations

import pytest

from carme_hub.checks import gate, node
from carme_hub.checks.profiles import Known, judge
from carme_hub.checks.values import State
from carme_hub.spawner.catalog import Catalog
from carme_hub.spawner.cluster import Cluster, Node, Partition, Rules

NODES = {
    name: Node(name, "idle", cpus=8, memory=16000, gres={"gpu:a100": 4}, partitions=("gpu",))
    for name in ("n1", "n2")
}
ACCOUNTS = Rules(allow_accounts=frozenset({"research"}))
KNOWN = Known(
    accounts=frozenset({"research", "teaching", "root"}),
    qos=frozenset({"normal", "short"}),
    reservations=frozenset({"class"}),
    features=frozenset({"ib", "skylake"}),
)
RIGHT = {
    "name": "p",
    "title": "P",
    "partition": "gpu",
    "gpu_type": "a100",
    "max_gpus_per_node": 4,
    "max_nodes": 2,
    "cpus_per_gpu": 2,
    "memory_per_gpu": "4000",
    "max_time": "1-00:00:00",
    "account": "research",
    "groups": ["researchers"],
}


def judged(rules=ACCOUNTS, known=KNOWN, **values):
    given = {name: value for name, value in (RIGHT | values).items() if value is not None}
    catalog = Catalog.load({"base": {"title": "B", "path": "/b.sif"}}, {}, [given])
    partition = Partition("gpu", "up", max_time=1440, nodes=tuple(NODES), rules=rules)
    return judge(catalog.profiles["p"], Cluster(0.0, NODES, {"gpu": partition}), known)


def test_check_site_is_silent_about_a_profile_that_slurm_can_give():
    check = judged(qos=["", "short"], reservation=["", "class"], constraint=["ib&skylake"])
    assert (check.name, check.state) == ('Profile "p"', State.OK)
    assert judged(known=Known(), account="anything", rules=None).state is State.OK
    assert judged(max_extended_time="1-12:00:00").state is State.OK


WRONG = [
    ({"account": "reserch"}, 'account: Slurm has no account "reserch", did you mean "research"?'),
    ({"account": ["", "teaching"]}, 'account: partition gpu does not take jobs of the account "teaching".'),
    ({"qos": "shrt"}, 'qos: Slurm has no QOS "shrt", did you mean "short"?'),
    ({"reservation": "clas"}, 'reservation: Slurm has no reservation "clas", did you mean "class"?'),
    ({"constraint": "ib&skylak"}, 'constraint: no node has the feature "skylak", did you mean "skylake"?'),
    (
        {"cpus_per_gpu": 16},
        "cpus_per_gpu: 64 cores for 4 GPUs on a node, but no node of partition gpu has more than 8.",
    ),
    (
        {"cpus_per_gpu": None, "cpus": 64},
        "cpus: 64 cores on a node, but no node of partition gpu has more than 8.",
    ),
    (
        {"cpus_per_gpu": None, "cpus": 2, "max_cpus": 64},
        "max_cpus: 64 cores on a node, but no node of partition gpu has more than 8.",
    ),
    (
        {"memory_per_gpu": None, "memory": "900G"},
        "memory: 900G on a node, but no node of partition gpu has more than 16000M.",
    ),
    (
        {"memory_per_gpu": "8G"},
        "memory_per_gpu: 32G for 4 GPUs on a node, but no node of partition gpu has more than 16000M.",
    ),
    (
        {"max_gpus_per_node": 8, "cpus_per_gpu": 1},
        "max_gpus_per_node: 8 of gpu:a100 are offered, but no node of partition gpu has more than 4.",
    ),
    ({"max_nodes": 3}, "max_nodes: 3 nodes are offered, but a job in partition gpu can have 2."),
    (
        {"max_time": "3-00:00:00"},
        "max_time: 3-00:00:00 is offered, but partition gpu ends jobs after 1-00:00:00.",
    ),
]


@pytest.mark.parametrize(("values", "sentence"), WRONG)
def test_check_site_finds_what_slurm_cannot_give(values, sentence):
    check = judged(**values)
    assert (check.state, check.sentence) == (State.FAILED, sentence)


@pytest.mark.parametrize(
    ("rules", "state"),
    [
        (Rules(), State.WARNING),
        (Rules(allow_accounts=frozenset({"research"})), State.OK),
        (Rules(allow_groups=frozenset({"researchers"})), State.OK),
        (Rules(allow_qos=frozenset({"gpu"})), State.OK),
        (Rules(deny_accounts=frozenset({"teaching"})), State.OK),
        (None, State.OK),
    ],
)
def test_a10_a_profile_for_groups_in_a_partition_for_everybody_is_told(rules, state):
    check = judged(rules)
    assert check.state is state
    if state is State.WARNING:
        assert check.sentence == (
            "It is for researchers, but partition gpu takes everybody's jobs: `sbatch -p gpu` in any session "
            "goes around the profile. Set AllowAccounts or AllowGroups of the partition in slurm.conf."
        )
    assert judged(rules, groups=None).state is State.OK


@pytest.mark.parametrize(
    ("groups", "state", "sentence"),
    [
        (("researchers",), State.OK, "The directory has researchers."),
        (
            ("reserchers",),
            State.FAILED,
            'The directory has no group "reserchers", did you mean "researchers"?',
        ),
        (("empty",), State.WARNING, "Nobody is in empty: nobody can have it."),
        (("empty", "researchers"), State.OK, "The directory has empty, researchers."),
    ],
)
def test_check_site_finds_groups_that_nobody_is_in(groups, state, sentence):
    members = {"researchers": 3, "empty": 0}
    (check,) = gate.judge_groups({'image "ml"': groups}, members)
    assert (check.name, check.state, check.sentence) == ('Groups of image "ml"', state, sentence)


def test_check_site_says_nothing_of_members_where_the_directory_shows_none():
    (check,) = gate.judge_groups({"x": ("empty",)}, {"researchers": 0, "empty": 0})
    assert check.state is State.OK


def test_check_site_looks_for_a_courses_notebook():
    course = {"material": "/courses/ml101", "notebook": "week1/intro.ipynb"}
    given = {"name": "ml101", "title": "ML", "partition": "gpu", "course": course}
    catalog = Catalog.load({"base": {"title": "B", "path": "/b.sif"}}, {}, [given])
    (place,) = node.places(catalog, catalog.profiles.values())
    assert "course ml101 /courses/ml101/week1/intro.ipynb" in node.write("apptainer", place, "/home/rosa")
    for word, state in (("ok", State.OK), ("missing", State.FAILED), ("silent", State.WARNING)):
        told = node.Told("n1", {("course", "ml101"): (word, "")})
        found = {check.name: check for check in node.judge(place, told, "rosa", 0, 1)}
        assert found["Course ml101 on n1 (gpu)"].state is state
