"""What a session's server tells its pages: what is wrong, how long it lasts, what it may use."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
from carme_session import notes, time_limit, usage
from traitlets.config import Config

from carme_hub.demo import images
from carme_hub.spawner import homecare, timekeeper

GIB = 1 << 30


def test_image_the_status_bar_shows_the_sessions_limits_and_not_the_nodes(monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1024")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    server = SimpleNamespace(config=Config())
    usage.setup(server)
    assert server.config.ResourceUseDisplay == {"mem_limit": GIB, "cpu_limit": 3}
    server = SimpleNamespace(config=Config({"ResourceUseDisplay": {"mem_limit": 7}}))
    usage.setup(server)
    assert server.config.ResourceUseDisplay.mem_limit == 7, "a site's own setting stays"


@pytest.mark.parametrize(
    ("environ", "limit"),
    [
        ({"SLURM_MEM_PER_NODE": "2048", "SLURM_MEM_PER_CPU": "9"}, 2 * GIB),
        ({"SLURM_MEM_PER_CPU": "512", "SLURM_CPUS_PER_TASK": "4"}, 2 * GIB),
        ({"SLURM_MEM_PER_CPU": "512"}, 0),
        ({"SLURM_MEM_PER_NODE": "0"}, 0),
        ({"SLURM_MEM_PER_NODE": "2G"}, 0),
        ({}, 0),
    ],
)
def test_image_the_memory_is_what_slurm_gave(environ, limit):
    assert usage.memory(environ) == limit


def test_image_no_figures_for_strangers():
    config = json.loads((images.DEFINITIONS / "files" / "jupyter_server_config.json").read_text())
    assert config["ResourceUseDisplay"]["enable_prometheus_metrics"] is False


def test_image_pages_and_session_agree_on_the_files():
    assert notes.FILE == homecare.NOTES
    assert (time_limit.FILE, time_limit.WANTED) == (timekeeper.FILE, timekeeper.WANTED)
    script = (images.DEFINITIONS / "files/session_bar/code-server/extension.js").read_text()
    for path in (notes.FILE, time_limit.FILE, time_limit.WANTED):
        assert f'"{path}"' in script


def test_c12_notes_are_what_the_session_says_and_nothing_else_is_an_error(tmp_path):
    file = tmp_path / "notes.json"
    assert notes.read(str(file)) == []
    homecare.show({"full": "Full."}, str(file), str(tmp_path / "notes.txt"))
    assert notes.read(str(file)) == [{"id": "full", "text": "Full."}]
    for text in ("", "{", "[1]", "{}", "7", '[{"id": "x"}]', "[null]"):
        file.write_text(text)
        assert notes.read(str(file)) == []
    file.write_text(json.dumps([{"id": n, "text": "x" * 10} for n in range(100)]))
    assert len(notes.read(str(file))) == notes.MOST
    (tmp_path / "link").symlink_to(file)
    assert notes.read(str(tmp_path / "link")) == []
    os.mkfifo(tmp_path / "pipe")
    assert notes.read(str(tmp_path / "pipe")) == []


def test_somebody_who_extends_has_the_time_looked_at_anew(tmp_path):
    wanted = tmp_path / "wanted"
    time_limit.want(str(wanted))
    time_limit.want(str(wanted))
    assert wanted.exists()
    time_limit.want(str(tmp_path / "none" / "wanted"))
