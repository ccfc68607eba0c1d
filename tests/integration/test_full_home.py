"""A home folder without room: what its owner is told, wherever the session stumbles over it."""

from __future__ import annotations

import pytest
import requests

from carme_hub.demo.layout import NODES
from carme_hub.spawner import script
from tests.integration.script_world import run_script

HOME = "/srv/home/noah"

# Fills the home to the last byte, as a program in a session may; and no larger one, should the small be gone.
FILL = f"""
import contextlib, os
with contextlib.suppress(OSError), open("{HOME}/big", "wb", buffering=0) as big:
    for _ in range(10_000):
        big.write(bytes(512))
"""


@pytest.fixture
def small(site):
    """Give noah a home with room for half a megabyte, on all compute nodes; return what fills it there."""
    for node in NODES:
        site.run(
            "mount", "-t", "tmpfs", "-o", "size=512k,mode=700,uid=20002,gid=20002", "tmpfs", HOME, node=node
        )

    def fill(left=0):
        for node in NODES:
            size = 512 * 1024 - left
            site.run(
                "sh", "-c", f"head -c {size} /dev/zero > {HOME}/big 2>/dev/null; true", node=node, user="noah"
            )

    yield fill
    for node in NODES:
        site.run("umount", "--lazy", HOME, node=node)


def test_a_session_that_cannot_even_write_its_log_is_told_about(person, small):
    noah = person("noah")
    small()
    said = noah.failure(profile="cpu")
    assert f"could not write to your home folder {HOME}" in said["message"]
    assert "full" in said["message"]


def test_a_server_that_fails_for_want_of_room_is_told_from_others(site, small):
    del small
    ran = run_script(site, "noah", FILL + "open('more', 'w').write('x' * 10_000)\n")
    assert ran.code == script.EXIT_HOME_FULL
    assert ran.sentence().endswith(f"your home folder {HOME} is full; remove files there.")
    site.run("rm", f"{HOME}/big", node="node1")
    ran = run_script(site, "noah", "raise SystemExit(7)\n")
    assert ran.code == 7


def save(noah, name, text):
    """Save a file as JupyterLab does, and return the answer's status."""
    return requests.put(
        f"{noah.site.hub_url}/user/noah/api/contents/{name}",
        json={"type": "file", "format": "text", "content": text},
        headers={"Authorization": f"token {noah.token}"},
        timeout=60,
    ).status_code


def test_a_home_that_fills_up_ends_no_session(site, person, small):
    noah = person("noah")
    noah.start(profile="cpu")
    small()  # after this, not even the log can be written
    assert save(noah, "mine.txt", "x" * 100_000) == 500
    assert noah.get("/api/status").status_code == 200
    assert "No space left" in noah.shell(f"cat {HOME}/big > {HOME}/more")
    noah.shell(f"rm {HOME}/big")
    assert save(noah, "mine.txt", "x" * 100_000) in {200, 201}
    noah.end_session()
    assert not site.jobs("noah")
