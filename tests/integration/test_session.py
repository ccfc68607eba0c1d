"""A session on the real cluster: start, what it holds, what it sees, stop."""

from __future__ import annotations

import json

from tests.support import ROOT, until

GPU = {"profile": "gpu", "image": "base", "time": "0:30:00"}


def test_a_session_starts_is_seen_and_stops(site, person):
    rosa = person("rosa")
    server = rosa.start(profile="cpu")
    assert rosa.get("/api/status").status_code == 200
    (job,) = site.jobs("rosa")
    assert site.run("squeue", "-h", "-j", job, "-o", "%u %T %P").split() == ["rosa", "RUNNING", "cpu"]
    assert server["ready"]
    stopped = rosa.api("DELETE", "/users/rosa/server")
    assert stopped.status_code in (202, 204)
    until(lambda: not site.jobs("rosa"), "the job's end")
    until(lambda: not rosa.server(), "the hub's notice")


def test_a_job_that_ends_behind_the_hubs_back_is_noticed(site, person):
    rosa = person("rosa")
    rosa.start(profile="cpu")
    (job,) = site.jobs("rosa")
    site.run("scancel", job)
    until(lambda: not rosa.server(), "the hub's notice that the job is gone")


def test_exactly_the_gpus_that_were_asked_for_can_be_opened(person):
    rosa = person("rosa")
    rosa.start(**GPU, gpus=2, nodes=1)
    seen = rosa.python(
        "import os\n"
        "opened = {}\n"
        "for number in range(4):\n"
        "    try:\n"
        "        os.close(os.open(f'/dev/nvidia{number}', os.O_RDWR | os.O_NOCTTY))\n"
        "        opened[number] = 'open'\n"
        "    except OSError as error:\n"
        "        opened[number] = error.strerror\n"
        "import json\n"
        "print(json.dumps([opened, os.environ['CUDA_VISIBLE_DEVICES'], os.environ['SLURM_JOB_ID']]))"
    )
    opened, visible, job = json.loads(seen)
    assert sorted(opened.values()) == ["Operation not permitted"] * 2 + ["open"] * 2
    assert len(visible.split(",")) == 2
    assert job.isdigit()


def test_a_session_without_gpus_opens_none(person):
    rosa = person("rosa")
    rosa.start(profile="cpu")
    assert "nvidia" not in rosa.shell("ls /dev")
    # Outside the container the devices are in sight, and the job's control group refuses them all.
    for number in range(4):
        said = rosa.shell(f"CARME_SRUN_OUTSIDE=1 srun bash -c 'exec 3</dev/nvidia{number} && echo opened'")
        assert "Operation not permitted" in said
        assert "opened" not in said


def test_two_nodes_are_one_session(person):
    rosa = person("rosa")
    rosa.start(**GPU, gpus=1, nodes=2)
    first = rosa.shell("hostname").strip()
    nodes = sorted(rosa.shell("srun hostname").split())
    assert len(set(nodes)) == 2
    assert first in nodes
    devices = rosa.shell("srun bash -c 'echo $CUDA_VISIBLE_DEVICES'").split()
    assert len(devices) == 2


def test_logs_of_long_ago_are_removed_and_nothing_else(site, person):
    rosa, folder = person("rosa"), "/srv/home/rosa/.carme"
    site.run("mkdir", "-p", folder, user="rosa")
    for name, age in (("session-1.log", 40), ("session-2.log", 20), ("notes.log", 40)):
        site.run("touch", "-d", f"{age} days ago", f"{folder}/{name}", user="rosa")
    rosa.start(profile="cpu")
    left = site.run("ls", folder).split()
    assert "session-1.log" not in left
    assert {"session-2.log", "notes.log"} <= set(left)


def test_more_memory_than_asked_for_is_refused_by_the_kernel(person):
    rosa = person("rosa")
    rosa.start(profile="cpu")
    said = rosa.shell("python3 -c 'b = bytearray(2 << 30); print(\"survived\")'; echo ended $?")
    assert "survived" not in said
    assert "ended 137" in said  # killed by signal 9


def test_a_session_sees_the_home_and_the_mounts_its_image_names_and_no_others(person):
    rosa = person("rosa")
    rosa.start(profile="cpu", image="ml")
    mounts = {
        line.split()[4]: line.split()[5].split(",")[0]
        for line in rosa.shell("cat /proc/self/mountinfo").splitlines()
    }
    from_outside = {
        where: mode
        for where, mode in mounts.items()
        if where != "/" and not where.startswith(("/dev", "/proc", "/sys", "/.singularity.d"))
    }
    runtime = {
        "/tmp",
        "/var/tmp",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/passwd",
        "/etc/group",
        "/etc/localtime",
    }
    own = {"/.carme", "/etc/profile.d/zz-carme.sh"}  # of the session itself
    assert set(from_outside) - runtime - own == {"/srv/home/rosa", "/data", "/etc/slurm", "/run/munge"}
    assert {from_outside[where] for where in own} == {"ro"}
    assert from_outside["/data"] == "ro"
    assert from_outside["/srv/home/rosa"] == "rw"
    assert "swing.csv" in rosa.shell("ls /data")
    assert rosa.shell("ls /srv/home").split() == ["rosa"]


