"""The extension that makes a Jupyter Server that of a session: its parts, and none without its guards."""

from __future__ import annotations

import json
import logging
import sys
from types import ModuleType, SimpleNamespace

import carme_session
import pytest

from carme_hub.demo import images


class Server(SimpleNamespace):
    """What the loader uses of a ServerApp."""

    def exit(self, status):
        raise SystemExit(status)


@pytest.fixture
def server():
    return Server(log=logging.getLogger("session"))


def part(monkeypatch, name, setup):
    module = ModuleType(f"carme_session.{name}")
    module.setup = setup
    monkeypatch.setitem(sys.modules, module.__name__, module)


def broken(_server):
    raise OSError("broken")


def test_every_part_is_there():
    for name in (*carme_session.GUARDS, *carme_session.EXTRAS):
        assert callable(__import__(f"carme_session.{name}", fromlist=["setup"]).setup)


def test_an_extra_that_fails_leaves_the_others(monkeypatch, server):
    done = []
    part(monkeypatch, "one", broken)
    part(monkeypatch, "two", done.append)
    monkeypatch.setattr(carme_session, "GUARDS", ())
    monkeypatch.setattr(carme_session, "EXTRAS", ("one", "two"))
    carme_session._load_jupyter_server_extension(server)
    assert done == [server]


def test_a_server_without_a_guard_ends(monkeypatch, server):
    part(monkeypatch, "guard", broken)
    monkeypatch.setattr(carme_session, "GUARDS", ("guard",))
    with pytest.raises(SystemExit):
        carme_session._load_jupyter_server_extension(server)


def test_the_image_turns_the_extension_on():
    text = (images.DEFINITIONS / "files" / "carme_session.json").read_text()
    assert json.loads(text)["ServerApp"]["jpserver_extensions"] == {
        point["module"]: True for point in carme_session._jupyter_server_extension_points()
    }
