"""A running session, attacked by people who are not signed in, and used by its owner at real sizes."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests

from tests.support import until

MIB = 1 << 20
GROWTH = 50 * MIB
# Opens 64 connections to argv[1]:argv[2] and sends what is announced as 480 MB each, as far as it is taken.
ATTACK = """
import socket, sys, threading
host, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
HEADS = [
    b"Content-Length: 480000000\\r\\n\\r\\n",
    b"Content-Length: 60000000\\r\\n\\r\\n",
    b"Transfer-Encoding: chunked\\r\\n\\r\\n",
    b"Authorization: token nobody\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n",
]
PIECES = [b"x" * 65536, b"x" * 65536] + 2 * [b"10000\\r\\n" + b"x" * 65536 + b"\\r\\n"]
def send(number):
    try:
        with socket.create_connection((host, port), timeout=10) as one:
            one.sendall(f"POST {path} HTTP/1.1\\r\\nHost: x\\r\\n".encode() + HEADS[number % 4])
            for _ in range(128):
                one.sendall(PIECES[number % 4])
            one.recv(1000)
    except OSError:
        pass
threads = [threading.Thread(target=send, args=(number,)) for number in range(64)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("done")
"""


@pytest.fixture(scope="module")
def ravi(people):
    """Somebody with a session of 1 GiB."""
    ravi = people("ravi")
    ravi.end_session()
    ravi.start(profile="cpu")
    ravi.shell("true")
    yield ravi
    ravi.end_session()


def memory(site, ravi):
    """Return what the server has in memory, in bytes."""
    (job,) = site.jobs(ravi.username)
    node = site.run("squeue", "-h", "-j", job, "-o", "%N").strip()
    lines = site.run("ps", "-ww", "-u", ravi.username, "-o", "rss=,args=", node=node).splitlines()
    return max(int(line.split()[0]) for line in lines if "jupyterhub-singleuser" in line) << 10


def where(ravi):
    """Return node and port on which the server listens."""
    address = urlsplit(ravi.shell("echo $JUPYTERHUB_SERVICE_URL").strip())
    return ravi.shell("hostname").strip(), address.port


@pytest.mark.parametrize("way", ["front", "node"])
def test_a1_nobody_who_is_not_signed_in_ends_a_session(site, ravi, way):
    node, port = where(ravi)
    path = f"/user/{ravi.username}/api/contents"
    front = urlsplit(site.hub_url)
    before = memory(site, ravi)

    def attack():
        if way == "front":
            words = [sys.executable, "-c", ATTACK, front.hostname, str(front.port), path]
            return subprocess.run(words, capture_output=True, text=True, timeout=200, check=True).stdout
        return site.run("python3", "-c", ATTACK, node, str(port), path, node="node3")

    with ThreadPoolExecutor() as pool:
        attacked = pool.submit(attack)
        while not attacked.done():
            assert ravi.get("/api/contents").status_code == 200
        assert attacked.result().strip() == "done"
    assert memory(site, ravi) - before < GROWTH
    (job,) = site.jobs(ravi.username)
    assert site.run("squeue", "-h", "-j", job, "-o", "%T").strip() == "RUNNING"
    assert ravi.python("print('alive')") == "alive\n"


def test_a7_strangers_do_not_fill_a_persons_home(site, ravi):
    (job,) = site.jobs(ravi.username)

    def size():
        return int(ravi.shell(f"stat -c %s ~/.carme/session-{job}.log"))

    before = size()
    for number in range(70):
        address = f"{site.hub_url}/user/{ravi.username}/{number}{'x' * 12_000}"
        requests.get(address, allow_redirects=False, timeout=30)
    assert size() - before < 2000


def test_c5_a_kernel_takes_and_gives_60_mb(ravi):
    text = "x" * (60 * MIB)
    # Not as code: IPython looks at that in several ways, each of which takes minutes.
    said = ravi.python("print(len(get_ipython().get_parent()['metadata']['text']))", text=text)
    assert said == f"{len(text)}\n"
    assert ravi.python(f"print({len(text)} * 'x', end='')") == text


def test_a4_a_session_refuses_service_workers(ravi):
    for path in ("/files/worker.js", "/lab", "/code-server/_static/out/browser/serviceWorker.js"):
        headers = {"Authorization": f"token {ravi.token}", "Service-Worker": "script"}
        address = f"{ravi.site.hub_url}/user/{ravi.username}{path}"
        assert requests.get(address, headers=headers, timeout=60).status_code in {403, 404}, path


@pytest.fixture
def second(ravi):
    """Start a named session beside the other one, and return how to ask it."""
    address = f"/users/{ravi.username}/servers/second"
    assert ravi.api("POST", address, json={"profile": "cpu"}).status_code in {201, 202}

    def ready():
        server = ravi.api("GET", f"/users/{ravi.username}").json()["servers"].get("second", {})
        return server.get("ready")

    def ask(path):
        headers = {"Authorization": f"token {ravi.token}"}
        url = f"{ravi.site.hub_url}/user/{ravi.username}/second{path}"
        return requests.get(url, headers=headers, timeout=60)

    until(ready, "the second session")
    yield ask
    ravi.api("DELETE", address, json={"remove": True})
    until(lambda: len(ravi.site.jobs(ravi.username)) == 1, "the second session's end")


def test_c18_a_second_session_begins_without_the_tabs_of_the_first(ravi, second):
    tabs = {"data": {"layout-restorer:data": {"main": {"current": "x"}}}, "metadata": {"id": "default"}}
    headers = {"Authorization": f"token {ravi.token}"}
    first = f"{ravi.site.hub_url}/user/{ravi.username}/lab/api/workspaces/default"
    assert requests.put(first, json=tabs, headers=headers, timeout=60).status_code == 204
    try:
        assert ravi.get("/lab/api/workspaces/default").json()["data"] == tabs["data"]
        assert second("/lab/api/workspaces/default").json()["data"] == {}
    finally:
        requests.delete(first, headers=headers, timeout=60)
    for ask in (ravi.get, second):
        assert ask("/code-server/").status_code == 200
    folder = ".local/share/code-server-sessions"
    until(lambda: "User" in ravi.shell(f"ls ~/{folder}/second"), "Code-Server's own folder")
    assert (
        ravi.shell(f"readlink ~/{folder}/second/User/settings.json").strip().endswith("/User/settings.json")
    )
