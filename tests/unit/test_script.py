import fcntl
import itertools
import os
import re
import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from carme_hub.spawner import container, course, node, script
from carme_hub.spawner.catalog import Catalog
from carme_hub.spawner.request import JobRequest, Person

PLAN = script.Plan(
    home="/srv/home/rosa",
    mark="carme:0123abcd:rosa/",
    command=("jupyterhub-singleuser", "--debug"),
    reporter='print("reporter")\n',
)


def check_syntax(text):
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def directives(text):
    return [line for line in text.splitlines() if line.startswith("#SBATCH")]


def test_a_session_with_gpus_on_two_nodes(ask, golden):
    text = script.render(
        ask({"image": "ml", "gpus": 2, "gpu_type": "h100", "nodes": 2, "time": "1:30:00"}), PLAN
    )
    check_syntax(text)
    golden("gpu.sh", text)


def test_a_course(ask, student, golden):
    text = script.render(ask({}, student), PLAN)
    check_syntax(text)
    golden("course.sh", text)


def test_the_containers_words(ask, golden):
    golden("container.txt", "\n".join(container.command(ask({"image": "ml"}), "/srv/home/rosa")) + "\n")


def test_no_gpus_no_nv(ask, student):
    assert "--nv" not in container.command(ask({}, student), "/srv/home/mia")
    assert "--gres" not in script.render(ask({}, student), PLAN)


WEIRD = "/srv/it's a $(touch PWNED) `id` & ; folder"


def weird_request():
    images = {"base": {"title": "x", "path": f"{WEIRD}/base.sif", "mounts": ["odd"]}}
    mounts = {"odd": {"source": f"{WEIRD}/source", "target": "/it's $HOME"}}
    course = {"material": f"{WEIRD}/material", "notebook": "a b.ipynb"}
    profiles = [{"name": "p", "title": "x", "max_time": "1", "course": course, "constraint": "a&b|[c*2]"}]
    return JobRequest.parse({}, Catalog.load(images, mounts, profiles), Person("x"))


def test_weird_values_of_the_site_are_words_not_code():
    text = script.render(weird_request(), script.Plan("/home/x y", "carme:x", ("a b", "$(id)"), "pass"))
    check_syntax(text)
    (line,) = [line for line in text.splitlines() if line.startswith("apptainer ")]
    words = shlex.split(line.partition(" <<")[0])
    assert f"{WEIRD}/source:/it's $HOME:rw" in words
    assert words[-9:] == [
        f"{WEIRD}/base.sif",
        *("/bin/sh", "/.carme/begin", "python3", "-I", "-S", "-", "a b", "$(id)"),
    ]
    assert "mkdir -p -- '/home/x y/.carme'" in text
    assert "#SBATCH --constraint=a&b|[c*2]" in directives(text)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "a\x1bb", 'a"b', "a'b", "a\\b", "a`b", "aéb", ""])
def test_a_value_that_no_quoting_is_trusted_with_is_refused(value):
    with pytest.raises(script.ScriptError):
        script.directive("comment", value)


def test_a_name_cannot_add_a_directive(ask):
    plan = script.Plan("/home/x", "carme:x:evil\n#SBATCH --uid=0/", ("x",), "pass")
    with pytest.raises(script.ScriptError, match="comment"):
        script.render(ask({}), plan)


@pytest.mark.parametrize("home", ["/home/josé", "/home/o'brien"])
def test_a_home_may_hold_what_no_directive_can(ask, home):
    text = script.render(ask({}), script.Plan(home, "carme:x", ("x",), "pass"))
    assert not [line for line in directives(text) if home in line]
    assert f"mkdir -p -- {shlex.quote(home + '/.carme')}" in text


@pytest.mark.parametrize("home", ["relative", "/a:b", "/a,b", "/a\nb", "/a/../b"])
def test_a_home_that_cannot_be_mounted_is_refused(ask, home):
    with pytest.raises(ValueError, match=r"path|control"):
        script.render(ask({}), script.Plan(home, "carme:x", ("x",), "pass"))


def test_the_reporter_cannot_end_its_own_document(ask):
    with pytest.raises(script.ScriptError, match="reporter"):
        script.render(ask({}), script.Plan("/home/x", "m", ("x",), f"a\n{script._END}\nid\n"))


def test_no_request_changes_the_scripts_structure(ask):
    """Whatever is on offer: the same number of directives, and every one is a known option."""
    shapes = set()
    for gpus, gpu_type, nodes, time in itertools.product(
        (1, "4"), ("a100", "h100"), (1, "2"), (1, "23:59:59")
    ):
        text = script.render(ask({"gpus": gpus, "gpu_type": gpu_type, "nodes": nodes, "time": time}), PLAN)
        shapes.add(tuple(re.match(r"#SBATCH --([a-z-]+)", line)[1] for line in directives(text)))
    assert len(shapes) == 1


def test_variables_carry_apptainers_prefix_and_nothing_else():
    assert script.environment({"A": "$(id)\n"}) == {"APPTAINERENV_A": "$(id)\n"}
    for bad in ({"A B": ""}, {"A=B": ""}, {"": ""}, {"A": "\0"}, {"1": ""}):
        with pytest.raises(script.ScriptError):
            script.environment(bad)


