import pytest

from carme_hub.spawner import accounting
from carme_hub.spawner.accounting import Accounting, Association, Membership, Quality
from carme_hub.spawner.associations import accounts_of, check, qos_of, tres_of
from carme_hub.spawner.catalog import Catalog
from carme_hub.spawner.cluster import Partition, Rules
from carme_hub.spawner.request import JobRequest, Person, RequestError

# Printed by Slurm 22.05.8 on the demo site.
PERSON = """\
research|carme|thesis||normal|||
research|carme|research||normal,short|short|1-00:00:00|cpu=8,mem=16G,gres/gpu=2
research|other|elsewhere||normal|||
"""
QOS = """\
normal|||||
short|DenyOnLimit|02:00:00||gres/gpu=2
"""
CONFIG = """\
Configuration data as of 2026-11-22T14:20:00
AccountingStorageEnforce = associations,limits,qos
AccountingStorageEnforceX = none
ClusterName             = carme
"""


PARTITIONS = {
    "gpu": Partition("gpu", "up", rules=Rules()),
    "cpu": Partition(
        "cpu",
        "up",
        rules=Rules(deny_accounts=frozenset({"thesis"}), deny_qos=frozenset({"short"}), own_qos="part"),
    ),
    "teaching": Partition("teaching", "up", rules=Rules(allow_accounts=frozenset({"teaching"}))),
    "unknown": Partition("unknown", "up"),
}


@pytest.fixture
def cluster():
    name, enforced = accounting.parse_config(CONFIG)
    return Accounting(name, enforced, accounting.parse_qos(QOS + "part|||cpu=4|\n"))


@pytest.fixture
def rosa():
    return accounting.parse_person(PERSON, "carme")


def test_a_person_as_slurm_prints_them(rosa):
    assert rosa == Membership(
        "research",
        (
            Association("thesis", "", ("normal",)),
            Association(
                "research", "", ("normal", "short"), "short", 1440, {"cpu": 8, "mem": 16384, "gres/gpu": 2}
            ),
        ),
    )
    assert accounting.parse_person(PERSON, "nowhere") is None
    for text in ("", "sacctmgr: error", "a|b", PERSON.replace("|", ";")):
        assert accounting.parse_person(text, "carme") is None


def test_a_cluster_as_slurm_prints_it(cluster):
    assert cluster.cluster == "carme"
    assert cluster.enforced == {"associations", "limits", "qos"}
    assert cluster.qualities["short"] == Quality(
        "short", frozenset({"denyonlimit"}), 120, {}, {"gres/gpu": 2}
    )


@pytest.mark.parametrize(
    ("said", "enforced"),
    [
        ("none", {"none"}),
        ("associations", {"associations"}),
        ("limits", {"limits", "associations"}),
        ("safe", {"safe", "limits", "associations"}),
        ("qos,limits", {"qos", "limits", "associations"}),
        ("all", {"all", "qos", "limits", "associations"}),
    ],
)
def test_what_is_enforced_includes_what_it_needs(said, enforced):
    assert accounting.parse_config(f"AccountingStorageEnforce = {said}\nClusterName = x\n")[1] == enforced


def test_nothing_is_enforced_where_nothing_is_said():
    assert accounting.parse_config("slurm_load_ctl_conf error") == ("", frozenset())


def test_accounts_and_qos_of_a_partition(rosa):
    gpu, cpu, teaching, unknown = PARTITIONS.values()
    assert accounts_of(rosa, unknown) == accounts_of(rosa, None) == ("research", "thesis")
    assert accounts_of(rosa, gpu) == ("research", "thesis")
    assert accounts_of(rosa, cpu) == ("research",)
    assert accounts_of(rosa, teaching) == ()
    assert qos_of(rosa, gpu, ["thesis"]) == ("normal",)
    assert qos_of(rosa, gpu, ["research", "thesis"]) == ("normal", "short")
    assert qos_of(rosa, cpu, ["research"]) == ("normal",)
    only_gpu = Membership("a", (Association("a", "gpu", ("x",)),))
    assert accounts_of(only_gpu, gpu) == ("a",)
    assert accounts_of(only_gpu, cpu) == ()


def ask(options=None, **profile):
    profile = {"name": "p", "title": "P", "max_time": "7-0", "max_gpus_per_node": 8, "max_nodes": 4} | profile
    catalog = Catalog.load({"base": {"title": "B", "path": "/b.sif"}}, {}, [profile])
    return JobRequest.parse(options or {}, catalog, Person("x"))


