"""The tasks of a step share one container on a node, and MPI runs on them: the small part, in one session.

`test_mpi_matrix.py` has every way to start MPI programs.
"""

from __future__ import annotations

import json

import pytest

from carme_hub.demo.layout import NODES
from tests.support import until

TASKS = {"profile": "gpu", "image": "base", "time": "0:30:00", "gpus": 2, "tasks": 2}

# What a task finds: written into a file of its own, as what tasks print may be mixed. Both wait for each
# other's file in /dev/shm, so that none has gone before the other one looks.
LOOK = """
import ctypes, json, os, pathlib, time
rank = int(os.environ["SLURM_PROCID"])
mine, other = (pathlib.Path(f"/dev/shm/{number}") for number in (rank, 1 - rank))
buffer = ctypes.create_string_buffer(f"secret of {rank}".encode())
mine.with_suffix(".part").write_text(f"{os.getpid()} {ctypes.addressof(buffer)}")
mine.with_suffix(".part").rename(mine)
deadline = time.monotonic() + 60
while not other.exists() and time.monotonic() < deadline:
    time.sleep(0.02)
pid, address = map(int, other.read_text().split())

class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

libc = ctypes.CDLL(None, use_errno=True)
into = ctypes.create_string_buffer(32)
here, there = Vector(ctypes.addressof(into), 11), Vector(address, 11)
read = libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
pathlib.Path(f"/tmp/done-{rank}").touch()
while not pathlib.Path(f"/tmp/done-{1 - rank}").exists() and time.monotonic() < deadline:
    time.sleep(0.02)
lines = open("/proc/self/status").read().splitlines()
status = dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)
json.dump({
    "read": [read, into.value.decode()],
    "spaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in ("ipc", "pid", "mnt", "user")},
    "cgroups": [line for line in open("/proc/self/cgroup").read().splitlines() if "/slurm" in line],
    "may": [status["CapEff"], status["NoNewPrivs"]],
    "open": sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2
                   and os.path.exists(f"/proc/self/fd/{fd}")),
    "environ": dict(os.environ),
    "here": os.getcwd(),
}, open(f"/srv/home/rosa/look-{rank}.json", "w"))
"""

SIGNALS = """
import os, signal, sys, time
def heard(number, _frame):
    print(os.environ["SLURM_PROCID"], signal.Signals(number).name, flush=True)
    time.sleep(0.5)
    import xml.dom.minidom  # the image is still there
    os._exit(5)
signal.signal(signal.SIGUSR1, heard)
signal.signal(signal.SIGTERM, heard)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def rosa(people):
    """Rosa in a session with two tasks on a node, each with a core and room for a GPU."""
    rosa = people("rosa")
    rosa.end_session()
    rosa.start(**TASKS)
    for name, text in {"look.py": LOOK, "signals.py": SIGNALS}.items():
        rosa.python(f"open({name!r}, 'w').write({text!r})")
    yield rosa
    rosa.end_session()


def folders(site, job):
    """Return the private folders of a job on all nodes; one of them is the session's own."""
    found = [
        site.run("find", "/tmp", "-maxdepth", "1", "-name", f".carme-session-{job}-*", node=node).split()
        for node in NODES
    ]
    return [folder for some in found for folder in some]


def test_c3_tasks_of_a_step_share_memory_and_keep_what_is_their_own(site, rosa):
    said = rosa.shell("rm -f look-*.json; OWN='a\nb' srun --gpus-per-task=1 python look.py")
    texts = [rosa.shell(f"cat look-{rank}.json") for rank in range(2)]
    assert all(text.startswith("{") for text in texts), said
    tasks = [json.loads(text) for text in texts]
    assert tasks[0]["spaces"] == tasks[1]["spaces"]
    assert [task["read"] for task in tasks] == [[11, "secret of 1"], [11, "secret of 0"]]
    # Not with the session's server, nor with the next step.
    server = rosa.shell("readlink /proc/self/ns/ipc /proc/self/ns/pid; ls /dev/shm").split()
    assert tasks[0]["spaces"]["ipc"] not in server
    assert tasks[0]["spaces"]["pid"] not in server
    assert rosa.shell("srun sh -c 'find /dev/shm /tmp -type f | wc -l'").split() == ["0", "0"]
    for rank, task in enumerate(tasks):
        environ = task["environ"]
        assert environ["SLURM_PROCID"] == environ["SLURM_LOCALID"] == str(rank)
        assert environ["OWN"] == "a\nb"
        assert not [name for name in environ if name.startswith(("JUPYTERHUB_", "JPY_", "APPTAINERENV_"))]
        assert environ["PATH"].startswith("/.carme/bin:")
        assert task["here"] == environ["PWD"] == "/srv/home/rosa"
        assert not [path for path in task["open"] if not path.startswith("/proc")]
        assert task["may"] == ["0000000000000000", "1"]
    # Entering the container moves nobody: each task is in its own control group.
    assert tasks[0]["cgroups"] != tasks[1]["cgroups"] or not tasks[0]["cgroups"]
    (job,) = site.jobs("rosa")
    until(lambda: len(folders(site, job)) == 1, "the removal of the steps' folders")