# What follows runs the script, with a stand-in for Apptainer that shows what it was given: the real one would
# prove nothing more here, and is used in the integration tests.

STAND_IN = """#!/bin/bash
{ printf '%s\\n' "$@"; } > "$OUT/words"
env -0 > "$OUT/environment"
for fd in /proc/$$/fd/*; do [[ -d $fd ]] && echo "$fd"; done > "$OUT/folders"
cat > "$OUT/stdin"
[[ $(stat -c %a "$APPTAINER_WORKDIR") == 700 ]] && echo "$APPTAINER_WORKDIR" > "$OUT/scratch"
echo "hello from the session"
exit "${CODE:-0}"
"""


@pytest.fixture
def run(tmp_path):
    home, out, image = tmp_path / "home", tmp_path / "out", tmp_path / "it's an image.sif"
    for folder in (home, out):
        folder.mkdir()
    image.touch()
    apptainer = tmp_path / "apptainer"
    apptainer.write_text(STAND_IN)
    apptainer.chmod(0o755)
    material = tmp_path / "material"

    def go(course=False, job="77", **environment):
        images = {"base": {"title": "x", "path": str(image)}}
        profile = {"name": "ml101", "title": "x", "max_time": "1"}
        if course:
            profile["course"] = {"material": str(material), "notebook": "x.ipynb"}
        request = JobRequest.parse({}, Catalog.load(images, {}, [profile]), Person("x"))
        plan = script.Plan(str(home), "carme:x", ("server", "it's"), "reporter = '$HOME'\n", str(apptainer))
        done = subprocess.run(
            ["bash"],
            input=script.render(request, plan),
            text=True,
            capture_output=True,
            check=False,
            timeout=30,
            env={"PATH": os.environ["PATH"], "OUT": str(out), "SLURM_JOB_ID": job, "TMPDIR": str(tmp_path)}
            | environment,
        )
        assert not done.stdout + done.stderr
        log = home / ".carme" / f"session-{job}.log"
        return done.returncode, log.read_text() if log.is_file() else None

    def log_of(commands):
        """Run with something in the server's place, and return the log as it is seen from inside."""
        kept = out / "log"
        shown = (
            f'cat "$APPTAINER_WORKDIR/carme/${{APPTAINERENV_CARME_LOG#/.carme/}}" > {shlex.quote(str(kept))}'
        )
        apptainer.write_text(f"#!/bin/bash\n{commands}\n{shown}\n")
        assert go()[0] == 0
        return kept.read_text()

    go.log_of = log_of
    go.home, go.out, go.image, go.material, go.root = home, out, image, material, tmp_path
    return go


def test_the_container_gets_words_variables_and_the_reporter(run):
    code, log = run(
        APPTAINERENV_JUPYTERHUB_API_TOKEN="secret",
        SLURM_CPUS_PER_TASK="3",
        SLURM_CPU_BIND_TYPE="mask_cpu",
        SLURM_PROCID="0",
        SLURM_JOB_NODELIST="node[1-2]",
        CUDA_VISIBLE_DEVICES="0,1",
        CODE="7",
    )
    assert (code, log) == (7, "carme: job 77 on node[1-2]\nhello from the session\n")
    words = (run.out / "words").read_text().splitlines()
    assert words[-9:] == [
        str(run.image),
        *("/bin/sh", "/.carme/begin", "python3", "-I", "-S", "-", "server", "it's"),
    ]
    assert "secret" not in " ".join(words)
    assert (run.out / "stdin").read_text() == "reporter = '$HOME'\n"
    seen = dict(item.split("=", 1) for item in (run.out / "environment").read_text().split("\0") if item)
    inside = {
        name.removeprefix("APPTAINERENV_"): value
        for name, value in seen.items()
        if name.startswith("APPTAINERENV_")
    }
    inside.pop("TZ", None)  # the node's, where it says one
    assert inside.pop("MASTER_ADDR")
    assert inside.pop("MASTER_PORT") == "12077"
    assert inside == {
        "JUPYTERHUB_API_TOKEN": "secret",
        "SLURM_CPUS_PER_TASK": "3",
        "SRUN_CPUS_PER_TASK": "3",
        "SLURM_OVERLAP": "1",
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "PREPEND_PATH": "/.carme/bin",
    }


def test_log_and_scratch_are_private_and_scratch_is_removed(run):
    run()
    assert (run.home / ".carme").stat().st_mode & 0o777 == 0o700
    assert (run.home / ".carme" / "session-77.log").stat().st_mode & 0o777 == 0o600
    assert not Path((run.out / "scratch").read_text().strip()).exists()


def test_a_home_that_is_none_has_its_own_exit_code(run):
    run.home.rmdir()
    run.home.touch()
    assert run() == (script.EXIT_LOG, None)


def a_file(home):
    (home / ".carme").write_text("mine")


def a_dangling_link(home):
    (home / ".carme").symlink_to("nowhere/at/all")


