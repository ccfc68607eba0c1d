"""What batchspawner's own tests demand of its spawners, demanded of CarmeSpawner.

The cases are those of ``batchspawner/tests/test_spawners.py`` at release 1.3, under their names. Slurm's
commands are programs in a folder of the test's, run by the code that runs the real ones.

=========================== ============ =============================================================
case                        here         why
=========================== ============ =============================================================
test_spawner_start_stop_poll same        the state goes when JupyterHub has it cleared, after each stop
test_stress_submit          same         ten rounds; upstream makes 200 coroutines and awaits none
test_spawner_state_reload   same         the state also has what a restarted hub needs to be reached
test_submit_failure         same         a `HubFault` with a sentence where theirs is a RuntimeError
test_submit_pending_fails   different    nonsense from squeue says nothing about the job: the start waits
test_poll_fails             different    for the same reason a running server is kept, theirs is dropped
test_unknown_status         same         also for a state that Slurm has and we do not know
test_templates              different    there are no templates: the words of each command are fixed
test_batch_script           same
test_exec_prefix            different    no prefix in a shell's string: what is the person's runs as them
test_slurm                  same         but `prologue`, `epilogue`, `options`: no text of a shell is taken
test_keepvars               different    variables go into the container by name, never by ``--export``
test_torque, test_moab,     not          other batch systems
test_pbs, test_condor,      applicable
test_lfs
test_gridengine             not          commented out upstream, and another batch system
                            applicable
=========================== ============ =============================================================
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from jupyterhub import orm
from jupyterhub.objects import Hub, Server
from jupyterhub.user import User
from traitlets.config import Config

from carme_hub.spawner import backends, job
from carme_hub.spawner import watcher as watching
from carme_hub.spawner.answers import QUEUE, SEPARATOR
from carme_hub.spawner.errors import HubFault
from carme_hub.spawner.spawner import CarmeSpawner
from tests.unit.conftest import IMAGES

# As root the commands run as somebody else; without, as oneself.
PERSON = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
HUB = pwd.getpwuid(os.geteuid()).pw_name
JOB, NODE, ADDRESS, PORT = "12345", "userhost123", "192.0.2.7", 54321
PROGRAM = """\
#!/bin/sh
# Stands in for each of Slurm's commands: writes down how it was called, and does what the test says.
here=${0%/*} name=${0##*/}
echo "$name $(id -un) $*" >>"$here/calls"
if [ "$name" = sbatch ]; then cat >"$here/script"; env >"$here/environment"; fi
. "$here/$name.does"
"""
SCONTROL = f"""\
case "$*" in
  *" show node "*) echo "NodeName={NODE} NodeAddr={ADDRESS} NodeHostName={NODE}" ;;
  "show config") echo "ClusterName = cases" ;;
  *" show partition") ;;
  *) exit 1 ;;
esac"""
PROFILE = {
    "name": "cpu",
    "title": "CPU",
    "partition": "cpu",
    "cpus": 1,
    "memory": "1G",
    "max_time": "4-00:00:00",
    "default_time": "1:00:00",
    "images": ["base"],
}


class Cluster:
    """A folder of programs that answer as the test says."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.chmod(0o755)
        for name in ("calls", "script", "environment"):
            (folder / name).touch()
            (folder / name).chmod(0o666)
        for name in ("sbatch", "squeue", "scancel", "scontrol", "sacct", "sacctmgr", "sinfo"):
            program = folder / name
            program.write_text(PROGRAM)
            program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
            self.does(name, "")
        self.does("sbatch", f"echo {JOB}")
        self.does("scontrol", SCONTROL)
        self.running()

    def does(self, name: str, shell: str) -> None:
        """Say what a program does from now on."""
        new = self.folder / "new"
        new.write_text(shell + "\n")
        new.chmod(0o644)
        new.replace(self.folder / f"{name}.does")

    def squeue(self, state: str, node: str = "", number: str = JOB) -> None:
        words = (number, state, "None", node, "N/A", "N/A", "cpu", "1", str(pwd.getpwnam(PERSON).pw_uid))
        self.does("squeue", f"echo '{SEPARATOR.join(words)}'")

    def running(self) -> None:
        self.squeue("RUNNING", NODE)

    def gone(self) -> None:
        self.does("squeue", "")

    def calls(self, name: str = "") -> list[list[str]]:
        lines = (self.folder / "calls").read_text().splitlines()
        return [line.split(" ") for line in lines if line.startswith(name)]

    @property
    def script(self) -> str:
        return (self.folder / "script").read_text()

    @property
    def environment(self) -> dict[str, str]:
        lines = (self.folder / "environment").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    async def looked(self, times: int = 2) -> None:
        """Wait until squeue has been asked some more times, and its answers are read."""
        before = len(self.calls("squeue"))
        await until(lambda: len(self.calls("squeue")) > before + times)


