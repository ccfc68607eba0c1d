"""The door to Slurm, with small programs in Slurm's place: how they answer and fail can be chosen."""

import asyncio
import getpass
import json
import os
import tempfile
import threading
from dataclasses import replace

import pytest

from carme_hub.spawner import slurm as module
from carme_hub.spawner.answers import Ending
from carme_hub.spawner.slurm import Account, AccountError, Slurm, SlurmUnavailable, SubmitRefused, account_of

JOB = "JobId=2 JobName=carme-cpu JobState=FAILED Reason=NonZeroExitCode ExitCode=127:0 TimeLimit=02:00:00"
RUNNING = r"\x1fRUNNING\x1fNone\x1fnode1\x1fN/A\x1fN/A\x1fgpu\x1f1\x1f20004\n"


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
    # Nothing but the kill ends it.
    silent = slurm(squeue=f"echo $$ > {tmp_path}/pid; sleep 3600 & sleep 3600", time_out=0.5)
    with pytest.raises(SlurmUnavailable, match="squeue did not answer within"):
        await asyncio.wait_for(silent.queue([1]), 60)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def has_lines(file, number):
    async with asyncio.timeout(20):
        while not file.exists() or file.read_text().count("\n") < number:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.02)


async def test_few_commands_run_at_once(slurm, me, tmp_path):
    body = f"echo x >> {tmp_path}/began; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo 1"
    cluster = slurm(sbatch=body)
    asked = [asyncio.ensure_future(cluster.submit("", me, {})) for _ in range(20)]
    began = tmp_path / "began"
    await has_lines(began, 8)
    await asyncio.sleep(0.2)
    assert began.read_text().count("x") == 8
    (tmp_path / "go").touch()
    await asyncio.gather(*asked)
    assert began.read_text().count("x") == 20


async def test_the_queue_is_read_while_everybodys_commands_hang(slurm, me, tmp_path):
    cluster = slurm(
        sbatch=f"echo x >> {tmp_path}/began; sleep 3600", squeue=f"printf '7{RUNNING}'", time_out=20
    )
    asked = [asyncio.ensure_future(cluster.submit("", me, {})) for _ in range(20)]
    await has_lines(tmp_path / "began", 8)
    assert set((await asyncio.wait_for(cluster.queue([7]), 10)).jobs) == {7}
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)


async def test_homes_that_hang_hold_up_no_command_of_slurms(slurm, me, tmp_path):
    cluster = slurm(sbatch="echo 42", time_out=20)
    for _ in range(module._HOMES):  # what hangs in a dead file system
        await cluster._homes.acquire()
    reading = [asyncio.ensure_future(cluster.log_tail(str(tmp_path / "log"), me)) for _ in range(20)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(cluster.submit("", me, {}), 10) == 42
    assert not any(task.done() for task in reading)
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)


async def test_who_waits_for_a_turn_waits_no_longer_than_for_an_answer(slurm, me, tmp_path):
    cluster = slurm(sbatch=f"touch {tmp_path}/began; echo 42", time_out=0.5)
    for _ in range(8):
        await cluster._commands.acquire()
    with pytest.raises(SlurmUnavailable, match="sbatch could not be asked within"):
        await asyncio.wait_for(cluster.submit("", me, {}), 20)
    assert not (tmp_path / "began").exists()
    cluster._commands.release()
    assert await cluster.submit("", me, {}) == 42


async def test_a_large_answer_is_read_beside_the_hub(slurm, monkeypatch):
    threads = []
    parse = module.answers.parse_queue

    def seen(*words):
        threads.append(threading.current_thread().name)
        return parse(*words)

    monkeypatch.setattr(module.answers, "parse_queue", seen)
    cluster = slurm(squeue=f'for i in {{1..3000}}; do printf "$i{RUNNING}"; done')
    assert set((await cluster.queue([2999])).jobs) == {2999}
    assert "carme-parse" in threads[0]


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


async def test_one_question_for_any_number_of_jobs(slurm, tmp_path):
    squeue = f"echo \"$*\" >> {tmp_path}/words; for job in 5 6 99; do printf '%s{RUNNING}' $job; done"
    cluster = slurm(squeue=squeue)
    assert set((await cluster.queue([5, 7])).jobs) == {5}
    assert set((await cluster.queue(range(500))).jobs) == {5, 6, 99}
    first, second = (tmp_path / "words").read_text().splitlines()
    assert first == second, "the command does not grow with the jobs"
    # A job in a hidden partition is not gone, and that of another cluster is not ours.
    assert {"--all", "--local", "--states=all"} <= set(first.split())


