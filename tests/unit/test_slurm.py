"""The door to Slurm, with small programs in Slurm's place: how they answer and fail can be chosen."""

import asyncio
import getpass
import json
import os
import threading
import time

import pytest

from carme_hub.spawner import answers
from carme_hub.spawner import slurm as module
from carme_hub.spawner.answers import Ending, QueueEntry
from carme_hub.spawner.slurm import Account, AccountError, Slurm, SlurmUnavailable, SubmitRefused, account_of

# squeue and scontrol of Slurm 22.05.8, recorded on the demo cluster.
QUEUE = (
    "5\x1fRUNNING\x1fNone\x1fnode1\x1f1795335594\x1f1795342794\n"
    "6\x1fPENDING\x1fResources\x1fn/a\x1fN/A\x1fN/A\n"
    "7\x1fPENDING\x1fReqNodeNotAvail, UnavailableNodes:node1\x1fn/a\x1f1795342794\x1fN/A\n"
    "slurm_load_jobs: a warning\n"
    "8_[1-3]\x1fPENDING\x1fPriority\x1fn/a\x1fN/A\x1fN/A\n"
)
JOB = (
    "JobId=2 JobName=carme-cpu UserId=rosa(20004) GroupId=rosa(20004) MCS_label=N/A Priority=4294901758 "
    "Nice=0 Account=research QOS=normal JobState=FAILED Reason=NonZeroExitCode Requeue=0 Restarts=0 "
    "BatchFlag=1 Reboot=0 ExitCode=127:0 RunTime=00:00:00 TimeLimit=02:00:00"
)


def test_the_queue_is_read():
    assert answers.parse_queue(QUEUE) == [
        QueueEntry(5, "RUNNING", "", "node1", 1795335594, 1795342794),
        QueueEntry(6, "PENDING", "Resources"),
        QueueEntry(7, "PENDING", "ReqNodeNotAvail, UnavailableNodes:node1", "", 1795342794),
    ]


def test_a_job_is_read():
    assert answers.parse_job(JOB) == Ending("FAILED", "NonZeroExitCode", 127, 0)
    assert answers.parse_job("slurm_load_jobs error: Invalid job id specified") is None


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        (
            "9\x1fCANCELLED by 20004\x1f0:15\x1fNone\n9.batch\x1fCANCELLED\x1f0:15\x1f\n",
            Ending("CANCELLED", "", 0, 15),
        ),
        (
            "9\x1fFAILED\x1f1:0\x1fNone\n9.batch\x1fOUT_OF_MEMORY\x1f0:125\x1f\n",
            Ending("OUT_OF_MEMORY", "", 1, 0),
        ),
        ("99\x1fFAILED\x1f1:0\x1fNone\n", None),
        ("", None),
    ],
)
def test_accounting_is_read(text, ending):
    assert answers.parse_accounting(text, 9) == ending


@pytest.fixture
def me():
    return Account(getpass.getuser(), os.geteuid(), os.getegid(), tuple(os.getgroups()), "/tmp")


@pytest.fixture
def slurm(tmp_path):
    def make(time_out=5.0, **programs):
        for name, body in programs.items():
            program = tmp_path / name
            program.write_text(f"#!/bin/bash\n{body}\n")
            program.chmod(0o755)
        tmp_path.chmod(0o755)
        return Slurm(str(tmp_path), "", time_out)

    return make


async def test_submit_gives_script_and_environment_and_nothing_of_the_hubs(slurm, me, tmp_path, monkeypatch):
    monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "hubs-secret")
    sbatch = (
        f"cat > {tmp_path}/script; env -0 > {tmp_path}/env; echo \"$*\" > {tmp_path}/words; echo '42;carme'"
    )
    assert await slurm(sbatch=sbatch).submit("#!/bin/bash\nid\n", me, {"APPTAINERENV_TOKEN": "secret"}) == 42
    assert (tmp_path / "script").read_text() == "#!/bin/bash\nid\n"
    assert (tmp_path / "words").read_text() == "--parsable\n"
    seen = dict(item.split("=", 1) for item in (tmp_path / "env").read_text().split("\0") if item)
    assert seen["APPTAINERENV_TOKEN"] == "secret"
    assert set(seen) - {"PWD", "SHLVL", "_"} == {
        "PATH",
        "LC_ALL",
        "HOME",
        "USER",
        "LOGNAME",
        "APPTAINERENV_TOKEN",
    }


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            "sbatch: error: Batch job submission failed: Invalid account or partition",
            SubmitRefused,
            "Invalid account",
        ),
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller",
            SlurmUnavailable,
            "later",
        ),
        (
            "sbatch: error: Socket timed out on send/recv operation",
            SlurmUnavailable,
            "later",
        ),
        (
            "sbatch: error: If munged is up, restart it\nsbatch: error: Munge encode failed",
            SlurmUnavailable,
            "later",
        ),
        ("slurm_submit: Slurm backup controller in standby mode", SlurmUnavailable, "later"),
        (
            "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
            SlurmUnavailable,
            "later",
        ),
    ],
)
async def test_what_sbatch_says_becomes_a_sentence(slurm, me, error, kind, words):
    with pytest.raises(kind, match=words):
        await slurm(sbatch=f"echo '{error}' >&2; exit 1").submit("", me, {})


