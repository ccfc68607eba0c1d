"""Programs on all nodes of a session: in its image, with its variables, meeting at MASTER_ADDR."""

from __future__ import annotations

import json

from carme_hub.demo.layout import NODES
from tests.support import until

TWO = {"profile": "gpu", "image": "base", "time": "0:30:00", "gpus": 1, "nodes": 2}

# Sums a number of each task over sockets: what frameworks do, in forty lines less.
ALL_REDUCE = """
import json, os, socket, sys
rank, size = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if rank == 0:
    server = socket.create_server(("", place[1]))
    others = [server.accept()[0].makefile("rw") for _ in range(size - 1)]
    total = sum(int(other.readline()) for other in others) + 1
    for other in others:
        other.write(f"{total}\\n")
        other.close()
else:
    while True:
        try:
            connection = socket.create_connection(place, timeout=10).makefile("rw")
            break
        except ConnectionRefusedError:
            pass
    connection.write(f"{10 ** rank}\\n")
    connection.flush()
    total = int(connection.readline())
print(json.dumps([rank, total, socket.gethostname(), sys.prefix]))
"""

# What a task can see and open, in a file for each: what tasks print may be mixed.
LOOK = """
import json, os
def opened(path):
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NOCTTY))
        return True
    except OSError:
        return False
json.dump({
    "names": sorted(os.environ),
    "rank": os.environ["SLURM_PROCID"],
    "foo": os.environ.get("FOO"),
    "home": sorted(os.listdir("/srv/home")),
    "here": os.getcwd(),
    "gpus": sum(opened(f"/dev/nvidia{number}") for number in range(4)),
    "processes": [open(f"/proc/{pid}/comm").read().strip() for pid in os.listdir("/proc") if pid.isdigit()],
    "folders": [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2
                and os.path.exists(f"/proc/self/fd/{fd}")],
    "user": os.readlink("/proc/self/ns/user"),
    "writable": [path for path in ("/.carme", "/tmp", "/dev/shm") if os.access(path, os.W_OK)],
}, open(f"/srv/home/rosa/look-{os.environ['SLURM_PROCID']}.json", "w"))
"""


def put(rosa, name, text):
    """Write a program into the home."""
    rosa.python(f"open({name!r}, 'w').write({text!r})")


def read(said):
    """Read the lines of JSON that tasks printed."""
    lines = [json.loads(line) for line in said.splitlines() if line.startswith(("{", "["))]
    assert lines, said
    return lines


def test_programs_meet_and_add_up_across_two_nodes(person):
    rosa = person("rosa")
    rosa.start(**TWO)
    put(rosa, "all_reduce.py", ALL_REDUCE)
    for words in (
        "srun",
        "srun -N 2 -n 2 --label",
        "srun --mpi none -n2 --",
    ):  # one after the other: the port
        said = rosa.shell(f"{words} python all_reduce.py | sed 's/^[0-9]: //'")
        found = sorted(read(said))
        assert [(rank, total) for rank, total, _, _ in found] == [(0, 11), (1, 11)], said
        assert len({host for _, _, host, _ in found}) == 2
        assert {prefix for _, _, _, prefix in found} == {"/opt/jupyter"}  # the image's Python


def test_a_task_sees_what_the_session_sees_and_nothing_of_the_hub(site, person):
    rosa = person("rosa")
    rosa.start(**TWO)
    (job,) = site.jobs("rosa")
    put(rosa, "look.py", LOOK)
    rosa.shell("mkdir -p 'a folder'")
    rosa.shell("rm -f look-*.json")
    said = rosa.shell("cd 'a folder'; FOO='a\nb' LD_PRELOAD= srun python ../look.py")
    tasks = [read(rosa.shell(f"cat look-{rank}.json") or said)[0] for rank in range(2)]
    session = set(read(rosa.python("import json, os; print(json.dumps(sorted(os.environ)))"))[0])
    outside = site.run("readlink", "/proc/self/ns/user", node="node1").strip()
    for task in tasks:
        names = set(task["names"])
        assert not [name for name in names if name.startswith(("JUPYTERHUB_", "JPY_"))]
        gone = {
            name for name in session - names if not name.startswith(("JUPYTERHUB_", "JPY_", "APPTAINER_"))
        }
        # The kernel's own, and what apptainer and bash set for this container only.
        assert gone <= {"SINGULARITY_BIND", "SHLVL", "OLDPWD", "_", "PROMPT_COMMAND", "FORCE_COLOR"}, gone
        assert {"SLURM_LOCALID", "SLURM_NODEID", "SLURM_PROCID"} <= names
        assert task["foo"] == "a\nb"
        assert task["home"] == ["rosa"]
        assert task["here"] == "/srv/home/rosa/a folder"
        assert task["gpus"] == 1
        assert set(task["processes"]) <= {"appinit", "python", "python3", "sh"}
        assert not [path for path in task["folders"] if not path.startswith("/proc")]
        assert task["user"] != outside
        assert task["writable"] == ["/tmp", "/dev/shm"]

    def left():
        """Return the private folders of this job on all nodes; one is the session's own."""
        found = [
            site.run("find", "/tmp", "-maxdepth", "1", "-name", f".carme-session-{job}-*", node=node).split()
            for node in NODES
        ]
        return [folder for folders in found for folder in folders]

    until(lambda: len(left()) == 1, "the removal of the tasks' folders")


def test_input_output_exit_codes_and_signals_pass(person):
    rosa = person("rosa")
    rosa.start(**TWO)
    assert rosa.shell("echo hello | srun -N1 -n1 cat") == "hello\n"
    assert rosa.shell("srun -N1 -n1 sh -c 'echo out; echo err >&2' 2>/dev/null") == "out\n"
    assert rosa.shell("srun -Q sh -c 'exit 7' 2>/dev/null; echo $?") == "7\n"
    assert "No such file" in rosa.shell("srun -N1 -n1 cat /nowhere")
    assert rosa.shell("cd /tmp && mkdir -p here && cd here && srun -Q -N1 -n1 pwd 2>&1").splitlines() == [
        "carme: there is no /tmp/here in the container on this node",
        "/srv/home/rosa",
    ]
    put(
        rosa,
        "signals.py",
        "import signal, sys, time\n"
        "signal.signal(signal.SIGUSR1, lambda *_: (print('got it', flush=True), sys.exit(5)))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n",
    )
    said = rosa.shell(
        "rm -f said; srun -u -N1 -n1 python signals.py > said 2>/dev/null & "
        "until grep -q ready said 2>/dev/null; do sleep 0.1; done; "
        "kill -USR1 $!; wait $!; echo code $?; cat said"
    )
    assert said.split("\n")[:3] == ["code 5", "ready", "got it"]


def test_what_cannot_run_in_the_image_does_not_run_at_all(person):
    rosa = person("rosa")
    rosa.start(profile="cpu")
    assert "unrecognized option" in rosa.shell("srun --nonsense touch ran; ls ran")
    assert "outside the session's image" in rosa.shell("srun --multi-prog ran; ls ran")
    assert "cannot access" in rosa.shell("ls ran")
    assert rosa.shell("srun --version").startswith("slurm")
    assert "Usage: srun" in rosa.shell("srun --help && echo fine")
    # On purpose, it can be had: the bare node has no /opt/jupyter.
    assert "jupyter" in rosa.shell("srun ls /opt")
    assert "jupyter" not in rosa.shell("CARME_SRUN_OUTSIDE=1 srun ls /opt")
    # Neither a login shell nor a program started by srun loses it.
    assert rosa.shell("bash -lc 'which srun'; srun which srun").split() == ["/.carme/bin/srun"] * 2
