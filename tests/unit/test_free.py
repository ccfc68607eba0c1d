"""What is free for a profile: counted by Slurm's names, and by what fits on which node."""

from __future__ import annotations

import pytest

from carme_hub.spawner import free
from carme_hub.spawner.catalog import Catalog
from carme_hub.spawner.cluster import Cluster, Node, Partition
from carme_hub.spawner.free import CORES, Count, Shape, free_now, gres_left, remembered


def node(name, gpus=0, used=0, *, kind="gpu:a100", cpus=(32, 32), memory=(256, 0), state="mixed", **more):
    """Return a node: cores (all, idle) and memory in GiB (all, held)."""
    return Node(
        name,
        state,
        cpus=cpus[0],
        cpus_used=cpus[0] - cpus[1],
        cpus_idle=cpus[1],
        memory=memory[0] * 1024,
        memory_used=memory[1] * 1024,
        gres={kind: gpus} if gpus else {},
        gres_used={kind: used} if used else {},
        **more,
    )


def cluster(*nodes, state="up"):
    members = tuple(each.name for each in nodes)
    partition = Partition("gpu", state, default=True, nodes=members)
    other = Partition("other", "up", nodes=())
    return Cluster(100.0, {each.name: each for each in nodes}, {"gpu": partition, "other": other})


def profile(**values):
    site = {"name": "p", "title": "P", "partition": "gpu", "max_time": 60} | values
    catalog = Catalog.load({"base": {"title": "B", "path": "/b.sif"}}, {}, [site])
    return catalog.profiles["p"]


def a100(**values):
    return profile(gpu_type="a100", max_gpus_per_node=4, max_nodes=3, **values)


def test_gpus_of_the_profiles_partition_and_type_are_counted():
    seen = cluster(node("n1", 4, 1), node("n2", 4, 4), node("n3", 4, kind="gpu:h100"))
    found = free_now(a100(), seen)
    assert found.counts == (Count("a100", 3, 8),)
    assert free_now(a100(partition="other"), seen).counts == (Count("a100", 0, 0),)


def test_without_gpus_cores_are_counted():
    found = free_now(profile(cpus=2), cluster(node("n1", cpus=(8, 3)), node("n2", cpus=(8, 0))))
    assert (found.counts, found.largest) == ((Count(CORES, 3, 16),), Shape(1, cpus=2))


@pytest.mark.parametrize("kind", ["1g.10gb", "shard", "shard:a100", "gpu"])
def test_slices_and_shards_have_slurms_names(kind):
    name = kind if kind == "gpu" or kind.startswith("shard") else f"gpu:{kind}"
    seen = cluster(node("n1", 7, 2, kind=name))
    found = free_now(profile(gpu_type=kind, max_gpus_per_node=7), seen)
    assert found.counts == (Count(kind, 5, 7),)
    assert found.largest == Shape(1, 5, kind)


def test_any_gpu_is_one_of_all_types():
    seen = cluster(node("n1", 4, 1), node("n2", 2, kind="gpu:h100"))
    site = profile(gpu_types=["gpu", "h100"], max_gpus_per_node=4)
    assert free_now(site, seen).counts == (Count("gpu", 5, 6), Count("h100", 2, 2))


@pytest.mark.parametrize(
    ("used", "largest"),
    [
        ((0, 0, 0), Shape(3, 4, "a100")),
        ((0, 2, 4), Shape(1, 4, "a100")),  # as many as two nodes with two, on fewer nodes
        ((1, 1, 3), Shape(2, 3, "a100")),
        ((3, 3, 3), Shape(3, 1, "a100")),
        ((4, 4, 4), None),
    ],
)
def test_the_largest_session_has_as_many_on_each_of_its_nodes(used, largest):
    seen = cluster(*(node(f"n{index}", 4, held) for index, held in enumerate(used)))
    assert free_now(a100(), seen).largest == largest


def test_a_free_gpu_without_cores_or_memory_for_it_is_no_room():
    seen = cluster(node("n1", 4, cpus=(32, 7)), node("n2", 4, memory=(256, 200)))
    found = free_now(a100(cpus_per_gpu=4, memory_per_gpu="20G"), seen)
    assert found.counts == (Count("a100", 8, 8),)
    assert found.largest == Shape(1, 2, "a100")
    assert free_now(a100(cpus=8, memory="10G"), seen).largest == Shape(1, 4, "a100")
    assert free_now(a100(cpus=8, memory="60G"), seen).largest is None


