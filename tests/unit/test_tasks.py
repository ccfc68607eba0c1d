"""Tasks can be asked for: cores of a node = tasks times cores of each, in request, script, form and words."""

from __future__ import annotations

import pytest

from carme_hub.spawner import script
from carme_hub.spawner.asked import asked
from carme_hub.spawner.backends import LOCAL, check_profiles
from carme_hub.spawner.catalog import Catalog, CatalogError
from carme_hub.spawner.cluster import Cluster, Node, Partition
from carme_hub.spawner.estimate import Estimate
from carme_hub.spawner.estimates import Estimates
from carme_hub.spawner.form import SpawnForm
from carme_hub.spawner.free import Shape, free_now
from carme_hub.spawner.request import JobRequest, Person, RequestError

MPI = {"max_tasks_per_node": 4, "cpus": 2, "max_cpus": 8, "memory": "1G", "max_nodes": 2}
GPU = {"max_tasks_per_node": 8, "cpus_per_gpu": 2, "max_gpus_per_node": 4, "max_nodes": 2}
FIXED = {"min_tasks_per_node": 4, "max_tasks_per_node": 4, "cpus": 2}
ALONE = {"cpus": 2, "max_cpus": 8}
UNEQUAL = "cannot be shared equally by so many."


def site(**profile):
    whole = {"name": "p", "title": "P", "max_time": "60"} | profile
    return Catalog.load({"base": {"title": "B", "path": "/b.sif"}}, {}, [whole])


def parse(profile, **options):
    return JobRequest.parse(options, site(**profile), Person("rosa"))


