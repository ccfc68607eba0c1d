"""What stands in for srun: where the program is, and what the tasks get. The real srun is asked here."""

import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carme_hub.spawner import srun, standin

ENTER = ["/bin/bash", "-c", "text", "carme", "/home/rosa", "/data"]

# A small srun: -n and -J take a value, -v none, --mem one, --exclusive one behind "=" only.
TAKES = {"-n", "-J", "--mem"}
ALONE = {"-v", "--exclusive", "--multi-prog"}


def takes_option(words):
    """Read words as getopt does, for the small srun."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        assert word != "--", "asked behind the end of the options"
        assert word.startswith("-"), "asked about words with a program among them"
        if word in TAKES:
            if not rest:
                return False
            rest.pop(0)
        elif word not in ALONE and "=" not in word and word[:2] not in TAKES:
            return False
    return True


@pytest.mark.parametrize(
    ("words", "program"),
    [
        ("python train.py -n 3", 0),
        ("-n 2 python train.py", 2),
        ("-n2 -v python", 2),
        ("-J -- -v python", 3),
        ("-J -foo python", 2),
        ("--exclusive python", 1),
        ("--mem=3 --exclusive=user python", 2),
        ("-n 2 -- -odd", 3),
        ("- x", 0),
        ("-n 2", None),
        ("-n", None),
        ("-v --", None),
        ("--nonsense x", None),
        ("", None),
    ],
)
def test_the_program_is_found_behind_options_with_and_without_values(words, program):
    assert srun.program_at(words.split(), takes_option) == program


option = st.one_of(
    st.sampled_from(["-v", "--exclusive", "--mem=1", "-n3"]).map(lambda word: [word]),
    st.tuples(st.sampled_from(sorted(TAKES)), st.text(max_size=4)).map(list),
)


@given(
    st.lists(option, max_size=6),
    st.booleans(),
    st.text(max_size=4),
    st.lists(st.text(max_size=4).filter(":".__ne__), max_size=4),
)
def test_whatever_the_options_values_and_words_are_the_program_and_its_words_stay(
    options, dashes, program, rest
):
    before = [word for words in options for word in words]
    if program.startswith("-") and program != "-":
        dashes = True
    end = ["--"] if dashes else []
    wrapped = srun.wrap([*before, *end, program, *rest], ENTER, takes_option)
    assert wrapped[1:] == [*before, *end, *ENTER, program, *rest]


def test_parts_are_wrapped_each():
    wrapped = srun.wrap(["-n", "1", "/bin/a", ":", "-n", ":", "b", "c"], ENTER, takes_option)
    assert wrapped == [
        "--job-name=a",
        "-n",
        "1",
        *ENTER,
        "/bin/a",
        ":",
        "--job-name=b",
        "-n",
        ":",
        *ENTER,
        "b",
        "c",
    ]


@pytest.mark.parametrize("word", ["--multi-prog", "--multi", "--mul"])
def test_what_cannot_be_wrapped_is_refused_with_a_way_out(word):
    with pytest.raises(srun.NotUnderstoodError, match="CARME_SRUN_OUTSIDE=1"):
        srun.wrap([word, "file"], ENTER, lambda _words: True)


def test_what_srun_does_not_understand_never_runs_outside():
    with pytest.raises(srun.NotUnderstoodError):
        srun.wrap(["--nonsense", "x"], ENTER, takes_option)
    assert srun.wrap(["-v"], ENTER, takes_option) == ["-v"]


def test_tasks_get_the_sessions_variables_but_not_the_hubs():
    session = {
        "FOO": "a\nb",
        "PATH": "/opt/x/bin",
        "LD_PRELOAD": "/x.so",
        "BASH_ENV": "/evil",
        "TMPDIR": "/tmp/mine",
        "SLURM_JOB_ID": "7",
        "JUPYTERHUB_API_TOKEN": "secret",
        "JPY_API_TOKEN": "secret",
        "APPTAINER_BIND": "/.carme",
        "BASH_FUNC_ls%%": "() { id; }",
        "SLURM_SRUN_MULTI": "1",
    }
    seen = srun.outside(session, "/usr/bin:/bin")
    assert seen == {
        "FOO": "a\nb",
        "SLURM_JOB_ID": "7",
        "PATH": "/usr/bin:/bin",
        "APPTAINERENV_PATH": "/opt/x/bin",
        "APPTAINERENV_LD_PRELOAD": "/x.so",
        "APPTAINERENV_BASH_ENV": "/evil",
        "APPTAINERENV_TMPDIR": "/tmp/mine",
    }


def test_a_step_starts_where_the_session_is_if_that_exists_outside(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    (tmp_path / "homes").mkdir()
    environ = {"HOME": str(home)}
    for here, there in [(home, home), (home / "work", home / "work"), (tmp_path / "homes", home)]:
        monkeypatch.chdir(here)
        assert srun.working_directories(environ) == (str(there), str(here))
    gone = home / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert srun.working_directories(environ) == (str(home), str(home))


def test_the_real_srun_is_not_the_stand_in(tmp_path, monkeypatch):
    own, other, kept = tmp_path / "own", tmp_path / "other", tmp_path / "kept"
    for folder in (own / "bin", other, kept):
        folder.mkdir(parents=True)
        (folder / "srun").write_text("")
        (folder / "srun").chmod(0o755)
    monkeypatch.setattr(standin, "FOLDER", own)
    monkeypatch.setattr(standin, "REAL", tmp_path / "none")
    assert standin.real("srun", f":{own}/bin:{other}") == str(other / "srun")
    assert standin.real("no-such-command", f"{own}/bin") is None
    # Where /usr/bin leads to the stand-ins, the image keeps the real one elsewhere.
    monkeypatch.setattr(standin, "REAL", kept)
    assert standin.real("srun", str(other)) == str(kept / "srun")


@pytest.fixture
def real(tmp_path):
    """Slurm's own srun, with a configuration and no cluster; it is never asked to run anything."""
    command = shutil.which("srun")
    assert command
    conf = tmp_path / "slurm.conf"
    lines = ["ClusterName=x", "SlurmctldHost=localhost", "NodeName=x CPUs=1", "PartitionName=x Nodes=x"]
    conf.write_text("\n".join(lines) + "\n")

    def takes(words):
        done = subprocess.run(
            [command, *words, "--version"],
            env={**os.environ, "SLURM_CONF": str(conf)},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return standin.understood(done)

    return takes


@pytest.mark.parametrize(
    ("words", "program"),
    [
        ("hostname", 0),
        ("-n 2 -N 2 python train.py", 4),
        ("-lN2 -n2 --cpu-bind=none --mem 100 -J name python", 7),
        ("--mem-per-cpu 10 --exact --exclusive --gres gpu:1 -D /x python -n 7", 8),
        ("--ntasks-per-n 2 --unbuf -o out.%t python", 5),  # abbreviated
        ("-u -l -K --pty bash", 4),
        ("-K1 -W 3 -t 1:00 -i none a", 7),
        ("-J -- -- -program", 3),
        ("--export ALL,A=b -w node1,node2 x", 4),
        ("--no-such-option x", None),
        ("-n x python", None),
    ],
)
def test_the_real_srun_says_where_the_program_is(real, words, program):
    assert srun.program_at(words.split(), real) == program