GPU = {"partition": "gpu", "max_time": "60"}
# the profile, what is asked for -> the field and the words of the refusal; None: Slurm may have it
CASES = [
    (GPU, {}, None),
    (GPU | {"account": "Research"}, {}, None),
    (GPU, {"account": "thesis"}, None),
    (
        GPU,
        {"account": "teaching"},
        r"\(account\): 'teaching' asked, .* research or thesis in the partition gpu",
    ),
    (
        {"partition": "teaching"},
        {},
        r"\(account\): 'research' asked, .* none of yours \(research, thesis\) may be used",
    ),
    (GPU, {"qos": "short"}, None),
    (GPU, {"qos": "SHORT"}, None),
    (
        GPU,
        {"qos": "long"},
        r"\(qos\): 'long' asked, but in Slurm you can use normal or short with the account research",
    ),
    (
        GPU,
        {"qos": "short", "account": "thesis"},
        r"\(qos\): 'short' asked, .* normal with the account thesis",
    ),
    ({"partition": "cpu"}, {"qos": "short"}, r"\(qos\): 'short' asked, .* in the partition cpu"),
    (
        {"partition": "gpu"},
        {"qos": "short", "time": "180"},
        r"\(time\): 3:00:00 asked, at most 2:00:00 .*QOS short",
    ),
    # The default QOS counts when none is asked for, and comes before the association.
    ({"partition": "gpu"}, {"time": "180"}, r"\(time\): 3:00:00 asked, at most 2:00:00 .*QOS short"),
    (
        {"partition": "gpu"},
        {"qos": "normal", "time": "1441"},
        r"\(time\): 1-00:01:00 asked, at most 1-00:00:00 .*account research",
    ),
    (GPU, {"gpus": 2}, None),
    (GPU, {"gpus": 3}, r"\(gpus\): 3 GPUs asked in all, at most 2 allowed by Slurm for the account research"),
    (GPU, {"gpus": 1, "nodes": 3}, r"\(gpus\): 3 GPUs asked in all, at most 2"),
    (GPU | {"cpus": 5}, {"nodes": 2}, r"\(cpus\): 10 cores asked in all, at most 8"),
    (GPU | {"memory": "9G"}, {"nodes": 2}, r"\(memory\): 18432 MiB asked in all, at most 16384"),
    ({"partition": "gpu,cpu"}, {"account": "thesis"}, None),
    ({"partition": "gpu,cpu"}, {"account": "nope"}, r"\(account\): 'nope' asked, .* research or thesis\."),
]


@pytest.mark.parametrize(("profile", "options", "words"), CASES)
def test_what_slurm_would_refuse_is_refused_with_a_sentence(cluster, rosa, profile, options, words):
    if words is None:
        check(ask(options, **profile), PARTITIONS.get(profile["partition"]), cluster, rosa)
    else:
        with pytest.raises(RequestError, match=words):
            check(ask(options, **profile), PARTITIONS.get(profile["partition"]), cluster, rosa)


def test_a_partitions_own_qos_comes_first_and_is_not_a_choice(cluster, rosa):
    request = ask({"nodes": 2}, partition="cpu", cpus=3, max_time="60")
    with pytest.raises(
        RequestError, match="6 cores asked in all, at most 4 allowed by Slurm for the QOS part"
    ):
        check(request, PARTITIONS["cpu"], cluster, rosa)


def test_a_qos_limits_what_one_person_has():
    cluster = Accounting(
        "c",
        frozenset({"associations", "limits", "qos"}),
        {"short": Quality("short", max_tres_per_person={"gres/gpu": 2})},
    )
    person = Membership("a", (Association("a", qos=("short",)),))
    check(ask({"gpus": 2}, partition="gpu"), PARTITIONS["gpu"], cluster, person)
    with pytest.raises(
        RequestError, match="3 GPUs asked in all, at most 2 allowed by Slurm for the QOS short"
    ):
        check(ask({"gpus": 3}, partition="gpu"), PARTITIONS["gpu"], cluster, person)


def test_what_is_not_known_or_not_enforced_is_not_decided(cluster, rosa):
    request = ask({"account": "nope", "qos": "nope"}, partition="gpu")
    gpu = PARTITIONS["gpu"]
    check(request, gpu, None, rosa)
    check(request, gpu, cluster, None)
    check(request, gpu, Accounting("carme", frozenset({"none"}), cluster.qualities), rosa)
    unlimited = Accounting("carme", frozenset({"associations"}), cluster.qualities)
    check(ask({"gpus": 8, "nodes": 4, "time": "7-0", "qos": "nope"}, partition="gpu"), gpu, unlimited, rosa)


def test_a_request_in_slurms_words():
    request = ask({"gpus": 2, "nodes": 3}, gpu_type="a100", cpus_per_gpu=4, memory_per_gpu="1G")
    assert tres_of(request) == {
        "node": 3,
        "cpu": 24,
        "mem": 6144,
        "gres/gpu": 6,
        "gres/gpu:a100": 6,
    }
    assert "gres/shard" in tres_of(ask(gpu_type="shard"))
    assert "gres/gpu" not in tres_of(ask({"gpus": 0}, min_gpus_per_node=0))
