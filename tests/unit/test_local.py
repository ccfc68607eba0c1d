"""Sessions on the hub's own machine: real processes, and what becomes of them."""

import asyncio
import os
import pwd
import tempfile
from pathlib import Path

import pytest

from carme_hub.spawner.answers import Ending
from carme_hub.spawner.local import LocalMachine, number_of, pid_of
from carme_hub.spawner.slurm import Account, SubmitRefused

ACCOUNT = Account("nobody", pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid, (), "/nonexistent")


@pytest.fixture
async def machine():
    one = LocalMachine()
    yield one
    for process in one._processes.values():
        await asyncio.wait_for(process.wait(), 30)


async def gone(machine, number):
    async with asyncio.timeout(30):
        while (await machine.queue([number])).jobs:  # noqa: ASYNC110 - a process says nothing
            await asyncio.sleep(0.02)


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


SCRIPT = """\
#!/bin/bash
#SBATCH --time=5
set -eu
cat <<"END" >/dev/null
this is not for bash
END
{{ id -un; echo "$SLURM_JOB_ID"; env; }} >{folder}/out
exit 3
"""


async def test_a_script_runs_as_the_person_and_knows_nothing_of_the_hub(machine, folder, monkeypatch):
    monkeypatch.setenv("HUB_SECRET", "x")
    number = await machine.submit(SCRIPT.format(folder=folder), ACCOUNT, {"APPTAINERENV_X": "1 2"})
    await gone(machine, number)
    who, told, *variables = (folder / "out").read_text().splitlines()
    assert (who, told) == ("nobody", str(number))
    assert "APPTAINERENV_X=1 2" in variables
    assert not [line for line in variables if line.startswith("HUB_SECRET")]
    assert await machine.ending(number) == Ending("FAILED", exit_code=3)


async def test_a_session_is_ended_with_all_its_processes(machine):
    number = await machine.submit("#SBATCH --time=5\nsleep 1000 & sleep 1000\n", ACCOUNT, {})
    assert number_of(pid_of(number)) == number
    entry = (await machine.queue([number])).jobs[number]
    assert entry.state == "RUNNING"
    assert entry.end - entry.start == 300
    await machine.cancel(number, ACCOUNT)
    await gone(machine, number)
    assert await machine.ending(number) == Ending("CANCELLED")
    await machine.cancel(number, ACCOUNT)  # that it has ended already is no error


async def test_another_hub_finds_it_again_and_takes_no_other_process_for_it(machine):
    number = await machine.submit("#SBATCH --time=5\nsleep 1000\n", ACCOUNT, {})
    later = LocalMachine()
    assert number in (await later.queue([number])).jobs
    other = number + (1 << 22)  # the same process number, started at another time
    assert not (await later.queue([other])).jobs
    await later.cancel(other, ACCOUNT)
    assert number in (await later.queue([number])).jobs
    await later.cancel(number, ACCOUNT)
    await gone(later, number)
    assert await later.ending(number) is None


async def test_a_hub_that_is_not_root_says_so(machine, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(SubmitRefused, match="need a hub that runs as root"):
        await machine.submit("", ACCOUNT, {})