def test_a_session_lives_in_namespaces_of_its_own(site, person):
    rosa = person("rosa")
    rosa.start(profile="cpu")
    (job,) = site.jobs("rosa")
    node = site.run("squeue", "-h", "-j", job, "-o", "%N").strip()
    for kind in ("pid", "ipc", "mnt", "user"):
        inside = rosa.shell(f"readlink /proc/self/ns/{kind}").strip()
        assert inside != site.run("readlink", f"/proc/self/ns/{kind}", node=node).strip(), kind
    # /proc shows the session's own processes and no others, all of them the person's.
    seen = rosa.shell("stat -c '%U' /proc/[0-9]*; cat /proc/[0-9]*/comm").split()
    assert not {"slurmd", "bash", "tini", "root"} & set(seen)
    assert {"rosa", "appinit"} <= set(seen)
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"):
        rosa.shell(f"echo mine > {folder}/mine")
        assert "mine" in rosa.shell(f"ls {folder}").split(), folder
        site.run("mkdir", "-p", folder, node=node)
        assert "mine" not in site.run("ls", folder, node=node).split(), folder
    # No folder that was open outside is a way out, and nothing of the image can be changed.
    assert "/" not in rosa.shell(
        "for fd in /proc/1/fd/* /proc/self/fd/*; do [ -d $fd ] && readlink $fd; done"
    )
    assert "Read-only" in rosa.shell("touch /usr/bin/x /.carme/x 2>&1")


def test_other_groups_see_other_libraries(person):
    mia, rosa = person("mia"), person("rosa")
    refused = mia.ask(profile="cpu", image="ml")
    assert refused.status_code == 400
    assert "image" in refused.json()["message"]
    rosa.start(profile="cpu", image="ml")
    assert "sklearn" in rosa.python("import sklearn; print(sklearn.__name__)")
    mia.start(profile="cpu", image="base")
    assert "ModuleNotFoundError" in mia.python("import sklearn")


def test_what_listens_on_the_node_asks_who_you_are(site, person):
    rosa = person("rosa")
    rosa.start(profile="cpu")
    assert rosa.get("/code-server/").status_code == 200
    (job,) = site.jobs("rosa")
    node = site.run("squeue", "-h", "-j", job, "-o", "%N").strip()
    listening = {
        line.split()[3] for line in site.run("ss", "-Hltnp", node=node).splitlines() if "slurm" not in line
    }
    answers = {}
    for address in listening:
        port = address.rpartition(":")[2]
        for path in (
            "/",
            "/user/rosa/",
            "/user/rosa/api/kernels",
            "/user/rosa/code-server/",
            "/user/rosa/lab",
        ):
            code = site.run(
                *("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10"),
                f"127.0.0.1:{port}{path}",
                node=node,
                user="ravi",
                check=False,
            )
            # 000: what listens there is no web server
            assert code in {"302", "403", "404", "000"}, (address, path, code)
            answers[port, path] = code
    # The session itself was among what was asked, and sent the stranger to the login.
    assert "302" in {code for (_, path), code in answers.items() if path == "/user/rosa/lab"}


def test_the_token_is_in_no_script_record_or_log(site, person):
    rosa = person("rosa")
    rosa.start(profile="cpu")
    token = rosa.python("import os; print(os.environ['JUPYTERHUB_API_TOKEN'])").strip()
    assert len(token) >= 32
    (job,) = site.jobs("rosa")
    assert token not in site.run("scontrol", "show", "job", "-dd", job)
    assert token not in site.run("scontrol", "write", "batch_script", job, "-")
    assert token not in site.run("cat", f"/srv/home/rosa/.carme/session-{job}.log")
    assert token not in site.run("bash", "-c", "cat /var/log/slurm/*")
    assert token not in site.run("ps", "-eo", "args")
    for log in (ROOT / ".demo" / "log").iterdir():
        assert token not in log.read_text(errors="replace"), log


def test_nothing_of_the_hub_is_in_the_jobs_environment(person):
    rosa = person("rosa")
    rosa.start(profile="cpu")
    environment = json.loads(rosa.python("import os, json; print(json.dumps(dict(os.environ)))"))
    assert not [name for name, value in environment.items() if str(ROOT) in value]
    assert not {"CONFIGPROXY_AUTH_TOKEN", "CARME_SECRET_KEY", "JUPYTERHUB_CRYPT_KEY"} & set(environment)