def test_the_profiles_bounds_count():
    seen = cluster(node("n1", 8), node("n2", 8, 7), node("n3", 8, 8))
    assert free_now(a100(), seen).largest == Shape(1, 4, "a100")
    assert free_now(a100(min_nodes=2), seen).largest == Shape(2, 1, "a100")
    assert free_now(a100(min_nodes=3), seen).largest is None
    assert free_now(a100(min_gpus_per_node=2, min_nodes=2), seen).largest is None
    cores = cluster(node("n1", cpus=(32, 20)), node("n2", cpus=(32, 3)))
    assert free_now(profile(cpus=2, max_cpus=16, max_nodes=2), cores).largest == Shape(1, cpus=16)
    assert free_now(profile(cpus=4, max_nodes=2, min_nodes=2), cores).largest is None


def test_whether_what_the_form_begins_with_fits_is_told():
    seen = cluster(node("n1", 4, 2), node("n2", 4, 3))
    assert free_now(a100(default_gpus_per_node=2), seen).usual
    assert not free_now(a100(default_gpus_per_node=3), seen).usual
    assert free_now(a100(default_nodes=2), seen).usual
    assert not free_now(a100(default_nodes=2, default_gpus_per_node=2), seen).usual
    assert not free_now(profile(cpus=40), seen).usual


def test_what_is_out_of_service_is_told_and_not_free():
    seen = cluster(node("n1", 4, 1), node("n2", 4, state="drained"), node("n3", 4, state="idle", mark="*"))
    found = free_now(a100(), seen)
    assert found.counts == (Count("a100", 3, 12, down=8),)
    assert found.largest == Shape(1, 3, "a100")


def test_in_a_closed_partition_nothing_is_free():
    found = free_now(a100(), cluster(node("n1", 4), state="down"))
    assert (found.closed, found.counts, found.largest, found.usual) == (
        True,
        (Count("a100", 0, 4),),
        None,
        False,
    )


def test_what_the_picture_cannot_tell_is_not_told():
    seen = cluster(node("n1", 4))
    assert free_now(a100(), None) is None
    assert free_now(a100(partition="unknown"), seen) is None
    assert free_now(a100(reservation="class"), seen) is None
    assert free_now(a100(constraint="nvlink"), seen) is None
    assert free_now(a100(reservation=["", "class"]), seen) is not None
    assert free_now(profile(gpu_type="a100", max_gpus_per_node=1, partition=None), seen) is not None


def test_a_gpu_is_given_whole_or_in_shards():
    gres = {"gpu:a100": 4, "shard:a100": 32}
    held = {"gpu:a100": 1, "shard:a100": 9}
    shared = Node("n1", "mixed", cpus=8, cpus_idle=8, gres=gres, gres_used=held)
    # One whole GPU takes 8 shards away; 9 shards are on at least two GPUs, which are not whole any more.
    assert gres_left(shared) == {"gpu:a100": 1, "shard:a100": 15}
    drained = Node("n2", "drained", gres=gres, gres_used=held)
    assert gres_left(drained) == {"gpu:a100": 0, "shard:a100": 0}
    untyped = Node("n3", "mixed", gres={"gpu:a100": 2, "shard": 8}, gres_used={"shard": 1})
    assert gres_left(untyped) == {"gpu:a100": 1, "shard": 7}


@pytest.mark.parametrize(("seconds", "minutes"), [(0, 0), (59, 0), (60, 1), (61, 2), (250, 5)])
def test_an_old_picture_has_an_age(seconds, minutes):
    assert free_now(a100(), cluster(node("n1", 4))).age(100.0 + seconds) == minutes


def test_a_picture_is_counted_once_for_all_people_and_again_when_there_is_a_new_one(monkeypatch):
    counted = []

    def count(what, seen):
        counted.append(seen)
        return free_now(what, seen)

    monkeypatch.setattr(free, "free_now", count)
    first, second = cluster(node("n1", 4)), cluster(node("n1", 4, 3))
    answers = [remembered(a100(), seen) for seen in (first, first, second, second)]
    assert counted == [first, second]
    assert [answer.counts[0].free for answer in answers] == [4, 4, 1, 1]
    assert remembered(a100(default_gpus_per_node=4), second).usual is False
    assert remembered(a100(), None) is None
