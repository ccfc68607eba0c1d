"""A home folder without room: what its owner is told, wherever the session stumbles over it."""

from __future__ import annotations

import pytest
import requests

from carme_hub.demo.layout import NODES
from carme_hub.spawner import homecare, script
from tests.integration.script_world import run_script
from tests.support import until

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


@pytest.fixture
def read_only(site):
    """Make noah's home read-only on all compute nodes."""
    for node in NODES:
        site.run("mount", "--bind", HOME, HOME, node=node)
        site.run("mount", "-o", "remount,bind,ro", HOME, node=node)
    yield
    for node in NODES:
        site.run("umount", "--lazy", HOME, node=node)


def troubles(noah):
    """Return what the dashboard says of noah's session."""
    (session,) = noah.api("GET", "/carme/sessions").json()["sessions"]
    return session["troubles"]


def in_words(*words):
    return [homecare.sentence(word) for word in words]


def test_c12_a_full_home_lets_its_owner_in_to_make_room(person, small):
    noah = person("noah")
    small()
    noah.start(profile="cpu")
    until(lambda: troubles(noah), "the word about the home")
    assert troubles(noah) == in_words(homecare.FULL)
    assert "Your home folder is full" in noah.http.get(f"{noah.site.hub_url}/hub/home", timeout=60).text
    # The end of the log is told although it is not in its place.
    log = until(lambda: noah.api("GET", "/carme/session/noah").json()["log"], "the end of the log")
    assert "this log could not be written to" in log
    # Kernels run; a file is removed as JupyterLab does it, and all is well again.
    assert noah.python("print(6 * 7)") == "42\n"
    assert "home folder is full" in noah.shell("cat /tmp/.carme-notes.txt")
    assert save(noah, "mine.txt", "x" * 100_000) == 500
    assert remove(noah, "big") == 204
    assert save(noah, "mine.txt", "x" * 100_000) in {200, 201}
    until(lambda: not troubles(noah), "the home to be found in order", 60)


def test_c12_a_home_that_is_read_only_lets_its_owner_in(person, read_only):
    del read_only
    noah = person("noah")
    noah.start(profile="cpu")
    until(lambda: troubles(noah), "the word about the home")
    assert troubles(noah) == in_words(homecare.READ_ONLY)
    assert noah.python("print(6 * 7)") == "42\n"
    assert save(noah, "mine.txt", "x") == 500


def test_c12_folders_in_disorder_are_named_and_hold_nobody_up(site, person):
    noah = person("noah")
    names = (".carme", ".jupyter", ".ipython", ".local")
    try:
        for name in names:
            site.run("mv", f"{HOME}/{name}", f"{HOME}/{name}.kept", check=False)
        site.run(
            "sh",
            "-c",
            f"cd {HOME}; touch .carme; ln -s nowhere .jupyter; ln -s .ipython .ipython",
            user="noah",
        )
        site.run("install", "-d", "-m", "755", f"{HOME}/.local")  # root's
        noah.start(profile="cpu")
        until(lambda: troubles(noah), "the word about the home")
        assert troubles(noah) == in_words(".carme", ".jupyter", ".local", ".ipython")
        assert noah.python("print(6 * 7)") == "42\n"
        assert save(noah, "mine.txt", "x") in {200, 201}
        assert noah.get("/lab/api/workspaces/default").status_code == 200
        noah.end_session()
    finally:
        for name in names:
            site.run("rm", "-rf", f"{HOME}/{name}")
            site.run("mv", f"{HOME}/{name}.kept", f"{HOME}/{name}", check=False)


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


def remove(noah, name):
    """Remove a file as JupyterLab does, and return the answer's status."""
    return requests.delete(
        f"{noah.site.hub_url}/user/noah/api/contents/{name}",
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