@pytest.mark.parametrize(
    ("profile", "options", "tasks", "cpus"),
    [
        (MPI, {}, 1, 2),
        (MPI, {"tasks": 4}, 4, 8),
        (MPI, {"tasks": "3", "cpus": "5"}, 3, 15),
        (MPI | {"default_tasks_per_node": 2}, {"cpus": 1}, 2, 2),
        (GPU, {"gpus": 2, "tasks": 4}, 4, 4),
        (GPU, {"gpus": 3, "tasks": 2}, 2, 6),
        (FIXED, {}, 4, 8),
        (FIXED, {"tasks": 4}, 4, 8),
        (ALONE, {"tasks": 1, "cpus": 4}, 1, 4),
    ],
)
def test_c3_cores_of_a_node_are_tasks_times_cores_of_each(profile, options, tasks, cpus):
    request = parse(profile, **options)
    assert (request.tasks, request.cpus, request.cpus_per_task) == (tasks, cpus, cpus // tasks)
    text = script.render(request, script.trial("/home/rosa"))
    assert f"#SBATCH --ntasks-per-node={tasks}\n#SBATCH --cpus-per-task={cpus // tasks}\n" in text
    again = JobRequest.parse(request.options(), site(**profile), Person("rosa"))
    assert (again.tasks, again.cpus) == (tasks, cpus)


@pytest.mark.parametrize(
    ("profile", "options", "field", "sentence"),
    [
        (MPI, {"tasks": 5}, "tasks", "Tasks per node (tasks): 5 asked, 1 to 4 allowed in “P”."),
        (MPI, {"tasks": 0}, "tasks", "Tasks per node (tasks): 0 asked, 1 to 4 allowed in “P”."),
        (MPI, {"tasks": "-1"}, "tasks", "Tasks per node (tasks): '-1' asked, but a whole number is needed."),
        (MPI, {"tasks": 2, "cpus": 9}, "cpus", "Cores per task (cpus): 9 asked, 1 to 8 allowed in “P”."),
        (ALONE, {"tasks": 2}, "tasks", "Tasks per node (tasks): 2 asked, only 1 allowed in “P”."),
        (ALONE, {"cpus": 9}, "cpus", "Cores per node (cpus): 9 asked, 1 to 8 allowed in “P”."),
        (FIXED, {"tasks": 2}, "tasks", "Tasks per node (tasks): 2 asked, only 4 allowed in “P”."),
        (
            GPU,
            {"gpus": 2, "tasks": 3},
            "tasks",
            f"Tasks per node (tasks): 3 asked, but the 4 cores that come with 2 GPUs per node {UNEQUAL}",
        ),
        (
            GPU | {"cpus_per_gpu": 1},
            {"gpus": 1, "tasks": 2},
            "tasks",
            f"Tasks per node (tasks): 2 asked, but the 1 core that comes with 1 GPU per node {UNEQUAL}",
        ),
    ],
)
def test_c3_what_is_not_on_offer_is_refused_at_its_field(profile, options, field, sentence):
    with pytest.raises(RequestError) as refused:
        parse(profile, **options)
    assert (refused.value.field, refused.value.sentence) == (field, sentence)


@pytest.mark.parametrize(
    ("profile", "mistake"),
    [
        (
            {"min_tasks_per_node": 3, "max_tasks_per_node": 2},
            "min_tasks_per_node is 3, but max_tasks_per_node is 2",
        ),
        ({"default_tasks_per_node": 2}, "default_tasks_per_node is 2, but has to be from 1 to 1"),
        (GPU | {"default_tasks_per_node": 3}, "default_tasks_per_node cannot share the cores"),
    ],
)
def test_c3_a_profiles_bounds_are_checked_when_the_hub_starts(profile, mistake):
    with pytest.raises(CatalogError, match=mistake):
        site(**profile)


def test_c3_the_hubs_own_machine_has_no_tasks():
    profiles = site(cluster=LOCAL, max_tasks_per_node=2).profiles.values()
    with pytest.raises(CatalogError, match="max_tasks_per_node: on the hub's own machine there is no srun"):
        check_profiles(profiles, {})


@pytest.mark.parametrize(
    ("profile", "given", "shown", "cpus", "label"),
    [
        (MPI, {}, True, 2, "Cores per task"),
        (MPI, {"tasks": "4", "cpus": "3", "nodes": "2"}, True, 24, "Cores per task"),
        (GPU, {"gpus": "2", "tasks": "4"}, True, 4, "Cores per task"),
        (FIXED, {}, False, 8, "Cores per task"),
        (ALONE, {"cpus": "4"}, False, 4, "Cores per node"),
    ],
)
def test_c3_the_form_has_a_field_for_tasks_where_they_can_be_chosen(profile, given, shown, cpus, label):
    (card,) = SpawnForm.build(site(**profile), {"profile": "p", **given}).profiles
    assert ("tasks" in card.shown_fields, card.totals.cpus, card.cores_label) == (shown, cpus, label)


def test_c3_waiting_page_and_history_say_the_tasks():
    catalog = site(**MPI)
    assert asked({"profile": "p", "tasks": 4, "cpus": 3}, catalog).shown["tasks"] == "4"
    assert asked({"profile": "p", "tasks": 4}, catalog).shown["cpus"] == "2"
    assert "tasks" not in asked({"profile": "p"}, catalog).shown
    assert asked({"profile": "p", "gpus": 2, "tasks": 4}, site(**GPU)).shown["cpus"] == "1"


def test_c3_an_estimate_is_of_exactly_these_tasks():
    one, four = (parse(MPI | {"cpus": 4, "max_cpus": 4}, tasks=tasks, cpus=4 // tasks) for tasks in (1, 4))
    assert (one.cpus, four.cpus) == (4, 4)
    assert one.options() != four.options()
    known = Estimates()
    known.keep("rosa", one, Estimate(1.0, "", "", ""))
    assert known.known("rosa", four) is None


@pytest.mark.parametrize(
    ("profile", "idle", "usual", "largest"),
    [
        ({"cpus": 2, "max_tasks_per_node": 4}, 5, True, Shape(1, cpus=4)),
        ({"cpus": 2, "max_tasks_per_node": 4, "default_tasks_per_node": 3}, 5, False, Shape(1, cpus=4)),
        ({"cpus": 2, "min_tasks_per_node": 3, "max_tasks_per_node": 4}, 5, False, None),
        ({"cpus": 2, "max_cpus": 4, "max_tasks_per_node": 4}, 32, True, Shape(1, cpus=16)),
    ],
)
def test_c3_what_is_free_is_counted_with_tasks(profile, idle, usual, largest):
    node = Node("n1", "mixed", cpus=32, cpus_used=32 - idle, cpus_idle=idle, memory=1024)
    partition = Partition("cpu", "up", default=True, nodes=("n1",))
    found = free_now(
        site(partition="cpu", **profile).profiles["p"], Cluster(1.0, {"n1": node}, {"cpu": partition})
    )
    assert found is not None
    assert (found.usual, found.largest) == (usual, largest)
