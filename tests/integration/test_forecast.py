"""When jobs start according to us and when real Slurm starts them; what the service says of the cluster."""

import asyncio
import secrets
import time
from dataclasses import replace
from functools import partial

import pytest
import requests

from carme_hub.service import queue
from carme_hub.service.forecast import Forecast
from carme_hub.spawner.slurm import Slurm
from tests.support import until

PARTITION = "forecast"
SLACK = 20  # seconds: Slurm looks at the queue every five, and the picture is as old as its commands take
SHAPES = {
    # Limit in minutes, seconds it really takes, cores of the eight, GPUs of the four.
    "running": (3, 15, 4, 2),
    "whole node": (1, 3, 8, 4),
    "fits before it": (1, 5, 4, 1),
    "would be in its way": (30, 1, 4, 1),
}


@pytest.fixture
def partition(site):
    """Make a partition of one node that nobody else is in."""
    words = ("Nodes=node3", "MaxTime=1-00:00:00", "State=UP")
    site.run("scontrol", "create", f"PartitionName={PARTITION}", *words)
    yield
    site.run("scancel", f"--partition={PARTITION}")
    until(lambda: not site.run("squeue", "-h", "-p", PARTITION), "the jobs' end")
    site.run("scontrol", "delete", f"PartitionName={PARTITION}")


def submit(site, shape):
    limit, takes, cpus, gpus = SHAPES[shape]
    words = ["-p", PARTITION, "-t", str(limit), "-c", str(cpus), f"--gres=gpu:a100:{gpus}", "--mem=200"]
    words += ["--chdir=/tmp", "--output=/dev/null", "--wrap", f"sleep {takes}"]
    return int(site.run("sbatch", "--parsable", *words, user="rosa").split(";")[0])


async def picture(slurm):
    mark = secrets.token_hex(16)
    cluster = await slurm.cluster()
    jobs, whole = await slurm.jobs(queue.wanted(mark), partial(queue.parse, mark=mark))
    assert whole
    return cluster, jobs


def state(site, number):
    return site.run("squeue", "-h", "-t", "all", "-j", str(number), "-o", "%T").strip()


def started(site, number):
    """Return when a job began, in seconds since 1970; None while it has not."""
    shown = site.run(
        "squeue", "-h", "-t", "running,completing,completed", "-j", str(number), "-o", "%S", check=False
    )
    return time.mktime(time.strptime(shown.strip(), "%Y-%m-%dT%H:%M:%S")) if shown.strip() else None


@pytest.mark.usefixtures("partition")
def test_jobs_start_in_the_forecasts_order_and_no_later_than_it_says(site):
    numbers = {"running": submit(site, "running")}
    until(lambda: state(site, numbers["running"]) == "RUNNING", "the first job to run")
    numbers |= {shape: submit(site, shape) for shape in list(SHAPES)[1:]}
    cluster, jobs = asyncio.run(picture(Slurm("/usr/bin", site.slurm_conf)))
    now = int(time.time())
    # By itself: what Slurm expects is left out.
    alone = [replace(job, start=None) if job.waits else job for job in jobs]
    expected = Forecast(cluster, alone, now).starts
    first = {shape: expected.get(numbers[shape], now) - now for shape in list(SHAPES)[1:]}
    assert first["fits before it"] <= SLACK
    assert 60 <= first["whole node"] <= 180 + SLACK
    assert first["would be in its way"] >= first["whole node"] + 60
    outcome = {shape: until(lambda s=shape: started(site, numbers[s]), shape) - now for shape in first}
    assert outcome["fits before it"] <= outcome["whole node"] <= outcome["would be in its way"]
    assert all(outcome[shape] <= first[shape] + SLACK for shape in first)


def test_the_service_says_what_there_is_what_was_and_what_comes(site):
    person = site.login("rosa")

    def ask(path, **query):
        headers = {"Authorization": f"token {person.token}"}
        return requests.get(
            f"{site.hub_url}/services/carme/api/{path}", params=query, headers=headers, timeout=30
        )

    told = until(lambda: ask("cluster").json().get("clusters"), "a picture")[0]
    by_name = {one["name"]: one for one in told["resources"]}
    assert list(by_name) == ["gpu:a100", "cpu"]
    assert (by_name["gpu:a100"]["total"], by_name["cpu"]["total"]) == (12, 24)
    assert {node["name"] for node in ask("nodes").json()["nodes"]} == {"node1", "node2", "node3"}
    chart = until(lambda: (one := ask("chart").json())["past"]["at"] and one, "a sample")
    assert chart["forecast"]["at"][-1] - chart["forecast"]["as_of"] == 86400
    assert chart["past"]["series"]["gpu:a100"]["total"][-1] == 12
    answer = ask("start", partition="gpu", nodes=2, cpus=1, memory=500, gres="gpu:a100:1", minutes=60).json()
    assert answer["start"] >= answer["at"]
    assert ask("start", partition="gpu", gres="gpu:a100:5").json()["start"] is None
    assert ask("start", nodes="many").status_code == 400
    assert ask("chart", cluster="elsewhere").status_code == 404
    for path in ("cluster", "nodes", "chart", "start"):
        nobody = requests.get(f"{site.hub_url}/services/carme/api/{path}", timeout=30)
        assert nobody.status_code == 403
