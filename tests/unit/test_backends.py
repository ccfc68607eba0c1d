"""What profiles run on: the entries of ``clusters`` and the hub's own machine."""

import gc
import time
import weakref
from types import SimpleNamespace

import pytest

from carme_hub.spawner.backends import LOCAL, read_clusters
from carme_hub.spawner.catalog import CatalogError
from carme_hub.spawner.events import Facts
from carme_hub.spawner.session import LocalSession, SlurmSession
from carme_hub.spawner.slurm import SlurmUnavailable
from carme_hub.spawner.spawner import CarmeSpawner
from tests.unit.conftest import IMAGES, MOUNTS, PROFILES

CLUSTERS = {"big": {"slurm_conf": "/etc/big/slurm.conf"}, "small": {"slurm_folder": "/opt/slurm/bin"}}
LOCAL_PROFILE = {"name": "here", "title": "Here", "cluster": LOCAL, "max_time": "1:00:00"}


def spawner(**settings):
    user = SimpleNamespace(name="rosa", url="/user/rosa/", escaped_name="rosa", groups=[])
    return CarmeSpawner(user=user, images=IMAGES, mounts=MOUNTS, **settings)


def test_a_site_that_names_no_cluster_has_one():
    assert list(read_clusters({})) == ["slurm"]


@pytest.mark.parametrize(
    ("clusters", "complaint"),
    [
        ({"local": {}}, 'cluster "local": this name is the hub\'s own machine'),
        ({"big": []}, r'CarmeSpawner\.clusters, cluster "big": a dictionary is needed'),
        (
            {"big": {"slurm_conf": "slurm.conf"}},
            r'CarmeSpawner\.clusters, cluster "big", slurm_conf: an absolute path',
        ),
        ({"big": {"conf": "/etc/slurm.conf"}}, r'CarmeSpawner\.clusters, cluster "big": unknown name "conf"'),
        ({"a b": {}}, r'CarmeSpawner\.clusters, cluster "a b", name: "a b" is no name'),
    ],
)
def test_a_mistake_in_clusters_names_the_setting(clusters, complaint):
    with pytest.raises(CatalogError, match=complaint):
        read_clusters(clusters)


@pytest.mark.parametrize(
    ("profile", "complaint"),
    [
        ({"cluster": "huge"}, 'profile "gpu", cluster: there is no cluster "huge"; known are big, local'),
        ({"cluster": LOCAL}, 'profile "gpu": on the hub\'s own machine there is one node'),
    ],
)
def test_a_profile_runs_on_something_that_exists_and_can_do_it(profile, complaint):
    with pytest.raises(CatalogError, match=complaint):
        _ = spawner(clusters=CLUSTERS, profiles=[PROFILES[0] | profile]).catalog


def test_each_cluster_has_commands_and_a_watcher_of_its_own():
    one = spawner(clusters=CLUSTERS, profiles=[LOCAL_PROFILE], slurm_conf="/etc/slurm/slurm.conf")
    big, small, here = (one._new_session(name) for name in ("big", "small", LOCAL))
    assert (big.runner.folder, big.runner.conf) == ("/usr/bin", "/etc/big/slurm.conf")
    assert (small.runner.folder, small.runner.conf) == ("/opt/slurm/bin", "/etc/slurm/slurm.conf")
    assert len({big.watcher, small.watcher, here.watcher}) == 3
    assert isinstance(here, LocalSession)
    assert spawner(clusters=CLUSTERS)._new_session("big").watcher is big.watcher


@pytest.mark.parametrize(("cluster", "kind"), [("small", SlurmSession), (LOCAL, LocalSession)])
def test_a_restarted_hub_makes_the_same_session_from_its_state(cluster, kind):
    one = spawner(clusters=CLUSTERS)
    state = {
        "cluster": cluster,
        "job_id": "7",
        "token_sha256": "00",
        "session": {"profile": "here"},
        "node": "node1",
        "port": 40000,
        "api_token_id": 3,
    }
    facts = Facts(submitted=1_800_000_000, profile="here", title="Here", nodes=2, cpus=8)
    state |= {"submitted": 1_800_000_000.0, "facts": facts.kept(), "owner": 20004}
    state["told"] = {"home": [], "killed": 0, "log": ""}
    one.load_state(state)
    assert type(one.child) is kind
    assert one.get_state() == state
    assert one.child.facts == facts


def test_the_facts_of_a_session_of_an_older_hub_are_made_up_from_its_options():
    one = spawner(clusters=CLUSTERS)
    options = {"profile": "gpu", "image": "base", "nodes": 2, "gpus": 3, "gpu_type": "a100"}
    one.load_state({"cluster": "small", "job_id": "7", "session": options})
    facts = one.child.facts
    assert (facts.profile, facts.image, facts.nodes, facts.gpus, facts.gpu_type) == (
        "gpu",
        "base",
        2,
        6,
        "a100",
    )
    assert abs(facts.submitted - time.time()) < 60
    one.clear_state()
    assert one.child is None
    assert one.get_state() == {}


@pytest.mark.parametrize(
    "state", [{"child_conf": {"cmd": ["id"]}}, {"child_class": "jupyterhub.spawner.LocalProcessSpawner"}]
)
def test_a_stored_state_names_no_class_and_no_setting(state):
    one = spawner(clusters=CLUSTERS)
    one.load_state({"job_id": "7", "cluster": "slurm", **state})
    assert type(one.child) is SlurmSession
    assert one.child.cmd == one.cmd


async def test_a_session_of_a_cluster_with_another_name_now_is_kept_and_nothing_is_cancelled(caplog):
    """On the first cluster, the same number may be somebody's other job."""
    one = spawner(clusters=CLUSTERS)
    state = {
        "cluster": "gone",
        "job_id": "7",
        "session": {"profile": "gpu", "gpus": 2},
        "node": "n1",
        "port": 9,
    }
    one.load_state(state)
    known = [one._new_session(name) for name in ("big", "small")]
    one.load_state(state)
    assert "job 7 on cluster 'gone', which CarmeSpawner.clusters does not name" in caplog.text
    assert one.child.watcher not in [session.watcher for session in known]
    assert await one.poll() is None
    assert (one.held().gpus, one.time_limit(), one.session["job"]) == (2, None, "7")
    assert one.get_state().items() >= state.items()
    with pytest.raises(SlurmUnavailable, match=r"'gone' is not in CarmeSpawner\.clusters"):
        await one.child.runner.cancel(7, None)
    caplog.clear()
    await one.stop()
    assert "Job 7 on cluster 'gone', the session of rosa, goes on unseen" in caplog.text
    assert not any(session.watcher.abandoned or session.view for session in [*known, one.child])
    one.clear_state()
    assert await one.poll() == 0


@pytest.mark.parametrize("cluster", [{}, {"cluster": ""}, {"cluster": "slurm"}])
def test_a_session_of_before_there_were_names_is_on_the_first_cluster(cluster):
    one = spawner(clusters=CLUSTERS)
    one.load_state({"job_id": "7", **cluster})
    assert type(one.child) is SlurmSession
    assert one.child.runner.conf == "/etc/big/slurm.conf"


def test_a_session_that_is_over_leaves_nothing_behind():
    one = spawner(clusters=CLUSTERS)
    old = weakref.ref(one._new_session("big"))
    one.clear_state()
    gc.collect()
    assert old() is None