async def test_an_answer_without_a_number(slurm, me):
    with pytest.raises(SlurmUnavailable, match="no job number"):
        await slurm(sbatch="echo Submitted").submit("", me, {})


async def test_a_silent_command_is_killed(slurm, tmp_path):
    began = time.monotonic()
    with pytest.raises(SlurmUnavailable, match="squeue did not answer within"):
        await slurm(squeue=f"echo $$ > {tmp_path}/pid; sleep 60 & sleep 60", time_out=0.3).queue([1])
    assert time.monotonic() - began < 5
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_few_commands_run_at_once(slurm, tmp_path):
    body = f"echo x >> {tmp_path}/began; until [ -e {tmp_path}/go ]; do sleep 0.02; done"
    cluster = slurm(squeue=body)
    asked = [asyncio.ensure_future(cluster.queue([number])) for number in range(20)]
    began = tmp_path / "began"
    async with asyncio.timeout(5):
        while not began.exists() or len(began.read_text()) < 16:  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    assert began.read_text().count("x") == 8
    (tmp_path / "go").touch()
    await asyncio.gather(*asked)
    assert began.read_text().count("x") == 20


async def test_a_silent_name_service_takes_only_its_own_threads(monkeypatch):
    end = threading.Event()
    monkeypatch.setattr(module, "_account", lambda _name: end.wait(10))
    try:
        lookups = [asyncio.ensure_future(account_of("rosa", 0.2)) for _ in range(50)]
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 5), 2) == 5
        results = await asyncio.gather(*lookups, return_exceptions=True)
        assert {type(result) for result in results} == {AccountError}
    finally:
        end.set()


async def test_a_missing_command(slurm):
    with pytest.raises(SlurmUnavailable, match="cannot run squeue"):
        await slurm().queue([1])


async def test_one_unknown_job_is_a_complete_picture(slurm):
    picture = await slurm(squeue="echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1").queue(
        [1]
    )
    assert picture.jobs == {}


async def test_several_of_which_one_is_unknown(slurm):
    squeue = (
        'case "$*" in *--jobs*) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1;; esac\n'
        "for job in 5 99; do printf '%s\\x1fRUNNING\\x1fNone\\x1fnode1\\x1fN/A\\x1fN/A\\n' $job; done"
    )
    picture = await slurm(squeue=squeue).queue([5, 6])
    assert set(picture.jobs) == {5}


async def test_no_answer_is_no_picture(slurm):
    with pytest.raises(SlurmUnavailable, match="Unable to contact"):
        await slurm(
            squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
        ).queue([1])


async def test_the_ending_falls_back_to_accounting(slurm):
    programs = {"scontrol": "exit 1", "sacct": "printf '9\\x1fTIMEOUT\\x1f0:1\\x1fNone\\n'"}
    assert await slurm(**programs).ending(9) == Ending("TIMEOUT", "", 0, 1)
    assert await slurm(scontrol="exit 1", sacct="exit 1").ending(9) is None
    assert await slurm(scontrol=f"echo '{JOB}'").ending(2) == Ending("FAILED", "NonZeroExitCode", 127, 0)


async def test_cancel(slurm, me):
    await slurm(scancel="exit 0").cancel(1, me)
    await slurm(
        scancel="echo 'scancel: error: Kill job error on job id 1: Invalid job id specified' >&2; exit 1"
    ).cancel(1, me)
    with pytest.raises(SlurmUnavailable, match="could not be cancelled"):
        await slurm(scancel="echo 'Unable to contact slurm controller' >&2; exit 1").cancel(1, me)


async def test_the_nodes_address_is_slurms_and_is_remembered(slurm, tmp_path):
    cluster = slurm(
        scontrol=f"echo x >> {tmp_path}/calls; echo 'NodeName=node1 NodeAddr=10.74.0.11 NodeHostName=node1'"
    )
    assert await cluster.node_address("node1") == "10.74.0.11"
    assert await cluster.node_address("node1") == "10.74.0.11"
    assert (tmp_path / "calls").read_text() == "x\n"
    with pytest.raises(SlurmUnavailable):
        await cluster.node_address("--help")


async def test_the_log_is_read_from_its_end_as_the_person(slurm, me, tmp_path):
    log = tmp_path / "log"
    log.write_text("".join(f"{number}\n" for number in range(5000)))
    tail = await slurm().log_tail(str(log), me)
    assert tail.endswith("4999\n")
    assert len(tail) < 4000
    assert tail.splitlines()[0].isdigit()
    assert await slurm().log_tail(str(tmp_path / "none"), me) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
async def test_a_hub_that_is_root_becomes_the_person(slurm):
    nobody = await account_of("nobody")
    done = await slurm().run(
        [
            "/usr/bin/python3",
            "-c",
            "import os, json; print(json.dumps([os.getuid(), os.getgid(), os.getgroups(), os.getcwd()]))",
        ],
        account=nobody,
    )
    assert json.loads(done.out) == [nobody.uid, nobody.gid, sorted(nobody.groups), "/"]


async def test_root_and_unknown_people_have_no_sessions():
    with pytest.raises(AccountError, match="root"):
        await account_of("root")
    with pytest.raises(AccountError, match="no account"):
        await account_of("no-such-person")
