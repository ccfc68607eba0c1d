import asyncio
import logging
from types import SimpleNamespace

import pytest

from carme_hub.spawner import choices, people
from carme_hub.spawner.accounting import Accounting, Association, Membership
from carme_hub.spawner.bounds import partition_of, within
from carme_hub.spawner.catalog import Catalog
from carme_hub.spawner.cluster import Cluster, Node, Partition, Rules
from carme_hub.spawner.form import SpawnForm
from carme_hub.spawner.people import People
from carme_hub.spawner.request import JobRequest, Person
from carme_hub.spawner.slurm import SlurmUnavailable

NODES = {
    "n1": Node("n1", "idle", gres={"gpu:a100": 4, "shard": 32}),
    "n2": Node("n2", "idle", gres={"gpu:1g.10gb": 7}),
    "n3": Node("n3", "idle"),
}
CLUSTER = Cluster(
    0.0,
    NODES,
    {
        "gpu": Partition("gpu", "up", max_time=120, max_nodes=2, nodes=("n1", "n2", "n3"), rules=Rules()),
        "a100": Partition("a100", "up", nodes=("n1",), rules=Rules(allow_accounts=frozenset({"lab"}))),
        "cpu": Partition("cpu", "up", default=True, nodes=("n3",)),
    },
)
ACCOUNTING = Accounting("c", frozenset({"associations", "limits", "qos"}))
PERSON = Membership("own", (Association("own", qos=("normal",)), Association("lab", qos=("normal", "fast"))))


def profile(**values):
    catalog = Catalog.load(
        {"base": {"title": "B", "path": "/b.sif"}}, {}, [{"name": "p", "title": "P"} | values]
    )
    return catalog.profiles["p"]


def test_what_the_site_leaves_open_the_partition_bounds():
    found = within(
        profile(partition="gpu", max_gpus_per_node="partition", max_nodes="partition"), CLUSTER, None, None
    )
    assert (found.max_time, found.default_time, found.max_nodes, found.max_gpus_per_node) == (120, 60, 2, 7)
    assert found.gpu_types == ("gpu", "1g.10gb", "a100")


@pytest.mark.parametrize(
    ("gpu_type", "most"), [("a100", 4), ("1g.10gb", 7), ("shard", 32), ("gpu", 7), ("h100", 1024)]
)
def test_the_most_of_a_type_is_what_one_node_has(gpu_type, most):
    site = profile(partition="gpu", gpu_type=gpu_type, max_gpus_per_node="partition", min_gpus_per_node=1)
    assert within(site, CLUSTER, None, None).max_gpus_per_node == most


def test_what_the_site_says_stands():
    site = profile(partition="gpu", max_gpus_per_node=8, max_nodes=5, max_time="7-0", gpu_type="a100")
    assert within(site, CLUSTER, None, None) == site


def test_without_a_picture_of_the_cluster_nothing_changes():
    site = profile(partition="gpu", max_gpus_per_node="partition")
    assert within(site, None, None, None) == site
    assert within(profile(partition="nope"), CLUSTER, None, None) == profile(partition="nope")
    assert partition_of(CLUSTER, None) is CLUSTER.partitions["cpu"]


def test_a_persons_time_limit_bounds_profile_and_default():
    found = within(profile(max_time="1-0", default_time="2:00:00"), None, None, None, max_time=90)
    assert (found.max_time, found.default_time) == (90, 90)
    found = within(profile(min_time="1-0", max_time="1-0"), None, None, None, max_time=90)
    assert (found.min_time, found.default_time, found.max_time) == (90, 90, 90)


def test_only_accounts_and_qos_that_the_person_has_are_offered():
    gpu = profile(partition="gpu")
    found = within(gpu, CLUSTER, ACCOUNTING, PERSON)
    assert (found.account, found.qos) == (("own", "lab"), ("", "fast", "normal"))
    found = within(profile(partition="a100"), CLUSTER, ACCOUNTING, PERSON)
    assert found.account == ("lab",)
    found = within(
        profile(partition="gpu", account=["lab", "other"], qos=["", "fast", "slow"]),
        CLUSTER,
        ACCOUNTING,
        PERSON,
    )
    assert (found.account, found.qos) == (("lab",), ("", "fast"))
    # "" is the default account: its QOS are offered, too.
    other = Membership("thesis", (Association("lab", qos=("fast",)), Association("thesis", qos=("slow",))))
    found = within(profile(partition="gpu", account=["", "lab"]), CLUSTER, ACCOUNTING, other)
    assert (found.account, found.qos) == (("", "lab"), ("", "fast", "slow"))
    # Nothing left: the profile stays, and associations.check says why it cannot be had.
    found = within(profile(partition="gpu", account="other"), CLUSTER, ACCOUNTING, PERSON)
    assert found.account == ("other",)
    assert within(gpu, CLUSTER, Accounting("c", frozenset({"none"})), PERSON).account == ()