def a_pipe_for_the_log(home):
    (home / ".carme").mkdir()
    os.mkfifo(home / ".carme" / "session-77.log")


def a_folder_for_the_log(home):
    (home / ".carme" / "session-77.log").mkdir(parents=True)


@pytest.mark.parametrize("wrong", [a_file, a_dangling_link, a_pipe_for_the_log, a_folder_for_the_log])
def test_c12_a_log_that_cannot_be_written_ends_no_session(run, wrong):
    wrong(run.home)
    before = sorted(run.home.rglob("*"))
    text = run.log_of("echo hello; echo server >&2")
    assert "hello\nserver\n" in text
    assert "this log could not be written to" in text
    assert sorted(run.home.rglob("*")) == before
    assert [path.name for path in run.root.glob(".carme-*")] == [], "nothing of it stays on the node"


def test_c12_the_log_goes_where_it_belongs_when_there_is_room_in_the_end(run):
    a_file(run.home)
    log = run.home / ".carme" / "session-77.log"
    text = run.log_of(f"rm {shlex.quote(str(run.home))}/.carme; echo after")
    assert log.read_text() == text
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700


def test_c12_a_server_that_fails_with_a_folder_in_disorder_has_its_own_exit_code(run):
    a_file(run.home)
    assert run(CODE="7")[0] == 7


def test_an_image_that_is_missing_has_its_own_exit_code(run):
    run.image.unlink()
    code, log = run()
    assert code == node.EXIT_IMAGE
    assert str(run.image) in log


def test_no_room_for_scratch_has_its_own_exit_code(run):
    code, log = run(TMPDIR="/nowhere")
    assert code == node.EXIT_SCRATCH
    assert "private folder" in log


def fill(material):
    (material / "week1" / "empty").mkdir(parents=True)
    (material / "week1" / "intro.ipynb").write_text("one")
    (material / "week1" / "two\nlines $(id).txt").write_text("odd")
    (material / "run.sh").write_text("x")
    (material / "run.sh").chmod(0o555)
    (material / "link").symlink_to("week1/intro.ipynb")
    os.mkfifo(material / "fifo")


def test_a_course_is_copied_and_never_overwritten(run):
    fill(run.material)
    assert run(course=True)[0] == 0
    target = run.home / "courses" / "ml101"
    assert (target / "week1" / "intro.ipynb").read_text() == "one"
    assert (target / "week1" / "two\nlines $(id).txt").read_text() == "odd"
    assert (target / "week1" / "empty").is_dir()
    assert (target / "run.sh").stat().st_mode & 0o700 == 0o700
    assert (target / "link").is_symlink()
    assert not (target / "fifo").exists()

    (target / "week1" / "intro.ipynb").write_text("my work")
    (target / "link").unlink()
    (target / "link").symlink_to("nowhere")
    (run.material / "week1" / "intro.ipynb").write_text("new version")
    (run.material / "week2").mkdir()
    (run.material / "week2" / "next.ipynb").write_text("two")
    assert run(course=True, job="78")[0] == 0
    assert (target / "week1" / "intro.ipynb").read_text() == "my work"
    assert str((target / "link").readlink()) == "nowhere"
    assert (target / "week2" / "next.ipynb").read_text() == "two"
    assert not [path for path in target.rglob("*") if path.name.startswith(".carme")]


def test_missing_material_ends_the_session_with_a_sentence(run):
    code, log = run(course=True)
    assert code == course.EXIT_MATERIAL
    assert str(run.material) in log
    assert not (run.out / "words").exists()


def test_material_that_cannot_be_placed_ends_the_session_with_a_sentence(run):
    fill(run.material)
    (run.home / "courses" / "ml101").mkdir(parents=True)
    (run.home / "courses" / "ml101" / "week1").write_text("my file")
    code, log = run(course=True)
    assert code == course.EXIT_COPY
    assert "week1" in log
    assert (run.home / "courses" / "ml101" / "week1").read_text() == "my file"


def test_folders_that_nobody_holds_any_more_are_removed_and_others_stay(run):
    """Tasks that are killed leave theirs; the next session or task of the same person clears them away."""
    names = [f".carme-session-{number}-abcdefghij" for number in (1, 2, 3)]
    own = "carme-experiment-checkpoint"
    folders = {name: run.root / name for name in (*names, own)}
    for folder in folders.values():
        (folder / "tmp").mkdir(parents=True)
    for name in (*names[:2], own):
        os.utime(folders[name], (1, 1))  # 3 was made a moment ago: its owner may not have locked it yet
    held = os.open(folders[names[1]], os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    try:
        run()
    finally:
        os.close(held)
    assert [folder.exists() for folder in folders.values()] == [False, True, True, True]


def test_the_port_where_programs_meet_is_one_that_nothing_listens_on(run):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 12077))
        taken.listen()
        run()
    seen = (run.out / "environment").read_text().split("\0")
    (port,) = [item for item in seen if item.startswith("APPTAINERENV_MASTER_PORT=")]
    assert port == "APPTAINERENV_MASTER_PORT=12078"


def test_no_open_folder_reaches_the_container(run):
    run()
    assert (run.out / "folders").read_text() == ""