async def test_no_answer_is_no_picture(slurm):
    with pytest.raises(SlurmUnavailable, match="Unable to contact"):
        await slurm(
            squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
        ).queue([1])


SINFO = "node1 idle 0/8/0/8 16000 0 gpu:2 gpu:0 gpu* up 1:00:00 n/a 1-2 none".replace(" ", r"\x1f")


async def test_the_cluster_is_one_sinfo_and_seldom_its_rules(slurm, tmp_path, monkeypatch):
    cluster = slurm(
        sinfo=f"echo sinfo >> {tmp_path}/calls; printf '{SINFO}'",
        scontrol=f"echo scontrol >> {tmp_path}/calls; echo 'PartitionName=gpu AllowAccounts=ml'",
    )
    picture = await cluster.cluster()
    assert (picture.nodes["node1"].gres, picture.partitions["gpu"].max_nodes) == ({"gpu": 2}, 2)
    assert (await cluster.cluster()).partitions["gpu"].rules.account("ml")
    assert (tmp_path / "calls").read_text().split() == ["sinfo", "scontrol", "sinfo"]
    monkeypatch.setattr(module, "_RULES_SECONDS", 0.0)
    await cluster.cluster()
    assert (tmp_path / "calls").read_text().split()[-1] == "scontrol"


@pytest.mark.parametrize("silent", ["sinfo", "scontrol"])
async def test_half_an_answer_is_no_picture_of_the_cluster(slurm, silent):
    programs = {"sinfo": f"printf '{SINFO}'", "scontrol": "echo PartitionName=gpu"}
    programs[silent] = "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1"
    with pytest.raises(SlurmUnavailable, match="Unable to contact"):
        await slurm(**programs).cluster()


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


async def test_a_controller_that_is_away_has_not_said_where_a_node_is(slurm, tmp_path):
    silent = "echo 'slurm_load_node error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
    (tmp_path / "away").touch()
    cluster = slurm(
        scontrol=f"[ ! -e {tmp_path}/away ] || {{ {silent}; }}; echo 'NodeName=n1 NodeAddr=10.0.0.1'"
    )
    with pytest.raises(SlurmUnavailable, match="Unable to contact"):
        await cluster.node_address("n1")
    (tmp_path / "away").unlink()
    assert await cluster.node_address("n1") == "10.0.0.1"


async def test_a_node_that_slurm_does_not_know_has_its_name(slurm, tmp_path):
    cluster = slurm(scontrol=f"echo x >> {tmp_path}/calls; echo 'Node n1 not found'; exit 1")
    assert [await cluster.node_address("n1") for _ in range(2)] == ["n1", "n1"]
    assert (tmp_path / "calls").read_text() == "x\nx\n", "it may know it the next time"


async def test_the_log_is_read_from_its_end_as_the_person(slurm, me, tmp_path):
    log = tmp_path / "log"
    log.write_text("".join(f"{number}\n" for number in range(5000)))
    tail = await slurm().log_tail(str(log), me)
    assert tail.endswith("4999\n")
    assert len(tail) < 4000
    assert tail.splitlines()[0].isdigit()
    assert await slurm().log_tail(str(tmp_path / "none"), me) == ""


@pytest.mark.parametrize("what", ["link", "fifo", "folder"])
async def test_what_is_no_log_of_its_owner_is_not_read(slurm, tmp_path, me, what):
    """Its owner chooses what stands in a log's place; the hub's machine has more than that person may see."""
    secret, log = tmp_path / "secret", tmp_path / "log"
    secret.write_text("secret\n")
    secret.chmod(0o644)
    if what == "link":
        log.symlink_to(secret)
    elif what == "fifo":
        os.mkfifo(log)
    else:
        log.mkdir()
    async with asyncio.timeout(5):
        assert await slurm().log_tail(str(log), me) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read as somebody else")
async def test_somebody_elses_file_is_not_read_though_it_could_be(slurm, me):
    other = replace(me, uid=65534, gid=65534, groups=())
    with tempfile.NamedTemporaryFile("w", dir="/tmp") as file:
        file.write("said\n")
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        assert await slurm().log_tail(file.name, other) == ""
        os.chown(file.name, 65534, 65534)
        assert await slurm().log_tail(file.name, other) == "said\n"


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