def test_a_least_number_of_nodes_is_no_more_than_there_are():
    found = within(profile(partition="gpu", min_nodes=4, max_nodes="partition"), CLUSTER, None, None)
    assert (found.min_nodes, found.default_nodes, found.max_nodes) == (2, 2, 2)


class Sacctmgr:
    """Accounting that answers late, or not at all, when the test says so."""

    def __init__(self):
        self.asked, self.gate, self.silent = [], asyncio.Event(), False
        self.gate.set()

    async def accounting(self):
        return ACCOUNTING

    async def membership(self, username, cluster):
        self.asked.append((username, cluster))
        await self.gate.wait()
        if self.silent:
            raise SlurmUnavailable("sacctmgr did not answer within 20 s.")
        return PERSON


@pytest.fixture
def sacctmgr():
    return Sacctmgr()


async def test_a_person_is_asked_for_once_and_remembered(sacctmgr):
    known = People(sacctmgr, logging.getLogger())
    found = await asyncio.gather(*(known.learn("rosa", 5) for _ in range(20)))
    assert all(standing.membership is PERSON for standing in found)
    assert sacctmgr.asked == [("rosa", "c")]
    assert known.known("rosa").membership is PERSON


async def test_nobody_waits_for_accounting_longer_than_a_moment(sacctmgr):
    known = People(sacctmgr, logging.getLogger())
    sacctmgr.gate.clear()
    standing = await known.learn("rosa", 0.01)
    assert standing.membership is None
    sacctmgr.gate.set()
    assert (await known.learn("rosa", 5)).membership is PERSON


async def test_an_old_answer_counts_until_there_is_a_new_one(sacctmgr, monkeypatch):
    known = People(sacctmgr, logging.getLogger())
    await known.learn("rosa", 5)
    monkeypatch.setattr(people, "FRESH", 0.0)
    sacctmgr.silent = True
    assert known.known("rosa").membership is PERSON
    await asyncio.wait(known._asking.values())
    assert len(sacctmgr.asked) == 2
    for _ in range(5):
        assert (await known.learn("rosa", 5)).membership is PERSON
    assert len(sacctmgr.asked) == 2, "accounting is left alone for a while when it does not answer"


async def test_an_answer_that_nobody_understands_is_logged_and_not_asked_for_at_every_page(sacctmgr, caplog):
    async def strange():
        sacctmgr.asked.append("accounting")
        raise ValueError("no such field")

    sacctmgr.accounting = strange
    known = People(sacctmgr, logging.getLogger())
    for _ in range(5):
        assert (await known.learn("rosa", 5)).membership is None
    assert sacctmgr.asked == ["accounting"]
    assert [record.exc_info[0] for record in caplog.records] == [ValueError]


def test_the_last_choice_is_kept_for_each_profile():
    orm = SimpleNamespace(state={"job_id": "7"})
    user = SimpleNamespace(spawner=SimpleNamespace(orm_spawner=orm))
    assert choices.of(user) == {}
    choices.keep(user, {"profile": "gpu", "gpus": 2})
    before = orm.state
    choices.keep(user, {"profile": "cpu", "time": 60})
    assert orm.state is not before, "the database's column sees a change by the object"
    assert choices.of(user) == {
        "gpu": {"profile": "gpu", "gpus": "2"},
        "cpu": {"profile": "cpu", "time": "60"},
    }
    assert orm.state["job_id"] == "7"
    assert set(choices.carried(orm)) == {"choices"}, "what stays when the job has gone"
    for odd in ({"choices": 7}, {"choices": {"gpu": ["x"]}}, ["x"], None):
        orm.state = odd
        assert not any(choices.of(user).values())


def test_the_form_shows_each_profiles_last_choice_and_folds_what_few_need():
    site = [
        {"name": "a", "title": "A", "max_time": 60, "qos": ["normal", "fast"], "max_cpus": 4},
        {"name": "b", "title": "B", "max_time": 60, "account": "fixed"},
    ]
    catalog = Catalog.load({"base": {"title": "B", "path": "/b.sif"}}, {}, site)
    last = {"a": JobRequest.parse({"profile": "a", "qos": "fast"}, catalog, Person("x")).options()}
    last = {name: {key: str(value) for key, value in options.items()} for name, options in last.items()}
    form = SpawnForm.build(catalog, {"profile": "b", "time": "30"}, last, session="work")
    a, b = form.profiles
    assert (a.open, b.open, form.session) == (False, True, "work")
    assert (a.values["qos"], a.advanced_used, b.values["time"], b.advanced_used) == (
        "fast",
        True,
        "0:30:00",
        False,
    )
    assert [(choice.option, choice.names) for choice in a.choices] == [("qos", ("normal", "fast"))]
    assert b.choices == []
    assert not SpawnForm.build(catalog, {}).profiles[0].advanced_used
