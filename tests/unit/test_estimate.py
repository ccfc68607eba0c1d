import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carme_hub.spawner.catalog import Catalog
from carme_hub.spawner.cluster import Cluster, Node, Partition
from carme_hub.spawner.estimate import Estimate, Refusal, read, told
from carme_hub.spawner.estimate_page import asked
from carme_hub.spawner.request import FIELDS, JobRequest, Person

# Printed by Slurm 22.05.8 on the demo site; 24.11 has the same forms in its library.
STARTS = [
    (
        "sbatch: Job 4 to start at 1795357010 using 3 processors on nodes node[1-3] in partition gpu\n",
        (1795357010, "node[1-3]", "gpu"),
    ),
    (
        "a plugin\nJob 5 to start at 1795357010 using 2 processors on nodes n1,n[3-4] in partition a-b\n",
        (1795357010, "n1,n[3-4]", "a-b"),
    ),
    ("sbatch: Job 6 to start at 1795357010 using 1 processors on node1\n", (1795357010, "node1", "")),
    (
        "sbatch: Job 7 to start at 1795357010 on cluster big using 1 processors on nodes x in partition p",
        (1795357010, "x", "p"),
    ),
    ("sbatch: Job 8 to start at Unknown using 1 processors on nodes x in partition p", (None, "x", "p")),
]


@pytest.mark.parametrize(("text", "expected"), STARTS)
def test_when_and_where_it_would_start(text, expected):
    found = read(text)
    assert isinstance(found, Estimate)
    assert (found.start, found.nodes, found.partition) == expected
    assert expected[1] in found.sentence


def test_a_time_that_sudo_kept_from_being_seconds(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        found = read(
            "sbatch: Job 1 to start at 2026-11-22T14:21:21 using 1 processors on nodes n in partition p"
        )
    finally:
        monkeypatch.undo()
        time.tzset()
    assert isinstance(found, Estimate)
    assert found.start == 1795353681


REFUSED = [
    ("allocation failure: Requested time limit is invalid (missing or exceeds some limit)", "time"),
    ("allocation failure: Invalid account or account/partition combination specified", "account"),
    (
        "sbatch: error: invalid partition: nope\nallocation failure: Invalid partition name specified",
        "profile",
    ),
    ("allocation failure: Required partition not available (inactive or drain)", "profile"),
    ("allocation failure: User's group not permitted to use this partition", "profile"),
    ("allocation failure: Invalid qos specification", "qos"),
    ("allocation failure: Requested reservation is invalid", "reservation"),
    ("allocation failure: Access denied to requested reservation", "reservation"),
    ("allocation failure: Invalid feature specification", "constraint"),
    ("allocation failure: More processors requested than permitted", "cpus"),
    ("allocation failure: Node count specification invalid", "nodes"),
    ("allocation failure: Invalid generic resource (gres) specification", "gpus"),
    ("allocation failure: Invalid Trackable RESource (TRES) specification", "gpus"),
    ("allocation failure: Memory required by task is not available", "memory"),
    (
        "sbatch: error: QOSMaxWallDurationPerJobLimit\nallocation failure: Job violates accounting",
        "time",
    ),
    (
        "sbatch: error: QOSMaxGRESPerUser\nallocation failure: Job violates accounting/QOS policy",
        "gpus",
    ),
    (
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\nallocation failure: Job violates accounting/QOS policy",
        "",
    ),
]


@pytest.mark.parametrize(("text", "field"), REFUSED)
def test_a_refusal_names_the_option_and_keeps_slurms_words(text, field):
    found = read(text)
    assert isinstance(found, Refusal)
    assert found.field == field
    if text:
        assert text.splitlines()[-1].removeprefix("allocation failure: ").removeprefix("sbatch: error: ") in (
            found.sentence
        )


def test_no_node_now_is_no_refusal():
    """With nodes drained, 22.05 says so of jobs that it takes (tried on the demo site)."""
    found = read("allocation failure: Requested node configuration is not available")
    assert isinstance(found, Estimate)
    assert found.start is None


TAKEN = [
    "allocation failure: Required node not available (down, drained or reserved)",
    "allocation failure: Requested nodes are busy",
    "sbatch: error: our site's plugin says no",
    "sbatch: your memory limit is not available in any reservation\nallocation failure: Unspecified error",
    "",
]


@pytest.mark.parametrize("text", TAKEN)
def test_what_is_not_known_to_be_a_refusal_is_left_to_sbatch(text):
    found = read(text)
    assert isinstance(found, Estimate)
    assert found.start is None
    assert found.sentence


def test_what_slurm_takes_is_no_refusal_whatever_is_printed():
    assert isinstance(read("allocation failure: Invalid qos specification", 0), Estimate)


NODES = {
    "n1": Node("n1", "idle", cpus=8, memory=4096, gres={"gpu:a100": 2}, partitions=("p",)),
    "n2": Node("n2", "idle", cpus=4, memory=2048, gres={"gpu:a100": 1}, partitions=("p",)),
}
CLUSTER = Cluster(0.0, NODES, {"p": Partition("p", "up", max_time=120, nodes=("n1", "n2"))})
ASKED = {"gpus": 4, "nodes": 3, "cpus": 16, "memory": "8G", "time": "3:00:00", "qos": "fast"}
TOLD = [
    ("gpus", "4 of gpu:a100 on each node asked, a node has at most 2; "),
    ("nodes", "3 asked, the partition has 2; "),
    ("cpus", "16 on each node asked, a node has at most 8; "),
    ("memory", "8G on each node asked, a node has at most 4G; "),
    ("time", "3:00:00 asked, the partition allows 2:00:00; "),
    ("qos", "'fast' asked, but "),
    ("account", '"Slurm\'s default" asked, but '),
    ("profile", ""),
    ("", ""),
]


@pytest.mark.parametrize(("field", "words"), TOLD)
def test_a_refusal_names_what_was_asked_and_what_there_is(field, words):
    profile = {
        "name": "x",
        "title": "X",
        "partition": "p",
        "gpu_type": "a100",
        "max_gpus_per_node": 8,
        "max_nodes": 8,
        "max_cpus": 99,
        "memory": "1G",
        "max_memory": "99G",
        "max_time": "7-0",
    }
    catalog = Catalog.load({"base": {"title": "B", "path": "/b.sif"}}, {}, [profile])
    request = JobRequest.parse(ASKED, catalog, Person("rosa"))
    refusal = Refusal(field, "why. Slurm says: no")
    assert told(refusal, request, CLUSTER, CLUSTER.partitions["p"]) == f"{words}why. Slurm says: no"
    without = told(refusal, request, None, None)
    assert without.startswith(words.partition(" asked")[0])
    assert without.endswith("why. Slurm says: no")


@given(
    st.text()
    | st.text().map(lambda when: f"Job 1 to start at {when} using 1 processors on nodes x in partition p")
)
def test_whatever_is_printed_gives_a_sentence(text):
    found = read(text)
    assert found.sentence
    assert len(found.sentence) < 700
    if isinstance(found, Refusal):
        assert found.field in {"", *FIELDS}


def test_a_request_in_the_words_of_the_services_forecast(ask):
    request = ask({"profile": "gpu", "gpus": 2, "nodes": 2, "gpu_type": "h100", "time": "1:30:00"})
    assert asked(request) == {
        "cluster": "",
        "partition": "gpu",
        "nodes": 2,
        "cpus": 4,
        "memory": 4096,
        "gres": "gpu:h100:2",
        "minutes": 90,
    }
