"""A hub that is no root account works through etc/sudoers.d/carme-hub, and does no more than that."""

from __future__ import annotations

import sys

import pytest

from tests.support import ROOT

RULE = (ROOT / "etc" / "sudoers.d" / "carme-hub").read_text()
RULE = RULE.replace("jupyterhub", "nobody").replace("cluster-users", "researchers")
# Not root; it may only read a checkout that lies in a folder of root's.
HUB = (
    *("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--"),
)
DD = ("/usr/bin/dd",)
FLAGS = (
    "iflag=nofollow",
    "iflag=nonblock",
    "iflag=skip_bytes",
    "skip=0",
    "bs=4000",
    "count=1",
    "status=none",
)
WORK = """
import asyncio, os
from carme_hub.spawner import slurm
from carme_hub.spawner.script import log_path

async def main():
    assert os.geteuid() != 0
    cluster = slurm.Slurm()
    rosa = await slurm.account_of("rosa")
    script = "#!/bin/bash\\n#SBATCH --output=/dev/null\\nmkdir -p ~/.carme\\n"
    script += "echo $APPTAINERENV_CARME_TEST $LD_PRELOAD > ~/.carme/session-$SLURM_JOB_ID.log; sleep 600\\n"
    variables = {"APPTAINERENV_CARME_TEST": "handed over", "LD_PRELOAD": "/a/trap.so"}
    job = await cluster.submit(script, rosa, variables)
    for _ in range(600):
        tail = await cluster.log_tail(log_path(rosa.home, job), rosa)
        if tail:
            break
        await asyncio.sleep(0.1)
    picture = await cluster.queue([job])
    written = await cluster.batch_script(job, rosa)
    for _ in range(600):
        use = await cluster.use(job, rosa)
        if use:
            break
        await asyncio.sleep(0.1)
    await cluster.cancel(job, rosa)
    print(tail.strip(), "|", picture.jobs[job].state, "|", written == script, use.memory_peak > 0)

asyncio.run(main())
"""


@pytest.fixture
def rule(site):
    """The rule, in the demo site's own /etc."""
    where = "/etc/sudoers.d/carme-hub"
    site.run("bash", "-c", f"cat > {where} <<'EOF'\n{RULE}\nEOF\nchmod 440 {where} && visudo -c -q")
    yield
    site.run("rm", where)


@pytest.mark.usefixtures("rule")
def test_a_hub_without_privileges_works_through_the_rule(site):
    assert site.run(*HUB, sys.executable, "-c", WORK).strip() == "handed over | RUNNING | True True"


@pytest.mark.usefixtures("rule")
@pytest.mark.parametrize(
    "words",
    [
        ("-u", "rosa", "/usr/bin/id"),
        ("-u", "root", "/usr/bin/sbatch", "--parsable"),
        ("-u", "slurm", "/usr/bin/sbatch", "--parsable"),
        ("-u", "noah", "/usr/bin/sbatch", "--parsable"),
        ("-u", "rosa", "LD_PRELOAD=/a/trap.so", "/usr/bin/sbatch", "--parsable"),
        ("-u", "rosa", "--preserve-env=PATH", "/usr/bin/sbatch", "--parsable"),
        ("-u", "rosa", "/usr/bin/sbatch", "--parsable", "--uid=0"),
        ("-u", "rosa", "/usr/bin/scancel", "--user=ravi"),
        ("-u", "rosa", "/usr/bin/scontrol", "write", "batch_script", "1", "/tmp/x"),
        ("-u", "rosa", "/usr/bin/scontrol", "write", "batch_script", "1", "-", "-"),
        ("-u", "rosa", "/usr/bin/scontrol", "update", "JobId=1", "TimeLimit=1"),
        ("-u", "rosa", "/usr/bin/sstat", "--jobs=1,2", "--allsteps", "--noheader", "--parsable2"),
        ("-u", "rosa", "/usr/bin/stat", "--format=%F/%u/%s", "--", "/etc/passwd"),
        ("-u", "rosa", "/usr/bin/stat", "--format=%F/%u/%s", "--", "/etc/passwd /x/.carme/session-1.log"),
        ("-u", "rosa", *DD, "if=/etc/passwd", *FLAGS),
        ("-u", "rosa", *DD, "if=/x/.carme/session-1.log", *FLAGS, "of=/tmp/x"),
        ("-u", "rosa", *DD, "if=/x/.carme/session-1.log", "of=/tmp/x", *FLAGS),
    ],
)
def test_the_rule_allows_nothing_else(site, words):
    assert "uid=" not in site.run(*HUB, "sudo", "-n", *words, check=False)
    said = site.run(*HUB, "bash", "-c", 'sudo -n "$@" 2>&1 </dev/null; echo "ended $?"', "-", *words)
    assert said.strip().endswith("ended 1")
    assert "password is required" in said or "not allowed" in said
