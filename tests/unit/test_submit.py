"""The stand-ins for sbatch and salloc: what a job gets of a session's variables, how its script is sent."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carme_hub.spawner import own_files, srun, standin, submit

NODE_PATH = "/usr/local/bin:/usr/bin:/bin"
SHARED = ["/srv/home/rosa", "/work"]
IMAGE = frozenset({"PYTHONNOUSERSITE", "CUDA_HOME", "PYTHONPATH", "SHELL", "LANG"})

# Of the session's own allocation, hub and container: never in a job that is sent from it.
OWN = [
    *(
        "SLURM_JOB_ID",
        "SLURM_JOBID",
        "SLURM_MEM_PER_NODE",
        "SLURM_MEM_PER_CPU",
        "SLURM_NTASKS",
        "SLURM_NPROCS",
    ),
    *("SLURM_CPUS_PER_TASK", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES", "SLURM_OVERLAP", "SLURM_GTIDS"),
    *("SLURM_GPUS", "SLURM_WHAT_COMES_NEXT", "SRUN_CPUS_PER_TASK", "SRUN_ANY", "SLURMD_NODENAME"),
    *("APPTAINER_BIND", "APPTAINERENV_X", "SINGULARITY_NAME", "SINGULARITYENV_X", "APPTAINER_NO_EVAL"),
    *("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_ANY", "JPY_API_TOKEN", "JPY_PARENT_PID", "CARME_PATH"),
    *("CARME_WARN_BEFORE", "MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    *("HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "GPU_DEVICE_ORDINAL", "PMI_RANK", "PMIX_RANK"),
    *("OMPI_COMM_WORLD_RANK", "NVIDIA_VISIBLE_DEVICES"),
]
CONTAINER = ["LD_LIBRARY_PATH", "LD_PRELOAD", "JUPYTER_RUNTIME_DIR", "PYTHONNOUSERSITE", "CUDA_HOME", "PS1"]
CONTAINER += ["PROMPT_COMMAND", "VSCODE_IPC_HOOK_CLI", "XDG_RUNTIME_DIR", "TMUX"]
PERSONS = ["FOO", "SBATCH_ACCOUNT", "SBATCH_PARTITION", "SALLOC_ACCOUNT", "SLURM_CONF", "SLURM_TIME_FORMAT"]
PERSONS += ["OMP_NUM_THREADS", "http_proxy", "HOME", "USER", "LANG", "WANDB_API_KEY", "OMPI_MCA_btl"]


def on_node(environ):
    return standin.of_the_node(environ, NODE_PATH, SHARED, IMAGE)


@pytest.mark.parametrize("name", OWN)
def test_c2_what_is_the_sessions_own_reaches_no_job(name):
    environ = {name: "1", "FOO": "x"}
    assert name not in on_node(environ)
    assert name not in standin.of_the_person(environ)
    assert name not in srun.outside(standin.of_the_person(environ), NODE_PATH)
    stays = name.startswith(
        ("APPTAINER", "SINGULARITY", "CARME")
    )  # a shell of salloc is still in the container
    assert (name in standin.of_the_session(environ)) == stays


@pytest.mark.parametrize("name", CONTAINER)
def test_c2_what_is_the_containers_reaches_no_job_on_the_bare_node(name):
    assert name not in on_node({name: "/opt/image/lib"})
    assert name in standin.of_the_session({name: "/opt/image/lib"})


@pytest.mark.parametrize("name", PERSONS)
def test_c2_what_the_person_set_goes_along(name):
    assert on_node({name: "x"})[name] == "x"
    assert standin.of_the_session({name: "x"})[name] == "x"


@given(st.sampled_from(["SLURM_", "SRUN_", "JUPYTERHUB_", "JPY_", "APPTAINER_", "SINGULARITY_", "CARME_"]))
def test_c2_every_name_with_a_sessions_prefix_stays_behind(prefix):
    for rest in ("X", "a_b", "9", "CONFX", "TIME_FORMAT_2"):
        assert prefix + rest not in on_node({prefix + rest: "1"})


def test_c2_path_is_the_nodes_with_the_persons_own_folders_first():
    inside = "/.carme/bin:/srv/home/rosa/bin:/opt/jupyter/bin:/work/tools:/workshop/bin:/usr/bin"
    assert on_node({"PATH": inside})["PATH"] == f"/srv/home/rosa/bin:/work/tools:{NODE_PATH}"
    assert on_node({})["PATH"] == NODE_PATH
    kept = on_node({"LD_LIBRARY_PATH": "/.singularity.d/libs:/srv/home/rosa/lib"})
    assert kept["LD_LIBRARY_PATH"] == "/srv/home/rosa/lib"


def test_c2_a_value_that_names_a_place_goes_along_where_the_place_does():
    for name in ("TMPDIR", "BASH_ENV", "PYTHONPATH"):
        assert name not in on_node({name: "/opt/x"})
        assert on_node({name: "/work/x"})[name] == "/work/x"
    assert "MPLBACKEND" not in on_node({"MPLBACKEND": "module://matplotlib_inline.backend_inline"})
    assert on_node({"MPLBACKEND": "agg"})["MPLBACKEND"] == "agg"


def test_c2_the_images_variables_are_read_from_its_own_scripts(tmp_path):
    (tmp_path / "90-environment.sh").write_text(
        '#!/bin/sh\n    export LANG=C.UTF-8 LC_ALL=C\n export PATH="/x:$PATH"\n# export NOT\nexport A B\n'
        'export CUDA_HOME="${CUDA_HOME:-"/usr/local/cuda"}"\n'
    )
    assert standin.image_variables(tmp_path) == {"LANG", "LC_ALL", "PATH", "A", "B", "CUDA_HOME"}
    assert standin.image_variables(tmp_path / "none") == frozenset()


def test_c10_what_makes_slurms_own_commands_refuse_is_taken_away_by_their_stand_ins():
    begun = subprocess.run(
        ["sh", "-s", "env", "-0"],
        input=own_files._BEGIN,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    environ = dict(pair.split("=", 1) for pair in begun.stdout.split("\0") if pair)
    assert set(standin.GUARDS) <= set(environ)
    assert not set(standin.GUARDS) & set(standin.without_guards(environ))
    assert not set(standin.GUARDS) & set(on_node(environ))
    # salloc does not read what guards the others, which its shell still needs.
    assert set(standin.GUARDS) & set(standin.of_the_session(environ)) == set(standin.GUARDS[:2])
    assert standin.of_the_session({"SBATCH_WAIT_ALL_NODES": "1"}) == {"SBATCH_WAIT_ALL_NODES": "1"}


@pytest.mark.parametrize(("name", "guard"), [("srun", 0), ("sbatch", 1), ("salloc", 2)])
def test_c10_each_of_slurms_own_commands_refuses_and_says_why(real, name, guard):
    command, environ = real(name)
    words = [
        command,
        *([] if name == "salloc" else ["-n1"]),
        *(["--wrap=true"] if name == "sbatch" else ["true"]),
    ]
    done = subprocess.run(
        words,
        env={**environ, standin.GUARDS[guard]: f"{standin.GUARD}{name}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode != 0
    assert f"/.carme/bin/{name}" in done.stderr


@pytest.fixture
def real(tmp_path):
    """Slurm's own commands, with a configuration and no cluster; they are never asked to run anything."""
    conf = tmp_path / "slurm.conf"
    lines = ["ClusterName=x", "SlurmctldHost=localhost", "NodeName=x CPUs=1", "PartitionName=x Nodes=x"]
    conf.write_text("\n".join(lines) + "\n")

    def found(name):
        command = shutil.which(name)
        assert command
        return command, {"PATH": os.environ["PATH"], "SLURM_CONF": str(conf)}

    return found


