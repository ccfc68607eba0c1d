"""The site check on the demo site: in order as it is, and each fault of a broken one is told."""

from __future__ import annotations

import json
import shlex

import pytest

CONFIG = "/etc/jupyterhub/jupyterhub_config.py"
BROKEN = "/tmp/broken_site.py"

# What an admin may have got wrong, on a site that otherwise stays as it is.
FAULTS = """
c.CarmeSpawner.images["gone"] = {"title": "Gone", "path": "/srv/gone.sif", "mounts": ["beegfs", "absent"]}
c.CarmeSpawner.images["torn"] = {"title": "Torn", "path": "/srv/datasets/torn.sif"}
c.CarmeSpawner.mounts["beegfs"] = {"source": "/srv/datasets", "target": "/beegfs", "filesystem": "beegfs"}
c.CarmeSpawner.mounts["absent"] = {"source": "/srv/absent", "target": "/absent"}
c.CarmeSpawner.profiles = [
    {"name": "cpu", "title": "CPU", "partition": "cpu", "images": ["base", "gone", "torn"]},
    {"name": "old", "title": "Old", "partition": "retired", "images": ["base"]},
]
c.CarmeAuthenticator.server_address = ["ldap.example.org", "ldap.example.org:1"]
c.CarmeAuthenticator.secret_key_file = "/etc/jupyterhub/loose.key"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:1"
"""


def check(site, *words, person="adam"):
    """Run the command on the head node; returns states and sentences by name."""
    command = shlex.join(["carme", *words, "check", "--site", "--json", "--as", person])
    out = site.run("sh", "-c", f"{command}; echo $?")
    text, _, code = out.strip().rpartition("\n")
    return {one["name"]: one for one in json.loads(text)}, int(code)


@pytest.fixture
def broken(site):
    """Return a configuration with faults; what belongs to it is removed afterwards."""
    files = [BROKEN, "/srv/datasets/torn.sif", "/etc/jupyterhub/loose.key"]
    site.run("sh", "-c", f"cp {CONFIG} {files[0]} && cat >>{files[0]} <<'END'\n{FAULTS}\nEND")
    site.run("sh", "-c", f"head -c 4096 /dev/urandom >{files[1]}")
    site.run("install", "-m", "644", "/etc/jupyterhub/carme.key", files[2])
    yield BROKEN
    site.run("rm", "-f", *files)


def test_the_demo_site_is_in_order(site):
    found, code = check(site)
    wrong = {name: one["sentence"] for name, one in found.items() if one["state"] == "failed"}
    assert not wrong
    assert code == 3  # it has no certificate, and says so
    assert found["Certificate of the hub"]["state"] == "warning"
    for name in (
        "Controller",
        "Slurm's version",
        "Clock of the controller",
        "Accounting",
        "Partition gpu",
        "Directory server ldap.example.org:389",
        "Database",
        "JupyterHub's database",
        "Key file",
        "Hub",
        "Proxy",
    ):
        assert found[name]["state"] == "ok", found[name]
    on_nodes = [name for name in found if name.startswith("Image ml on node")]
    assert on_nodes
    assert all(found[name]["state"] == "ok" for name in on_nodes)
    assert any(name.startswith("Clock of node") for name in found)
    # Who has no account for a partition is told so, and it is no fault of the site.
    assert found["A node of partition teaching"]["state"] == "skipped"


def test_no_job_of_a_check_is_left(site):
    check(site, person="rosa")
    assert not site.jobs("rosa")


def test_each_fault_of_a_broken_site_is_told_beside_what_is_in_order(site, broken):
    found, code = check(site, "--config", broken)
    assert code == 1
    on_node = {name.partition(" on node")[0]: one for name, one in found.items() if " on node" in name}
    expected = {
        "Image base": "ok",
        "Image gone": "failed",
        "Image torn": "failed",
        "Mount beegfs": "failed",
        "Mount absent": "failed",
        "Apptainer": "ok",
    }
    assert {name: on_node[name]["state"] for name in expected} == expected, on_node
    assert "does not exist there" in on_node["Image gone"]["sentence"]
    assert "nothing starts in it" in on_node["Image torn"]["sentence"]
    assert "has to be on beegfs" in on_node["Mount beegfs"]["sentence"]
    states = {name: one["state"] for name, one in found.items()}
    assert states["Directory server ldap.example.org:389"] == "ok"
    assert states["Directory server ldap.example.org:1"] == "failed"
    assert states["Partition cpu"] == "ok"
    assert states["Partition retired"] == "failed"
    assert states["Proxy"] == "failed"
    assert "chmod 600" in found["Key file"]["sentence"]


def test_where_no_node_has_room_the_check_says_so_and_leaves_no_job(site, broken):
    site.run("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        found, _ = check(site, "--config", broken)
    finally:
        site.run("scontrol", "update", "PartitionName=cpu", "State=UP")
    assert found["Partition cpu"]["state"] == "failed"
    assert found["A node of partition cpu"]["state"] == "skipped"
    assert "had room" in found["A node of partition cpu"]["sentence"]
    assert found["Image base on the hub's machine"]["state"] == "ok"
    assert found["Image gone on the hub's machine"]["state"] == "skipped"
    assert not site.jobs("adam")


def test_an_account_that_is_none_is_told(site):
    found, code = check(site, person="nobody-at-all")
    assert code == 1
    assert found["Account"]["state"] == "failed"
    assert found["A node of partition gpu"]["state"] == "skipped"
