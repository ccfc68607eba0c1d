"""Nodes and partitions, read from sinfo and scontrol: the corners; recorded ones in test_recorded.py."""

import time

import pytest

from carme_hub.spawner import cluster
from carme_hub.spawner.answers import SEPARATOR

NODE = {
    "name": "node1",
    "state": "mixed",
    "cpus": "2/6/0/8",
    "memory": "16000",
    "memory_used": "4000",
    "gres": "gpu:a100:4(S:0-1),shard:16(S:0-1)",
    "gres_used": "gpu:a100:1(IDX:0),shard:4(4/4,0/4,0/4,0/4)",
    "partition": "gpu*",
    "partition_state": "up",
    "max_time": "1-00:00:00",
    "default_time": "30:00",
    "size": "1-infinite",
    "reason": "none",
}


def read(*lines):
    text = "".join(SEPARATOR.join([*(NODE | changed).values(), ""]) + "\n" for changed in lines)
    return cluster.parse_nodes(text, 1.0)


@pytest.mark.parametrize(
    ("text", "gres"),
    [
        ("gpu:a100:4(S:0,2)", {"gpu:a100": 4}),
        ("gpu:2", {"gpu": 2}),
        ("shard:8", {"shard": 8}),
        ("gpu:1g.10gb:7", {"gpu:1g.10gb": 7}),
        ("gpu:1g.10gb:7,gpu:2g.20gb:3,shard:x:8(S:0)", {"gpu:1g.10gb": 7, "gpu:2g.20gb": 3, "shard:x": 8}),
        ("gpu:a100:2(IDX:0-1)", {"gpu:a100": 2}),
        ("gpu:a100:2(IDX:0,3),gpu:h100:0(IDX:N/A)", {"gpu:a100": 2, "gpu:h100": 0}),
        ("shard:4(2/4,2/4)", {"shard": 4}),
        ("gpu:a100:4(S:0),gpu:a100:4(S:1)", {"gpu:a100": 8}),
        ("bandwidth:lustre:no_consume:4G", {"bandwidth:lustre": 4 * 1024**3}),
        ("(null)", {}),
        ("", {}),
        ("N/A", {}),
        ("gpu", {}),
        ("gpu:many", {}),
    ],
)  # fmt: skip
def test_generic_resources_are_read(text, gres):
    assert cluster.parse_gres(text) == gres


def test_a_node_in_two_partitions_is_one_node():
    seen = read({}, {"partition": "long", "max_time": "infinite", "default_time": "n/a", "size": "1-2"})
    node = seen.nodes["node1"]
    assert node.partitions == ("gpu", "long")
    assert (node.state, node.cpus, node.cpus_used, node.cpus_idle) == ("mixed", 8, 2, 6)
    assert (node.memory, node.memory_used, node.memory_free) == (16000, 4000, 12000)
    assert node.gres == {"gpu:a100": 4, "shard": 16}
    assert node.gres_free == {"gpu:a100": 3, "shard": 12}
    gpu, long = seen.partitions["gpu"], seen.partitions["long"]
    assert (gpu.default, gpu.max_time, gpu.default_time, gpu.max_nodes) == (True, 1440, 30, None)
    assert (long.default, long.max_time, long.default_time, long.max_nodes) == (False, None, None, 2)
    assert (gpu.cpus, gpu.cpus_idle, seen.members("gpu")) == (8, 6, [node])
    assert seen.members("none") == []


@pytest.mark.parametrize(
    ("shown", "state", "mark", "usable"),
    [
        ("idle", "idle", "", True),
        ("idle~", "idle", "~", True),
        ("mixed-", "mixed", "-", True),
        ("planned", "planned", "", True),
        ("completing", "completing", "", True),
        ("idle*", "idle", "*", False),
        ("allocated@", "allocated", "@", False),
        ("down*", "down", "*", False),
        ("drained", "drained", "", False),
        ("draining", "draining", "", False),
        ("unheard-of", "unheard-of", "", False),
    ],
)
def test_which_nodes_take_jobs(shown, state, mark, usable):
    node = read({"state": shown}).nodes["node1"]
    assert (node.state, node.mark, node.usable) == (state, mark, usable)
    assert (sum(node.gres_free.values()) > 0, node.memory_free > 0) == (usable, usable)


def test_an_admins_reason_cannot_break_the_picture():
    seen = read({"name": "node1", "reason": "disk, 4711 | x"}, {"name": "node2", "reason": "a\nnode3 lies"})
    assert seen.nodes["node1"].reason == "disk, 4711 | x"
    assert seen.nodes["node2"].reason == "a"
    assert set(seen.nodes) == {"node1", "node2"}, "the other half of a line is none"


def test_who_may_use_a_partition():
    text = (
        "PartitionName=a AllowGroups=ALL AllowAccounts=ALL DenyAccounts=Course,x AllowQos=ALL State=UP\n"
        "PartitionName=b AllowGroups=staff,hpc AllowAccounts=ml AllowQos=high DenyQos=low State=UP\n"
    )
    rules = cluster.parse_partitions(text)
    assert [rules["a"].account(name) for name in ("ml", "course", "Course")] == [True, False, False]
    assert [rules["b"].account(name) for name in ("ml", "course")] == [True, False]
    assert [rules["b"].qos(name) for name in ("high", "low", "normal")] == [True, False, False]
    assert rules["a"].qos("normal")
    assert (rules["a"].allow_groups, rules["b"].allow_groups) == (None, {"staff", "hpc"})
    seen = cluster.with_rules(read({"partition": "b"}, {"partition": "new"}), rules)
    assert seen.partitions["b"].rules == rules["b"]
    assert seen.partitions["new"].rules is None


def test_two_thousand_nodes_are_read_quickly():
    lines = [
        {"name": f"node{number}", "partition": partition}
        for number in range(2000)
        for partition in ("gpu*", "cpu", "long")
    ]
    text = "".join(SEPARATOR.join([*(NODE | changed).values(), ""]) + "\n" for changed in lines)
    began = time.process_time()
    seen = cluster.parse_nodes(text, 1.0)
    # 45 ms on a machine of 2024; the limit is for one that is busy with other tests.
    assert time.process_time() - began < 0.5
    assert (len(seen.nodes), len(seen.partitions["long"].nodes)) == (2000, 2000)