@pytest.mark.parametrize(
    ("words", "left", "line"),
    [
        (["--wrap=srun x"], [], "srun x"),
        (["-J", "--wrap", "--wrap", "a b"], ["-J", "--wrap"], "a b"),
        (["--wra", "x", "--mem=1"], ["--mem=1"], "x"),
        (["--wr=x\ny"], [], "x\ny"),
        (["-J", "--wrap=x"], ["-J", "--wrap=x"], None),
        (["--wait"], ["--wait"], None),
        ([], [], None),
    ],
)
def test_c2_what_is_wrapped_is_found_among_the_options_of_the_real_sbatch(real, words, left, line):
    takes = submit.option_reader(*real("sbatch"))
    assert submit.without_wrap(words, takes) == (left, line)


@pytest.mark.parametrize("form", ["--export-file={}", "--export-file {}", "--export-fi={}"])
def test_c2_a_file_of_variables_is_cleaned_too(real, tmp_path, form):
    file = tmp_path / "variables"
    file.write_bytes(b"FOO=a\nb\0JUPYTERHUB_API_TOKEN=secret\0SLURM_JOB_ID=1\0PATH=/opt/x\0")
    takes = submit.option_reader(*real("sbatch"))
    words = submit.with_clean_file(["-n1", *form.format(file).split(), "x.sh"], takes, on_node)
    assert words[0] == "-n1"
    assert words[-1] == "x.sh"
    number = int(re.fullmatch(r"--export-file=([0-9]+)", words[1])[1])
    assert os.read(number, 1000) == f"FOO=a\nb\0PATH={NODE_PATH}\0".encode()
    os.close(number)


