"""Jobs that are sent from a session, and shells in one: what they find is theirs, not another's."""

from __future__ import annotations

import asyncio
import json
import re
from urllib.parse import urlsplit

import pytest
import requests
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.support import PATIENCE

TWO = {"profile": "gpu", "image": "base", "time": "0:30:00", "gpus": 1, "nodes": 2}
HOME = "/srv/home/rosa"
LOOK = "import json, os; print(json.dumps(dict(os.environ)))"
SEND = """import subprocess, sys
subprocess.run(["sbatch", "-W", "-p", "cpu", "--mem=50M", "-o", sys.argv[1], "job.sh"])
"""
# What runs in the image says where it is, and so do its tasks.
IN_IMAGE = """#!/usr/bin/env python
#SBATCH -p cpu
#SBATCH -N2
#SBATCH --mem=300M
import os, subprocess, sys
print(sys.prefix, sys.argv[1:], os.environ.get("FOO"))
print([name for name in os.environ if name.startswith("JUPYTERHUB_")], flush=True)
subprocess.run(["srun", "python", "-c", "import sys; print(sys.prefix)"])
"""
OWN = (
    "SLURM_OVERLAP",
    "SRUN_",
    "APPTAINER",
    "SINGULARITY",
    "JUPYTER",
    "JPY_",
    "CARME_",
    "MASTER_",
    "CUDA_VIS",
)
# Forms in which a job is sent; {} is where its output goes.
FORMS = {
    "wrap": "sbatch -W -p cpu --mem=50M -o {} --wrap 'python3 look.py'",
    "all": "sbatch -W -p cpu --mem=50M --export=ALL -o {} job.sh",
    "none": "sbatch -W -p cpu --mem=50M --export=NONE -o {} job.sh",
    "nil": "sbatch -W -p cpu --mem=50M --export=NIL -o {} job.sh",
    "named": "sbatch -W -p cpu --mem=50M --export=ALL,JUPYTERHUB_API_TOKEN,FOO=x -o {} job.sh",
    "directive": "sbatch -W -p cpu -o {} directive.sh",
    "file": "env -0 > variables; sbatch -W -p cpu --mem=50M --export-file=variables -o {} job.sh",
    "input": "sbatch -W -p cpu --mem=50M -o {} < job.sh",
    "absolute": "/usr/bin/sbatch -W -p cpu --mem=50M -o {} job.sh",
    "bare path": "PATH=/usr/bin:/bin sbatch -W -p cpu --mem=50M -o {} job.sh",
    "python": "python send.py {}",
    "no environment": "env -i /usr/bin/sbatch -W -p cpu --mem=50M -o {} job.sh",
    "a task": "srun -N1 -n1 sbatch -W -p cpu --mem=50M -o {} job.sh",
    "salloc": "salloc -Q -p cpu --mem=100M sh -c "
    "'sbatch -W --mem=50M -o {0} job.sh; srun -n1 python look.py > {0}-step'",
}


@pytest.fixture(scope="module")
def rosa(people):
    """Somebody with a session of one core on each of two nodes."""
    one = people("rosa")
    one.end_session()
    one.start(**TWO)
    for name, text in {
        "look.py": LOOK,
        "job.sh": "#!/bin/sh\npython3 look.py\n",
        "send.py": SEND,
        "directive.sh": "#!/bin/sh\n#SBATCH --mem=50M\n#SBATCH --export=ALL\npython3 look.py\n",
    }.items():
        one.python(f"open('{HOME}/{name}', 'w').write({text!r})")
    yield one
    one.shell("rm -f ~/.bash_profile ~/.bashrc.d")
    one.end_session()


def test_c2_no_form_of_sending_a_job_takes_the_session_along(rosa):
    sent = " & ".join(f"( {form.format(f'out-{number}')} )" for number, form in enumerate(FORMS.values()))
    said = rosa.shell(f"cd; rm -f out-*; {sent} & wait")
    session = json.loads(rosa.python(LOOK))
    for number, form in enumerate(FORMS):
        got = rosa.shell(f"cd; cat out-{number}")
        assert got.startswith("{"), (form, got, said)
        job = json.loads(got)
        assert not [name for name in job if name.startswith(OWN)], form
        assert session["JUPYTERHUB_API_TOKEN"] not in got, form
        assert job["SLURM_JOB_ID"] != session["SLURM_JOB_ID"]
        assert job["SLURM_JOB_NUM_NODES"] == "1", form
        assert "/.carme" not in got, form
        assert "singularity.d" not in got, form
        if form != "nil":
            assert "/opt/jupyter" not in job["PATH"], form
    step = json.loads(rosa.shell(f"cd; cat out-{list(FORMS).index('salloc')}-step"))
    assert step["SLURM_JOB_ID"] != session["SLURM_JOB_ID"]
    assert session["JUPYTERHUB_API_TOKEN"] not in step.values()