@pytest.fixture
async def cluster(monkeypatch):
    monkeypatch.setattr(watching, "SHORT", 0.02)
    monkeypatch.setattr(watching, "LONG", 0.1)
    monkeypatch.setattr(watching, "GAP", 0.02)
    monkeypatch.setattr(job, "FIRST_PICTURE", 0.1)
    folder = Path(tempfile.mkdtemp(prefix="carme-cases-"))
    yield Cluster(folder)
    for key in [key for key in backends._BACKENDS if key[0] == str(folder)]:
        backend = backends._BACKENDS.pop(key)
        await backend.watcher.close()
        asked = list(backend.people._asking.values())
        await asyncio.gather(*asked, return_exceptions=True)
    shutil.rmtree(folder)


@pytest.fixture
def database():
    session = orm.new_session_factory("sqlite:///:memory:")()
    session.add(orm.User(name=PERSON))
    session.add(orm.OAuthClient(identifier="jupyterhub"))  # the hub itself, to which tokens belong
    session.commit()
    yield session
    session.close()
    session.get_bind().dispose()


@pytest.fixture
def make(database, cluster):
    """Return a function that makes a spawner as JupyterHub does, for the same person each time."""

    def new(profile=None, **settings):
        settings = {"profiles": [PROFILE | (profile or {})]} | settings
        settings |= {"images": {"base": IMAGES["base"] | {"mounts": []}}, "slurm_folder": str(cluster.folder)}
        user = User(database.query(orm.User).one(), {"config": Config(), "hub": Hub()})
        made = user._new_spawner("", spawner_class=CarmeSpawner, cmd=["singleuser_command"], **settings)
        user.spawners[""] = made
        made.server = Server()
        made.api_token = user.new_api_token()
        return made

    return new


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.01)


async def report(one, cluster):
    """Do what the job does when its server listens: report, with the token it was started with."""
    token = cluster.environment["APPTAINERENV_JUPYTERHUB_API_TOKEN"]
    assert one.owns_token(token)
    assert one.take_port(PORT)


async def start(one, cluster):
    starting = asyncio.ensure_future(one.start())
    await until(lambda: starting.done() or (one.child is not None and one.child.job_id))
    if not starting.done():
        await report(one, cluster)
    return await asyncio.wait_for(starting, 5)


async def stop(one, cluster):
    cluster.does("scancel", f": >'{cluster.folder}/squeue.does'")
    (cluster.folder / "squeue.does").chmod(0o666)
    await asyncio.wait_for(one.stop(), 5)


def job_state(one):
    """Return the state but for the last choices, which are the person's and outlive the job."""
    return {name: value for name, value in one.get_state().items() if name != "choices"}


async def test_spawner_start_stop_poll(make, cluster):
    one = make()
    assert await one.poll() is not None
    assert job_state(one) == {}
    assert not cluster.calls(), "nobody asks Slurm about no job"

    assert await start(one, cluster) == (ADDRESS, PORT)
    assert one.child.job_id == JOB
    assert await one.poll() is None

    await stop(one, cluster)
    assert await one.poll() is not None
    one.clear_state()
    assert job_state(one) == {}


async def test_stress_submit(make, cluster):
    one = make()
    for round_ in range(10):
        cluster.running()
        assert await start(one, cluster) == (ADDRESS, PORT), round_
        await stop(one, cluster)
        one.clear_state()
    assert len(cluster.calls("sbatch")) == len(cluster.calls("scancel")) == 10


async def test_spawner_state_reload(make, cluster):
    one = make()
    await start(one, cluster)
    state = one.get_state()
    assert (state["job_id"], state["node"], state["port"]) == (JOB, NODE, PORT)

    again = make()
    again.clear_state()
    assert job_state(again) == {}
    again.orm_spawner = None  # its row is the running one's
    again.load_state(state)
    assert again.child.job_id == JOB
    assert job_state(again) == job_state(one)
    assert await again.poll() is None


async def test_submit_failure(make, cluster):
    """Say so when sbatch succeeds and prints nothing."""
    one = make()
    cluster.does("sbatch", "true")
    with pytest.raises(HubFault) as error:
        await start(one, cluster)
    assert "gave no job number" in error.value.jupyterhub_message
    assert one.child.job_id == ""
    assert job_state(one) == {}
    assert await one.poll() is not None