@pytest.mark.parametrize(
    "words", [["job.sh", "--export-file", "x"], ["-n", "1", "job.sh", "--export-file=x"]]
)
def test_c2_words_of_the_script_are_its_own_and_sbatch_is_never_asked_with_a_script(words):
    def takes(before):
        assert "job.sh" not in before
        return before != ["-n"]

    assert submit.with_clean_file(words, takes, on_node) == words


ENTER = 'run_task() { printf "%s\\0" "$@" "$carme_job"; }\nrun_task "$@"\n'


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=5), max_size=3
    ),
    st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=30),
)
def test_c2_whatever_the_script_and_its_words_hold_they_arrive_unchanged(words, body):
    for text in (f"#!/bin/sh\n{body}", f"#!/usr/bin/env python\n#SBATCH -n1\nCARME_JOB_ENDS_HERE\n{body}\n"):
        sent = submit.script(text, "x.sh", words, ("/srv/home/it's", "/tmp/x"), ENTER)
        done = subprocess.run(["bash", "-s"], input=sent.encode(), capture_output=True, check=True)
        assert not done.stderr
        *got, job = done.stdout.decode().split("\0")[:-1]
        assert got == ["batch", "/srv/home/it's", "/tmp/x", "/.carme/job", *words]
        assert job == (text if text.endswith("\n") else f"{text}\n")


def test_c2_directives_of_a_script_count_and_its_name_is_the_jobs():
    head = "#!/usr/bin/env python\n\n#SBATCH -p cpu\n# words\n  #SBATCH -n9\n#SBATCH --mem=1\n"
    text = f"{head}print()\n#SBATCH -n3\n"
    lines = submit.script(text, "a.py", [], ("/", "/"), ENTER).splitlines()
    head = lines[: lines.index("set -- batch / / /.carme/job")]
    assert head == ["#!/bin/bash", "#SBATCH --job-name=a.py", "#SBATCH -p cpu", "# words", "#SBATCH --mem=1"]
    assert "--job-name" not in submit.script(text, "a b", [], ("/", "/"), ENTER)


@pytest.mark.parametrize("text", ["", "print()\n", "#!bin/sh\n", "#!/bin/sh\r\nx\r\n", "#!/bin/sh\n\0"])
def test_c2_what_is_no_batch_script_is_refused_with_a_sentence(text):
    with pytest.raises(submit.RefusedError, match="is no batch script"):
        submit.script(text, "x", [], ("/", "/"), ENTER)


def test_the_stand_ins_import_only_the_standard_library(tmp_path):
    folder = tmp_path / "carme_hub" / "spawner"
    folder.mkdir(parents=True)
    for name in own_files.MODULES:
        (folder / f"{name}.py").write_text(own_files.source(name))
    done = subprocess.run(
        [
            *("python3", "-I", "-S", "-c"),
            "import sys; sys.path.insert(0, sys.argv[1]); from carme_hub.spawner import srun, submit",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# Words for a program have to be shorter than 128 KiB each, and srun hands the functions over as one.
def test_the_functions_that_enter_a_container_fit_into_one_word():
    assert sum(len(own_files.source(name)) for name in own_files.MODULES) < 60_000
    assert Path(srun.__file__).exists()
