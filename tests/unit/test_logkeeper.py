"""A session's log is bounded, whoever writes, and keeps its beginning and its end."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from carme_hub.spawner import logkeeper, program, script


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "session-1.log"
    path.write_text("carme: job 1 on node1\n")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    yield path, descriptor
    os.close(descriptor)


def test_a7_a_log_without_end_keeps_its_beginning_and_its_end(log):
    path, descriptor = log
    kept = logkeeper.Log(descriptor)
    largest = 0
    for number in range(400):
        kept.write(f"piece {number} ".encode() + b"x" * 20_000 + b"\n")
        largest = max(largest, path.stat().st_size)
    text = path.read_text()
    assert largest <= logkeeper.MOST
    assert text.startswith("carme: job 1 on node1\npiece 0 ")
    assert text.count("are left out here") == 1
    assert "piece 399 " in text
    written = 22 + sum(len(f"piece {number} ") + 20_001 for number in range(400))
    told = int(text.split("\ncarme: ")[1].split()[0])
    assert 0 <= told + len(text) - written < 2000  # its own words about what is left out


def test_a7_one_enormous_piece(log):
    path, descriptor = log
    logkeeper.Log(descriptor).write(b"y" * logkeeper.MOST)
    logkeeper.Log(descriptor).write(b"z" * logkeeper.PIECE)
    assert path.stat().st_size <= logkeeper.MOST
    assert path.read_bytes().endswith(b"z" * logkeeper.PIECE)


def test_a_log_that_is_a_pipe_is_passed_on():
    source, target = os.pipe()
    logkeeper.Log(target).write(b"x" * 100)
    assert os.read(source, 1000) == b"x" * 100
    os.close(source)
    logkeeper.Log(target).write(b"x")  # nobody listens any more
    os.close(target)


def test_a7_what_the_server_and_its_children_write_is_bounded(tmp_path):
    # The reporter as a job runs it; the server ends before it listens, so no hub is asked.
    path = tmp_path / "log"
    noisy = (
        "import os, subprocess, sys\n"
        "subprocess.run(['sh', '-c', 'yes kernel | head -c 4000000; echo the kernel >&2'])\n"
        "os.write(1, b's' * 2000000); print('the end'); sys.exit(5)\n"
    )
    environment = {
        **os.environ,
        "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:1/",
        "JUPYTERHUB_API_URL": "http://127.0.0.1:1/hub/api",
        "JUPYTERHUB_API_TOKEN": "x",
    }
    with path.open("ab") as out:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-", sys.executable, "-c", noisy],
            input=program.source().encode(),
            env=environment,
            stdout=out,
            stderr=out,
            timeout=60,
            check=False,
        )
    text = path.read_text()
    assert done.returncode == 5
    assert len(text) <= logkeeper.MOST
    assert text.rstrip().endswith("the end")
    assert "are left out here" in text


def test_a7_only_so_many_logs_are_kept(tmp_path):
    folder = tmp_path / "a home" / script.LOG_FOLDER
    folder.mkdir(parents=True)
    for number in range(script.LOGS + 20):
        (folder / f"session-{number}.log").write_text("old")
        os.utime(folder / f"session-{number}.log", (time.time() - 9000 + number,) * 2)
    (folder / "other file").write_text("")
    done = subprocess.run(
        ["bash"],
        input=script.open_log(str(folder.parent)),
        env={"PATH": os.environ["PATH"], "SLURM_JOB_ID": "777"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    left = {path.name for path in folder.iterdir()}
    assert len(left) == script.LOGS + 1
    assert {"other file", "session-777.log", f"session-{script.LOGS + 19}.log"} <= left
    assert "session-0.log" not in left