async def test_submit_pending_fails(make, cluster):
    """Wait where theirs gives up: a job that was submitted runs on when squeue prints nonsense."""
    one = make()
    cluster.does("squeue", "echo xyz")
    starting = asyncio.ensure_future(one.start())
    await until(lambda: cluster.calls("squeue"))
    await cluster.looked()
    assert not starting.done()
    assert one.child.job_id == JOB
    assert await one.poll() is None

    cluster.running()
    await report(one, cluster)
    assert await asyncio.wait_for(starting, 5) == (ADDRESS, PORT)


async def test_poll_fails(make, cluster):
    """Keep a running server when squeue prints nonsense; theirs is forgotten, and its job runs on unseen."""
    one = make()
    await start(one, cluster)
    for nonsense in ("echo xyz", "printf '\\000\\377\\n'", f"echo {JOB}", "echo xyz; exit 1"):
        cluster.does("squeue", nonsense)
        await cluster.looked()
        assert await one.poll() is None, nonsense
        assert one.child.job_id == JOB
    cluster.gone()
    await until(lambda: one.child.view.ending)
    assert await one.poll() is not None, "an empty answer is one"


@pytest.mark.parametrize("silence", ["slurm_load_jobs error: Unable to contact slurm controller", None])
async def test_unknown_status(make, cluster, silence):
    one = make()
    await start(one, cluster)
    if silence:
        cluster.does("squeue", f"echo '{silence}' >&2; exit 1")
    else:
        cluster.squeue("WONDERING", NODE)
    await cluster.looked()
    assert await one.poll() is None
    assert one.child.job_id == JOB
    assert not cluster.calls("scancel")


async def test_templates(make, cluster):
    """Run the same words at each step: nothing is filled into a command but the job's number."""
    one = make()
    await start(one, cluster)
    assert [words[2:] for words in cluster.calls("sbatch")] == [["--parsable"]]
    asked = {" ".join(words[2:]) for words in cluster.calls("squeue")}
    assert asked == {f"--all --local --noheader --states=all --format={SEPARATOR.join(QUEUE.values())}"}
    assert not cluster.calls("scancel")
    await stop(one, cluster)
    assert [words[2:] for words in cluster.calls("scancel")] == [[JOB]]
    assert await one.poll() is not None


async def test_batch_script(make, cluster):
    one = make(args=["{cmd}", "$(id)", "{{ 1 }}"])
    await start(one, cluster)
    assert "singleuser_command '{cmd}' '$(id)' '{{ 1 }}'" in cluster.script


async def test_exec_prefix(make, cluster):
    """Submit and cancel as the person, and ask as the hub."""
    one = make()
    assert await one.poll() is not None
    await start(one, cluster)
    assert await one.poll() is None
    await stop(one, cluster)
    assert await one.poll() is not None
    who = {words[0]: words[1] for words in cluster.calls()}
    assert (who["sbatch"], who["scancel"], who["squeue"]) == (PERSON, PERSON, HUB)


async def test_slurm(make, cluster):
    """Go through a pending job, a controller that is silent, a running job and its end."""
    profile = {
        "cpus": 5,
        "memory": "5678M",
        "default_time": "3-05:10:00",
        "reservation": "RES123",
        "gpu_types": ["GRES123"],
        "max_gpus_per_node": 1,
    }
    one = make(profile)
    cluster.squeue("PENDING")
    starting = asyncio.ensure_future(one.start())
    await until(lambda: one.child is not None and one.child.job_id)
    await until(lambda: (view := one.child.view) and view.state == "PENDING")
    cluster.does("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    await cluster.looked(1)
    assert not starting.done()
    cluster.running()
    await report(one, cluster)
    assert await asyncio.wait_for(starting, 5) == (ADDRESS, PORT)
    assert await one.poll() is None
    await stop(one, cluster)
    assert await one.poll() is not None

    directives = [line for line in cluster.script.splitlines() if line.startswith("#SBATCH")]
    for wanted in ("cpus-per-task=5", "mem=5678M", "reservation=RES123", "gres=gpu:GRES123:1"):
        assert f"#SBATCH --{wanted}" in directives
    assert "#SBATCH --time=4630" in directives, "3 days, 5 hours, 10 minutes"
    assert "singleuser_command" in cluster.script


async def test_keepvars(make, cluster, monkeypatch):
    """Hand on what `env_keep` names of the hub's environment, and nothing else of it."""
    monkeypatch.setenv("ABCDE", "kept")
    monkeypatch.setenv("XYZ", "not named")
    one = make(env_keep=["ABCDE"])
    await start(one, cluster)
    assert cluster.environment["APPTAINERENV_ABCDE"] == "kept"
    assert not {"ABCDE", "XYZ", "APPTAINERENV_XYZ"} & cluster.environment.keys()
    assert "ABCDE" not in cluster.script
