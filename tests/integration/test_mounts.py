"""Mounts that have to be on a file system: looked at on every node, before the server starts.

The scripts name mounts that the demo site does not have, so they are submitted without its hub.
"""

from __future__ import annotations

import pytest

from carme_hub.spawner import node
from tests.integration.script_world import run_script

TOP = "/srv/mounts"

# Mounts a file system that never answers: a FUSE without anybody behind it, until this process ends.
SILENT = """
import ctypes, os, signal, sys
libc, where = ctypes.CDLL(None, use_errno=True), sys.argv[1].encode()
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
assert libc.mount(b"silent", where, b"fuse", 0, options) == 0, os.strerror(ctypes.get_errno())
print("mounted", flush=True)
if os.fork():
    os._exit(0)
os.setsid()
for fd in (0, 1, 2):
    os.close(fd)
signal.sigwait({signal.SIGTERM})
libc.umount2(where, 2)
"""


@pytest.fixture
def mounted(site):
    """Mount something in a folder on a node; it is unmounted after the test."""
    undo = []

    def go(where, name, *words):
        site.run("mkdir", "-p", f"{TOP}/{name}")
        site.run("mount", *words, f"{TOP}/{name}", node=where)
        undo.append((where, name))

    yield go
    for where, name in reversed(undo):
        site.run("umount", "--lazy", f"{TOP}/{name}", node=where)
    site.run("rm", "-rf", TOP)


@pytest.fixture
def run(site):
    """Return a function that runs a session's script on nodes, with a mount that has to be of a type."""

    def go(source, filesystem, nodes="node1"):
        mounts = {"scratch": {"source": source, "target": "/scratch", "filesystem": filesystem}}
        reporter = "import os; print('inside:', os.listdir('/scratch'))\n"
        return run_script(site, "rosa", reporter, nodes=nodes, mounts=mounts)

    return go


def test_a_mount_of_the_right_type_is_shown(site, mounted, run):
    mounted("node1", "data", "-t", "tmpfs", "tmpfs")
    site.run("mkdir", "-p", f"{TOP}/data/deep/inside", node="node1")
    for source in ("data", "data/deep"):
        ran = run(f"{TOP}/{source}", "tmpfs")
        assert ran.code == 0, ran.log
        assert "inside: ['" in ran.log


def test_what_leads_to_a_mount_counts_as_what_it_leads_to(site, mounted, run):
    mounted("node1", "data", "-t", "tmpfs", "tmpfs")
    site.run("ln", "-s", f"{TOP}/data", f"{TOP}/link")
    mounted("node1", "bound", "--bind", f"{TOP}/data")
    for name in ("link", "bound"):
        assert run(f"{TOP}/{name}", "tmpfs").code == 0
        assert run(f"{TOP}/{name}", "xfs").code == node.EXIT_MOUNT


def test_an_empty_folder_instead_of_a_mount_is_a_sentence(mounted, run):
    mounted("node2", "data", "-t", "tmpfs", "tmpfs")  # not on node1
    ran = run(f"{TOP}/data", "tmpfs")
    assert ran.code == node.EXIT_MOUNT
    assert "inside:" not in ran.log
    for words in ("mount scratch", "node1", f"{TOP}/data", "tmpfs", "administrators"):
        assert words in ran.sentence()


def test_nothing_mounted_is_found_out_where_the_root_has_the_right_type(site, run):
    root = site.run("findmnt", "-n", "-o", "FSTYPE", "-T", "/", node="node1").strip()
    ran = run("/opt", root)
    assert ran.code == node.EXIT_MOUNT
    assert "nothing is mounted there" in ran.sentence()


def test_a_folder_that_is_not_there_is_a_sentence(run):
    ran = run(f"{TOP}/nowhere", "beegfs")
    assert ran.code == node.EXIT_MOUNT
    assert "does not exist there" in ran.sentence()


def test_a_mount_that_is_missing_on_the_second_node_only_is_found_there(mounted, run):
    mounted("node1", "data", "-t", "tmpfs", "tmpfs")
    ran = run(f"{TOP}/data", "tmpfs", nodes="node1,node2")
    assert ran.code == node.EXIT_MOUNT
    assert "mount scratch is missing on node2" in ran.sentence()
    assert "inside:" not in ran.log
    mounted("node2", "data", "-t", "tmpfs", "tmpfs")
    assert run(f"{TOP}/data", "tmpfs", nodes="node1,node2").code == 0


def test_a_file_system_that_does_not_answer_is_given_up(site, run, monkeypatch):
    monkeypatch.setattr(node, "MOUNT_PATIENCE", 1)
    site.run("mkdir", "-p", f"{TOP}/silent")
    site.run("/usr/bin/python3", "-c", SILENT, f"{TOP}/silent", node="node1")
    try:
        ran = run(f"{TOP}/silent", "fuse")
    finally:
        site.run("pkill", "-f", f"^/usr/bin/python3 -c .* {TOP}/silent$", node="node1")
    assert ran.code == node.EXIT_MOUNT
    assert "does not answer" in ran.sentence()
