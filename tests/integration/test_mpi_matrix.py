"""Every way to start an MPI program that is documented, on one and two nodes with one and two tasks each."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SESSION = {"profile": "gpu", "image": "base", "time": "1:00:00", "gpus": 2, "nodes": 2, "tasks": 2}
SHAPES = [(1, 1), (1, 2), (2, 2), (2, 4)]  # nodes, tasks

PROGRAM = """
from mpi4py import MPI
import array
world = MPI.COMM_WORLD
total = world.allreduce(10 ** world.rank)
data = array.array("b", bytes([7]) * 2_000_000 if world.rank == 0 else bytes(2_000_000))
world.Bcast([data, MPI.BYTE])
print(world.rank, total, sum(data), MPI.Get_processor_name().split(".")[0], flush=True)
"""

WAYS = {
    ("mpich", "srun --mpi=pmi2"): "srun --mpi=pmi2 -N {nodes} -n {tasks}",
    ("mpich", "mpiexec"): "mpich/bin/mpiexec -n {tasks} -ppn {each}",
    ("openmpi", "srun --mpi=pmix"): "srun --mpi=pmix -N {nodes} -n {tasks}",
    ("openmpi", "mpirun"): "mpirun -n {tasks} -N {each}",
}


@pytest.fixture(scope="module")
def rosa(site, people, tmp_path_factory):
    """Rosa in a session of two nodes with two tasks on each, and mpi4py with and without MPICH beside it."""
    folder = tmp_path_factory.mktemp("wheels")
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
         "--python-version=3.11", "--dest", str(folder), "mpi4py", "mpich"],
        check=True,
        timeout=300,
    )  # fmt: skip
    rosa = people("rosa")
    rosa.end_session()
    site.run("mkdir", "-p", "/srv/home/rosa/wheels")
    for wheel in folder.iterdir():
        site.run("install", "-m", "644", str(wheel), "/srv/home/rosa/wheels/")
    rosa.start(**SESSION)
    rosa.python(f"open('add.py', 'w').write({PROGRAM!r})")
    for name, wheels in {"mpich": "wheels/*", "openmpi": "wheels/mpi4py*"}.items():
        said = rosa.shell(
            f"python -m venv --system-site-packages --without-pip {name} && python -m pip --python {name} "
            f"install --quiet --no-index --no-deps {wheels} && echo made"
        )
        assert said.endswith("made\n"), said
    yield rosa
    rosa.end_session()
    site.run("rm", "-rf", *(f"/srv/home/rosa/{name}" for name in ("wheels", "mpich", "openmpi")))


@pytest.mark.parametrize(("nodes", "tasks"), SHAPES)
@pytest.mark.parametrize(("library", "launcher"), WAYS, ids=" ".join)
def test_c3_all_reduce_and_broadcast(rosa, library, launcher, nodes, tasks):
    words = WAYS[library, launcher].format(nodes=nodes, tasks=tasks, each=tasks // nodes)
    said = rosa.shell(f"timeout 100 {words} {library}/bin/python add.py")
    ranks = sorted(line.split() for line in said.splitlines())
    total = str(sum(10**rank for rank in range(tasks)))
    assert [line[:3] for line in ranks] == [[str(rank), total, "14000000"] for rank in range(tasks)], said
    assert len({line[3] for line in ranks}) == nodes


@pytest.mark.parametrize(
    ("library", "kind", "words"),
    [
        ("mpich", "pmix", "unsupported PMI version PMIx"),
        ("openmpi", "pmi2", "not built with SLURM's PMI support"),
    ],
)
def test_c3_what_does_not_fit_together_says_so(rosa, library, kind, words):
    assert words in rosa.shell(f"timeout 100 srun --mpi={kind} -N1 -n2 {library}/bin/python add.py")


def test_c3_more_tasks_than_were_asked_for_with_fewer_cores_each(rosa):
    """A task of the session may be several of a step, as long as there are cores."""
    assert rosa.shell("srun -Q -N1 -n2 -c1 echo ok").split() == ["ok", "ok"]
    assert "More processors requested than permitted" in rosa.shell("srun -N1 -n3 -c1 echo ok")