def test_c3_a_lone_task_and_two_have_the_same_environment(rosa):
    own = {"SLURM_PROCID", "SLURM_TASK_PID", "SLURM_LAUNCH_NODE_IPADDR", "SLURM_SRUN_COMM_PORT", "_"}
    of_one = set(rosa.shell("srun -n1 env -0 | tr '\\n\\0' '_\\n' | cut -d= -f1").split())
    of_two = set(rosa.shell("srun -n2 sh -c '[ $SLURM_PROCID = 1 ] && env -0' 2>/dev/null"
                            " | tr '\\n\\0' '_\\n' | cut -d= -f1").split())  # fmt: skip
    assert of_one ^ of_two <= own | {"OLDPWD", "SHLVL"}


def test_c3_input_exit_codes_and_missing_programs(rosa):
    assert rosa.shell("echo hello | srun cat").split() == ["hello", "hello"]
    assert rosa.shell("srun -Q sh -c 'exit $((SLURM_PROCID + 6))' 2>/dev/null; echo $?") == "7\n"
    said = rosa.shell("srun -Q nothing; echo $?")
    assert len([line for line in said.splitlines() if "nothing:" in line]) == 2
    assert said.endswith("127\n")
    assert (
        rosa.shell("mkdir -p /tmp/here && cd /tmp/here && srun -Q pwd 2>/dev/null").split()
        == ["/srv/home/rosa"] * 2
    )


@pytest.mark.parametrize("name", ["USR1", "TERM"])
def test_c3_each_task_hears_a_signal_and_has_its_time(rosa, name):
    said = rosa.shell(
        "rm -f said; srun -u python signals.py > said 2>/dev/null & "
        "until [ $(grep -c ready said 2>/dev/null || true) = 2 ]; do sleep 0.1; done; "
        "for step in $(squeue -h -s -j $SLURM_JOB_ID -o '%i %j' | grep python | cut -d' ' -f1); do "
        f"scancel -s {name} $step; done; wait $!; echo code $?; sort -u said"
    )
    assert said.split("\n")[:3] == ["code 5", f"0 SIG{name}", f"1 SIG{name}"]


def test_c3_one_task_may_end_early_and_killed_ones_leave_nothing(site, rosa):
    ended = rosa.shell(
        "srun -K0 sh -c '[ $SLURM_PROCID = 0 ] || { sleep 2; ls / >/dev/null && echo still; }'"
    )
    assert "still" in ended
    rosa.shell(
        "rm -f said; srun -u sh -c 'echo ready; sleep 60' > said 2>/dev/null & "
        "until [ $(grep -c ready said 2>/dev/null || true) = 2 ]; do sleep 0.1; done; "
        "for step in $(squeue -h -s -j $SLURM_JOB_ID -o '%i %j' | grep ' sh$' | cut -d' ' -f1); do "
        "scancel -s KILL $step; done; wait $!"
    )
    node = site.run("squeue", "-h", "-u", "rosa", "-t", "running", "-o", "%N").strip()
    until(
        lambda: "tail -f" not in site.run("ps", "-u", "rosa", "-o", "args", node=node), "the container's end"
    )


def test_c3_tasks_come_and_go_in_any_order(rosa):
    """Steps side by side, whose tasks end at different times: none hangs, none fails."""
    sleep = "sleep 0.$(( (SLURM_PROCID + '$i') % 3 )); echo ok"
    said = rosa.shell(f"for i in 1 2 3 4; do timeout 100 srun -Q sh -c '{sleep}' & done; wait")
    assert said.split() == ["ok"] * 8


def test_c3_open_mpi_adds_up_on_two_tasks_of_a_node(rosa):
    """With what the image has: a C program, by PMIx and by mpirun."""
    program = r"""
    #include <mpi.h>
    #include <stdio.h>
    #include <stdlib.h>
    int main(int argc, char **argv) {
        int rank, mine = 1, total = 0;
        MPI_Init(&argc, &argv);
        MPI_Comm_rank(MPI_COMM_WORLD, &rank);
        for (int i = 0; i < rank; i++) mine *= 10;
        MPI_Allreduce(&mine, &total, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
        char *data = calloc(2000000, 1);
        if (!rank) data[1999999] = 7;
        MPI_Bcast(data, 2000000, MPI_CHAR, 0, MPI_COMM_WORLD);
        printf("%d %d %d\n", rank, total, data[1999999]);
        MPI_Finalize();
    }
    """
    rosa.python(f"open('add.c', 'w').write({program!r})")
    assert rosa.shell("mpicc -o add add.c") == ""
    for words in ("srun --mpi=pmix", "mpirun"):
        said = rosa.shell(f"timeout 100 {words} ./add")
        assert sorted(said.splitlines()) == ["0 11 7", "1 11 7"], said
