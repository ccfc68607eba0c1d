"""What of a home cannot be written, found by writing; and where programs are led instead."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from carme_hub.spawner import homecare, program

FOLDERS = (".carme", ".jupyter", ".local", ".ipython", ".cache")


@pytest.fixture
def home(tmp_path):
    made = tmp_path / "home"
    made.mkdir()
    return made


def look(home, tmp_path, **environ):
    return homecare.look(home, environ, str(tmp_path / "refuge"), str(tmp_path / "uncopied"))


def test_c12_a_home_in_order_changes_nothing_and_keeps_no_trace(home, tmp_path):
    assert look(home, tmp_path) == ((), {})
    assert not (tmp_path / "refuge").exists()
    assert not [path for path in home.rglob("*") if "probe" in path.name]


@pytest.mark.parametrize(
    ("error", "word"),
    [
        # Quotas and lists of rights cannot be set up here; what a write then ends with is all that counts.
        (errno.EDQUOT, homecare.FULL),
        (errno.ENOSPC, homecare.FULL),
        (errno.EROFS, homecare.READ_ONLY),
        (errno.EACCES, homecare.CLOSED),
        (errno.EPERM, homecare.CLOSED),
        (errno.ESTALE, homecare.AWAY),
        (errno.EIO, homecare.AWAY),
    ],
)
@pytest.mark.parametrize("place", ["write", "fsync"])
def test_c12_each_way_not_to_be_written_has_its_word(home, tmp_path, *, error, word, place):
    def refuse(*_):
        raise OSError(error, os.strerror(error))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, place, refuse)
        found = look(home, tmp_path)
    assert found.words == (word,)
    assert "JUPYTER_CONFIG_DIR" in found.variables
    assert not [path for path in home.rglob("*") if "probe" in path.name]


def test_c12_a_short_write_is_a_full_home(home, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda *_: 10)
    assert look(home, tmp_path).words == (homecare.FULL,)


def a_file(path):
    path.write_text("mine")


def a_dangling_link(path):
    path.symlink_to("nowhere/at/all")


def a_loop(path):
    path.symlink_to(path.name)


def a_link_to_a_file(path):
    path.with_name("elsewhere").write_text("x")
    path.symlink_to("elsewhere")


def a_pipe(path):
    os.mkfifo(path)


def a_device(path):
    path.symlink_to("/dev/null")


@pytest.mark.parametrize("wrong", [a_file, a_dangling_link, a_loop, a_link_to_a_file, a_pipe, a_device])
@pytest.mark.parametrize("name", FOLDERS)
def test_c12_one_folder_in_disorder_is_named_and_the_others_are_used(home, tmp_path, name, wrong):
    wrong(home / name)
    found = look(home, tmp_path)
    assert found.words == (name,)
    assert name in homecare.sentence(name)
    for variable, path in found.variables.items():
        assert str(tmp_path / "refuge") in path or variable.endswith("_PATH")


def test_c12_a_link_to_a_folder_is_a_folder(home, tmp_path):
    (tmp_path / "scratch").mkdir()
    (home / ".jupyter").symlink_to(tmp_path / "scratch")
    assert look(home, tmp_path).words == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody who may not write needs root")
@pytest.mark.parametrize(
    ("closed", "words"),
    [("", (homecare.CLOSED,)), (".jupyter", (".jupyter",)), (".local", (".local",)), (".carme", (".carme",))],
)
def test_c12_rights_are_found_out_as_the_person(closed, words):
    # pytest closes its own folders to everybody else, again whenever it starts.
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        assert look_as_somebody(Path(open_to_all, "home"), closed, f"{open_to_all}/refuge") == words


def look_as_somebody(home, closed, refuge):
    for folder in (home, *(home / name for name in FOLDERS)):
        folder.mkdir(exist_ok=True)
        os.chown(folder, 1, 1)
    (home / closed).chmod(0o500)
    code = (
        "import pathlib, sys; exec(sys.stdin.read());"
        f"print(*look(pathlib.Path({str(home)!r}), {{}}, {refuge!r}).words)"
    )
    done = subprocess.run(
        [
            "/usr/bin/setpriv",
            "--reuid=1",
            "--regid=1",
            "--clear-groups",
            sys.executable,
            "-I",
            "-S",
            "-c",
            code,
        ],
        input=program_part(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert not done.stderr
    return tuple(done.stdout.split())


def program_part():
    """Return the module as the container gets it: a text."""
    module = {"__name__": "program"}
    exec(compile(program.source(), "program", "exec"), module)  # noqa: S102 - the text is ours
    return module["PARTS"]["homecare"]


def test_c12_programs_are_led_away_and_still_read_what_is_there(home, tmp_path):
    (home / ".jupyter").write_text("")
    (home / ".local").write_text("")
    kept = {
        "JUPYTER_RUNTIME_DIR": "/tmp/own",
        "JUPYTERLAB_WORKSPACES_DIR": f"{home}/.jupyter/lab/workspaces/7",
        "JUPYTER_PATH": "/site",
    }
    variables = look(home, tmp_path, **kept).variables
    refuge = f"{tmp_path}/refuge"
    assert variables["JUPYTER_CONFIG_DIR"] == f"{refuge}/jupyter"
    assert variables["JUPYTERLAB_WORKSPACES_DIR"].startswith(refuge), "it was in the home"
    assert variables["JUPYTER_DATA_DIR"].startswith(refuge)
    assert "JUPYTER_RUNTIME_DIR" not in variables, "it was elsewhere already"
    assert variables["JUPYTER_CONFIG_PATH"] == f"{home}/.jupyter"
    assert variables["JUPYTER_PATH"] == f"{home}/.local/share/jupyter:/site"
    assert stat.S_IMODE(Path(refuge).stat().st_mode) == 0o700


def test_c12_course_material_that_was_not_copied_is_told(home, tmp_path):
    (tmp_path / "uncopied").touch()
    assert look(home, tmp_path).words == (homecare.COURSE,)


def test_c12_every_word_has_a_sentence_that_says_what_to_do():
    assert len(homecare.WORDS) == 10
    for word in homecare.WORDS:
        said = homecare.sentence(word)
        assert said.endswith(".")
        assert "emove" in said or "tell the administrators" in said


def test_c12_pages_and_terminals_are_shown_it(tmp_path):
    notes, terminals = tmp_path / "notes.json", tmp_path / "notes.txt"
    notes.symlink_to(tmp_path / "victim")
    homecare.show({"full": "Full."}, str(notes), str(terminals))
    assert json.loads(notes.read_text()) == [{"id": "full", "text": "Full."}]
    assert not notes.is_symlink()
    assert not (tmp_path / "victim").exists()
    assert terminals.read_text() == "*** Full. ***\n"
    assert stat.S_IMODE(notes.stat().st_mode) == 0o600
    homecare.show({}, str(notes), str(terminals))
    assert json.loads(notes.read_text()) == []
    assert not terminals.read_text()
    homecare.show({"x": "y"}, str(tmp_path / "no" / "where"), str(tmp_path / "no" / "where"))


def test_c12_the_end_of_a_log_is_told_and_not_more(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"x" * 100 + b"\xff end")
    assert homecare.tail(str(log), 6).endswith(" end")
    assert len(homecare.tail(str(log), 6)) <= 6
    assert homecare.tail(str(tmp_path / "none"), 6) == ""