def test_c2_a_job_gets_the_cores_memory_and_nodes_that_it_asks_for(site, rosa):
    rosa.shell("printf '#!/bin/sh\\nsrun hostname\\n' > hosts.sh")
    said = rosa.shell(
        "(sbatch -W -p cpu --mem=200M -o one.out hosts.sh)& "
        "(sbatch -W --parsable -p cpu -c4 -o four.out --wrap 'srun true' > four.id)& "
        "(sbatch -W -p cpu --mem-per-cpu=100M -o memory.out --wrap 'srun echo fine')& "
        "(sbatch -W -p cpu -o nested.out --wrap 'apptainer exec /srv/images/base.sif echo nested')& wait"
    )
    assert len(rosa.shell("cat one.out").split()) == 1, said
    job = rosa.shell("cat four.id").strip()
    assert f"{job}.0|4" in site.run("sacct", "-nP", "-j", job, "-o", "JobID,AllocCPUS").split()
    assert rosa.shell("cat memory.out") == "fine\n"
    assert "nested" in rosa.shell("cat nested.out").split()


def test_c2_a_job_runs_in_the_sessions_image_when_it_is_asked_to(rosa):
    rosa.python(f"open('{HOME}/in.py', 'w').write({IN_IMAGE!r})")
    said = rosa.shell(
        "(FOO=x carme-sbatch -W -o in.out in.py 'a b')& "
        "(CARME_SBATCH_IMAGE=1 sbatch -W -p cpu --mem=100M -o wrapped.out --wrap 'which python; exit 3'; "
        "echo code $?)& wait; rm in.py"
    )
    assert rosa.shell("cat in.out").splitlines() == [
        "/opt/jupyter ['a b'] x",
        "[]",
        *["/opt/jupyter"] * 2,
    ], said
    assert rosa.shell("cat wrapped.out") == "/opt/jupyter/bin/python\n"
    assert "code 3" in said
    refused = rosa.shell("carme-sbatch look.py; carme-sbatch --nonsense x; carme-sbatch --version")
    assert "look.py is no batch script" in refused
    assert "unrecognized option" in refused


def test_c2_a_folder_of_the_session_only_is_not_where_a_job_starts(rosa):
    said = rosa.shell(
        "mkdir -p /tmp/x && cd /tmp/x && printf '#!/bin/sh\\npwd\\n' > j.sh && "
        "sbatch -W -p cpu -o away.out j.sh"
    )
    assert "/tmp/x is in the session only" in said
    assert rosa.shell("cat ~/away.out") == f"{HOME}\n"


def test_c10_slurms_own_srun_never_runs_outside_the_image_without_a_word(rosa):
    for words in ("/usr/bin/srun", "env PATH=/usr/bin:/bin srun", "PATH=/usr/bin /usr/bin/srun"):
        assert "jupyter" in rosa.shell(f"{words} -N1 -n1 ls /opt"), words
    for words in (["/usr/bin/srun", "-N1", "-n1", "ls", "/opt"],):
        assert "jupyter" in rosa.python(
            f"import subprocess as s; print(s.check_output({words!r}, text=True))"
        )
    # What an image of others has in /usr/bin is Slurm's own: it refuses.
    for name in ("srun", "sbatch", "salloc"):
        said = rosa.shell(f"/usr/libexec/carme/{name} -n1 {'--wrap=true' if name == 'sbatch' else 'true'}")
        assert f"/.carme/bin/{name}" in said
    assert "jupyter" not in rosa.shell("CARME_SRUN_OUTSIDE=1 /usr/bin/srun -N1 -n1 ls /opt")
    found = rosa.shell("CARME_SRUN_OUTSIDE=1 srun -N1 -n1 sh -c 'command -v python3'")
    assert found == "/usr/bin/python3\n"


