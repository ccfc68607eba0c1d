"""What sessions come up with: tabs and editor state of their own where they would spoil each other's."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import pytest

from carme_hub.demo import images
from carme_hub.spawner import opening

HOME = "/home/mia"


@pytest.fixture
def requests(ask, student):
    return {"session": ask({"profile": "gpu"}), "course": ask({"profile": "ml101"}, student)}


def test_c18_no_two_sessions_share_a_place(requests):
    cases = itertools.product(["session", "course"], ["", "a", "b"])
    places = {
        (kind, name): opening.workspaces(requests[kind], HOME, name).get(opening.WORKSPACES, "the home's own")
        for kind, name in cases
    }
    kept = {case: place for case, place in places.items() if not place.startswith("/tmp/")}
    assert len(set(kept.values())) == len(kept) == 3
    # /tmp is private: two courses share its name and nothing else, and a course begins anew each time.
    assert {case for case in places if case not in kept} == {("course", ""), ("course", "a"), ("course", "b")}


def test_c18_the_session_without_a_name_keeps_what_people_know(requests):
    assert opening.workspaces(requests["session"], HOME, "") == {}


def test_only_a_course_says_where_a_session_begins(requests):
    assert opening.page(requests["session"]) == {}
    assert opening.page(requests["course"]) == {
        "JUPYTERHUB_DEFAULT_URL": "/lab/tree/courses/ml101/week1/intro.ipynb"
    }


@pytest.fixture
def editor(tmp_path):
    """Return a function that starts the image's wrapper, with a Code-Server that says its words."""
    opt = tmp_path / "opt"
    (opt / "bin").mkdir(parents=True)
    (opt / "bin" / "code-server").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (opt / "bin" / "code-server").chmod(0o755)
    (opt / "settings.json").write_text("{}")
    script = (images.DEFINITIONS / "files" / "code-server-session.sh").read_text()
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(script.replace("/opt/code-server/", f"{opt}/"))
    home = tmp_path / "home"
    home.mkdir()

    def start(name):
        done = subprocess.run(
            ["sh", str(wrapper), "/tmp/socket"],
            env={"PATH": os.environ["PATH"], "HOME": str(home), "JUPYTERHUB_SERVER_NAME": name},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        words = done.stdout.splitlines()
        return home, {key: words[words.index(key) + 1] for key in ("--user-data-dir", "--extensions-dir")}

    return start


def test_c18_code_servers_state_is_each_sessions_own(editor):
    states = [editor(name)[1] for name in ("", "a", "b")]
    assert len({state["--user-data-dir"] for state in states}) == 3
    assert len({state["--extensions-dir"] for state in states}) == 1
    home, again = editor("a")
    assert again == states[1]
    assert states[0]["--user-data-dir"] == f"{home}/.local/share/code-server"


def test_c18_settings_are_the_persons_in_every_session(editor):
    home, state = editor("a")
    written = Path(state["--user-data-dir"], "User", "settings.json")
    written.write_text('{"a": 1}')
    assert (home / ".local/share/code-server/User/settings.json").read_text() == '{"a": 1}'
    _, other = editor("b")
    assert Path(other["--user-data-dir"], "User", "settings.json").read_text() == '{"a": 1}'
    assert Path(other["--user-data-dir"], "Machine", "settings.json").read_text() == "{}"
    # What somebody put in the place of a link stays.
    written.unlink()
    written.write_text("mine")
    editor("a")
    assert written.read_text() == "mine"


@pytest.mark.parametrize("name", ["../../x", "a/b", "ä", "."])
def test_a_name_leads_nowhere_else(editor, name):
    home, state = editor(name)
    assert Path(state["--user-data-dir"]).parent == home / ".local/share/code-server-sessions"
