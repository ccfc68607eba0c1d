"""What shells find below /.carme: a PATH that survives start-up files, in each shell there is here."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from carme_hub.spawner import own_files

BEGUN = "/.carme/bin:/opt/jupyter/bin:/usr/local/bin:/usr/bin:/bin"
SHELLS = [shell for shell in ("bash", "dash", "zsh", "busybox") if shutil.which(shell)]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("path", "after"),
    [
        (BEGUN, BEGUN),
        ("/usr/local/bin:/usr/bin:/bin", BEGUN),
        ("/usr/bin", "/.carme/bin:/opt/jupyter/bin:/usr/local/bin:/bin:/usr/bin"),
        (
            "/home/x/conda/bin:/usr/bin:/bin",
            "/home/x/conda/bin:/.carme/bin:/opt/jupyter/bin:/usr/local/bin:/usr/bin:/bin",
        ),
        ("/home/x/bin", f"/home/x/bin:{BEGUN}"),
        (
            "/a b/*:/usr/bin:/bin:/usr/local/bin",
            "/a b/*:/.carme/bin:/opt/jupyter/bin:/usr/bin:/bin:/usr/local/bin",
        ),
        (f"/home/x/venv/bin:{BEGUN}", f"/home/x/venv/bin:{BEGUN}"),
    ],
)
def test_c4_path_gets_back_what_the_session_began_with_and_keeps_what_is_the_persons(shell, path, after):
    words = [shutil.which(shell), *(["sh"] if shell == "busybox" else []), "-c"]
    text = f'PATH="{path}"\nset -eu\n{own_files._PATH}\nprintf "%s|%s" "$PATH" "${{rest-}}${{folder-}}"'
    done = subprocess.run(
        [*words, text], env={"CARME_PATH": BEGUN}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"{after}|", "")


def test_c4_a_login_shell_without_any_environment_still_finds_the_stand_ins():
    done = subprocess.run(
        ["/bin/sh", "-c", f'PATH=/usr/bin\n{own_files._PATH}\necho "$PATH"'],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "/.carme/bin:/usr/bin"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "[ ! -r /.carme/shell ] || . /.carme/shell"),
        ('PS1="Apptainer> "; unset PROMPT_COMMAND', "[ ! -r /.carme/shell ] || . /.carme/shell"),
        ("history -a", "history -a"),  # what the site or the person set
    ],
)
def test_c4_a_container_begins_with_what_tells_shells(tmp_path, before, after):
    script = tmp_path / "begin"
    script.write_text(own_files._BEGIN)
    environ = {"PATH": os.environ["PATH"], **({"PROMPT_COMMAND": before} if before else {})}
    done = subprocess.run(
        ["/bin/sh", script, "/usr/bin/env", "-0"], env=environ, capture_output=True, text=True, check=True
    )
    seen = dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)
    assert seen["PROMPT_COMMAND"] == after
    assert seen["CARME_PATH"] == os.environ["PATH"]
    assert seen["ENV"] == "/.carme/shell"


def test_the_function_survives_the_way_to_other_nodes(ask, tmp_path):
    """Bash prints it (``declare -f``), and what was printed makes the same files again."""
    text = own_files.function(ask({}), "/srv/home/it's")
    code = f"""{text}
        cd "$1"; own_files one; sent=$(declare -f own_files); unset -f own_files
        eval "$sent"; carme_job="#!/bin/sh"; own_files two; rm two/job; diff -r one two; cat one/shared"""
    done = subprocess.run(
        ["bash", "-euc", code, "x", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0] == "/srv/home/it's"
    assert {path.name for path in (tmp_path / "one/bin").iterdir()} == set(own_files.COMMANDS)
    assert all(os.access(path, os.X_OK) for path in (tmp_path / "one/bin").iterdir())
