"""Kernels of a session: no TCP port of their own, a way for those that know nothing else, and a word."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from pathlib import Path

import pytest
import requests
from carme_session import kernels
from carme_session.kernels import local, wish_of
from jupyter_client.blocking import BlockingKernelClient

from tests.forward_world import TOKEN, world
from tests.support import until

IPYKERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
# Knows TCP only, as old kernels of other languages: it takes no notice of the transport.
DEAF = [sys.executable, "-c", "import time; time.sleep(600)"]
SPECS = {
    "usual": {"argv": IPYKERNEL},
    "tcp": {"argv": IPYKERNEL, "metadata": {"carme": {"transport": "tcp"}, "supported_encryption": "curve"}},
    "deaf": {"argv": DEAF},
    "gone": {"argv": [sys.executable, "-c", "pass"]},
}
FORKED = """
import os, sys
child = os.fork()
if not child:
    print("from the child", flush=True)
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
import multiprocessing
def work(): print("from a worker", flush=True)
worker = multiprocessing.get_context("fork").Process(target=work)
worker.start(); worker.join()
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    for name, spec in SPECS.items():
        place = folder / ".local" / "share" / "jupyter" / "kernels" / name
        place.mkdir(parents=True)
        (place / "kernel.json").write_text(json.dumps({"display_name": name, "language": "python", **spec}))
    with world(
        folder, {"KernelManager": {"transport": "ipc"}, "SessionKernelManager": {"patience": 8}}
    ) as started:
        yield started


def start(session, name):
    return requests.post(
        session.address("api/kernels"),
        json={"name": name},
        headers={"Authorization": f"token {TOKEN}"},
        timeout=60,
    )


def listeners(pid: int) -> list[str]:
    """Return the TCP addresses on which a process listens."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            inodes.add(link.readlink().name.partition("[")[2].rstrip("]"))
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return [words[1] for words in rows if words[3] == "0A" and words[9] in inodes]


def reachable(host, port):
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def client(session, answer):
    (path,) = session.folder.rglob(f"kernel-{answer.json()['id']}.json")
    talks = BlockingKernelClient(connection_file=str(path))
    talks.load_connection_file()
    if talks.transport == "tcp":  # the server answers before such a kernel listens
        until(lambda: reachable(talks.ip, talks.hb_port), "the kernel's port")
    talks.start_channels()
    talks.wait_for_ready(timeout=60)
    return talks


def stop(session, talks, answer):
    talks.stop_channels()
    talks.context.destroy()
    requests.delete(
        session.address(f"api/kernels/{answer.json()['id']}"),
        headers={"Authorization": f"token {TOKEN}"},
        timeout=60,
    )


def said(talks, code):
    output = []

    def hear(message):
        if message["msg_type"] == "stream":
            output.append(message["content"]["text"])

    talks.execute_interactive(code, output_hook=hear, timeout=60)
    return "".join(output)


def test_a3_a_kernel_opens_no_tcp_port_and_still_hears_its_children(session):
    talks = client(session, answer := start(session, "usual"))
    try:
        pid = int(said(talks, "import os; print(os.getpid())"))
        assert listeners(pid) == []
        assert said(talks, FORKED).split("\n")[:2] == ["from the child", "from a worker"]
        assert listeners(pid) == []
        # Whose folder comes first is what counts for `import`.
        assert "carme_session" not in said(talks, "import sys; print(sys.path)")
        assert "supported_features" in talks.kernel_info(reply=True, timeout=60)["content"]
        assert "debugger" not in talks.kernel_info(reply=True, timeout=60)["content"]["supported_features"]
    finally:
        stop(session, talks, answer)
    assert not list((session.folder / "run").glob("ipykernel-*"))


def test_c6_a_kernelspec_can_ask_for_tcp_and_the_log_tells_the_risk(session):
    talks = client(session, answer := start(session, "tcp"))
    try:
        pid = int(said(talks, "import os; print(os.getpid())"))
        assert len(listeners(pid)) == 5  # its channels, and no pipe
        log = (session.folder / "log").read_text()
        assert 'The kernel "tcp" listens on TCP' in log
    finally:
        stop(session, talks, answer)


def test_c6_a_kernel_that_cannot_use_unix_sockets_is_told_of_instead_of_waited_for(session):
    before = time.monotonic()
    answer = start(session, "deaf")
    assert answer.status_code == 504
    assert time.monotonic() - before < 30
    message = answer.json()["message"]
    assert '"metadata": {"carme": {"transport": "tcp"}}' in message
    assert "kernels/deaf/kernel.json" in message
    left = requests.get(
        session.address("api/kernels"), headers={"Authorization": f"token {TOKEN}"}, timeout=60
    ).json()
    assert "deaf" not in {kernel["name"] for kernel in left}


def test_c6_a_kernel_that_ends_at_once_is_not_called_deaf(session):
    assert "Unix sockets" not in start(session, "gone").text


@pytest.mark.parametrize(
    ("metadata", "wish"),
    [
        ({}, (None, None)),
        ({"carme": {"transport": "tcp"}}, ("tcp", None)),
        ({"carme": {"transport": "tcp", "node": 1}}, ("tcp", 1)),
        ({"carme": {"transport": "tcp", "node": True}}, ("tcp", None)),
        ({"carme": {"transport": "tcp", "node": -1}}, ("tcp", None)),
        ({"carme": {"transport": "ipc", "node": 1}}, ("ipc", None)),
        ({"carme": {"transport": "udp"}}, (None, None)),
        ({"carme": "tcp"}, (None, None)),
        (None, (None, None)),
    ],
)
def test_c6_what_a_kernelspec_asks_for(metadata, wish):
    assert wish_of(metadata) == wish


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        (["python", "-m", "ipykernel_launcher", "-f", "x"], ["python", kernels.LAUNCHER, "-f", "x"]),
        (
            ["/home/rosa/env/bin/python3.12", "-Xfrozen_modules=off", "-m", "ipykernel", "-f", "x"],
            ["/home/rosa/env/bin/python3.12", "-Xfrozen_modules=off", kernels.LAUNCHER, "-f", "x"],
        ),
        (["srun", "python", "-m", "ipykernel_launcher"], ["srun", "python", "-m", "ipykernel_launcher"]),
        (["julia", "-m", "ipykernel"], ["julia", "-m", "ipykernel"]),
        (["python", "-m", "xeus"], ["python", "-m", "xeus"]),
        (["python", "-m"], ["python", "-m"]),
        ([], []),
    ],
)
def test_a3_ipykernel_is_started_without_a_port_in_whatever_environment(command, changed):
    assert local(command) == changed