# Shells as people and programs start them. Each prints where it finds four programs.
WHICH = "for name in python pip jupyter srun; do command -v $name; done"
SHELLS = {
    "bash": f"bash -c '{WHICH}'",
    "bash, login": f"bash -lc '{WHICH}'",
    "bash, login, script": "bash -l which.sh",
    "bash, interactive": f"echo '{WHICH}' | bash -i 2>/dev/null",
    "bash, interactive, login": f"echo '{WHICH}' | bash -li 2>/dev/null",
    "sh": f"sh -c '{WHICH}'",
    "sh, login": f"sh -lc '{WHICH}'",
    "sh, interactive": f"echo '{WHICH}' | sh -i 2>/dev/null",
    "sh, interactive, login": f"echo '{WHICH}' | sh -li 2>/dev/null",
    "without an environment": f"env -i HOME=$HOME bash -lc '{WHICH}'",
    "a task": f"srun -Q -N1 -n1 bash -lc '{WHICH}'",
    "tmux": "rm -f t.out; tmux -L x new-session -d; "
    "tmux -L x send-keys 'sh which.sh > t.part; mv t.part t.out' Enter;"
    " until [ -e t.out ]; do sleep 0.2; done; tmux -L x kill-server; cat t.out",
    "Code-Server's": f"echo '{WHICH}' | VSCODE_INJECTION=1 bash --init-file "
    "$(find /opt/code-server -name shellIntegration-bash.sh) -i 2>/dev/null",
}
FOUND = ["/opt/jupyter/bin/python", "/opt/jupyter/bin/pip", "/opt/jupyter/bin/jupyter", "/.carme/bin/srun"]
PROGRAM = re.compile("|".join(map(re.escape, FOUND)))
# An sh that is no terminal's reads nothing after the person's own file, which then has the last word.
LAST_WORD = {"sh, login"}


@pytest.mark.parametrize("files", ["none", "whole"])
def test_c4_every_shell_finds_the_images_programs(rosa, files):
    rosa.shell(
        f"cd; echo '{WHICH}' > which.sh; mkdir -p kept; mv .bashrc .profile .bash_profile kept 2>/dev/null"
    )
    if files == "whole":
        rosa.shell(
            "cd; for f in .bashrc .profile .bash_profile; do echo 'export PATH=/usr/bin:/bin' > $f; done"
        )
        rosa.shell("cd; echo '. ~/.bashrc' >> .bash_profile")
    try:
        wrong = {}
        for name, line in SHELLS.items():
            if files == "whole" and name in LAST_WORD:
                continue
            found = PROGRAM.findall(rosa.shell(f"cd; {line}"))
            if found != FOUND:
                wrong[name] = rosa.shell(f"cd; {line}")
        assert not wrong
    finally:
        rosa.shell("cd; rm -f .bashrc .profile .bash_profile; mv kept/.[a-z]* . ; rmdir kept")


def test_c4_a_login_shell_keeps_what_the_session_has(rosa):
    names = (
        "LANG LD_LIBRARY_PATH CUDA_VISIBLE_DEVICES SLURM_JOB_ID MASTER_ADDR MASTER_PORT TZ JUPYTERHUB_USER"
    )
    shown = f"for name in JUPYTER_RUNTIME_DIR {names}; do eval echo $name=\\$$name; done"
    plain, login = (rosa.shell(f"{shell} '{shown}'") for shell in ("sh -c", "bash -lc"))
    assert plain == login
    assert not [line for line in plain.splitlines() if line.endswith("=")]


def test_c4_a_persons_own_python_stays_in_front(rosa):
    rosa.shell("cd; mkdir -p own/bin; printf '#!/bin/sh\\n' > own/bin/python; chmod 755 own/bin/python")
    said = rosa.shell(
        "cd; echo 'PATH=~/own/bin:/usr/bin:/bin' > .bash_profile; bash -lc 'command -v python pip'"
    )
    rosa.shell("cd; rm -r own .bash_profile")
    assert said.split() == [f"{HOME}/own/bin/python", "/opt/jupyter/bin/pip"]


def test_c4_jupyterlabs_terminal_has_the_notebooks_python(rosa):
    headers = {"Authorization": f"token {rosa.token}"}
    base = f"{rosa.site.hub_url}/user/rosa"
    made = requests.post(f"{base}/api/terminals", headers=headers, timeout=60)
    assert made.status_code == 200, made.text
    address = urlsplit(f"{base}/terminals/websocket/{made.json()['name']}")._replace(scheme="ws").geturl()

    async def ask() -> str:
        connection = await websocket_connect(HTTPRequest(address, headers=headers))
        await connection.write_message(
            json.dumps(["stdin", "python -c 'import sys; print(sys.prefix, 6*7)'\r"])
        )
        seen = ""
        while " 42" not in seen and (text := await connection.read_message()) is not None:
            kind, *rest = json.loads(text)
            seen += rest[0] if kind == "stdout" else ""
        connection.close()
        while await connection.read_message() is not None:  # until it is closed
            pass
        return seen

    seen = asyncio.run(asyncio.wait_for(ask(), PATIENCE))
    assert rosa.python("import sys; print(sys.prefix)").strip() == "/opt/jupyter"
    assert "/opt/jupyter 42" in seen
