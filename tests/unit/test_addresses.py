"""Addresses of sessions: names that cannot be one, routes beside them, links into them."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace
from urllib.parse import quote, unquote, urlsplit

import jupyter_server.serverapp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_server.serverapp import JUPYTER_SERVICE_HANDLERS
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.slugs import is_valid_safe_slug

from carme_hub.spawner import reserved, routes, spawner
from carme_hub.spawner.errors import SessionError
from carme_hub.spawner.user_redirect import target

assert spawner.CarmeSpawner, "it puts all of this into the hub"

# --- Names ---

FIRST_WORD = re.compile(r"/[a-z][a-z0-9-]*")
NAMED_IN_COMPLAINTS = "api code-server lab tree proxy static terminals files edit notebooks view login logout"


def first_words_of_a_server() -> set[str]:
    """Return the first words of all addresses that jupyter_server's own parts have."""
    words = set()
    for modules in JUPYTER_SERVICE_HANDLERS.values():
        for module in modules or ():
            loaded = jupyter_server.serverapp.load_handlers(module)
            words |= {found[0] for entry in loaded if (found := FIRST_WORD.match(entry[0]))}
    return {word.lstrip("/") for word in words}


def test_c7_all_that_a_server_has_an_address_for_is_reserved():
    found = first_words_of_a_server()
    assert {"api", "kernelspecs", "nbconvert"} <= found
    assert found - reserved.RESERVED == set()
    assert set(NAMED_IN_COMPLAINTS.split()) <= reserved.RESERVED
    assert all(is_valid_safe_slug(name) for name in reserved.RESERVED)


@pytest.mark.parametrize("name", ["", "second", "api2", "my-lab", "labs", "a", "proxy-8080"])
def test_c7_other_names_are_free(name):
    assert reserved.problem(name) == ""


@pytest.mark.parametrize("name", sorted(reserved.RESERVED))
def test_c7_the_hub_refuses_a_reserved_name_wherever_it_checks_names(name):
    user = SimpleNamespace(orm_spawners={name: object()})  # also one that is there from before
    with pytest.raises(SessionError, match=name) as refused:
        asyncio.run(BaseHandler._check_named_server_request(SimpleNamespace(), user, name, name))
    assert refused.value.status_code == 400


# --- Routes ---


class Proxy:
    """Remembers routes; `jupyterhub.proxy.Proxy` as far as routes go."""

    def __init__(self):
        self.extra_routes: dict[str, str] = {}
        self.table: dict[str, str] = {"/": "hub"}
        self.hub = SimpleNamespace(host="hub")
        self.log = SimpleNamespace(info=lambda *_: None)

    async def add_route(self, spec, target, data):  # noqa: ARG002
        self.table[spec] = target

    async def delete_route(self, spec):
        self.table.pop(spec, None)

    def leads(self, path: str) -> str:
        return self.table[max((spec for spec in self.table if path.startswith(spec)), key=len)]


class User:
    """A person with sessions; those in ``running`` have a server."""

    name, proxy_spec = "ravi", "/user/ravi/"

    def __init__(self, *names: str):
        self.orm_user = SimpleNamespace(orm_spawners={"": self._row()})
        self.spawners = {}
        for name in ("", *names):
            self.make(name)

    @staticmethod
    def _row():
        return SimpleNamespace(server=None)

    def make(self, name: str, *, paused: bool = False):
        self.orm_user.orm_spawners.setdefault(name, self._row())
        spec = f"/user/ravi/{name}/" if name else "/user/ravi/"
        self.spawners[name] = SimpleNamespace(
            proxy_spec=spec,
            server=SimpleNamespace(host=f"server {name}"),
            pending=None,
            _log_name=name,
            paused=paused,
        )


def world(*names: str):
    proxy, user = Proxy(), User(*names)

    def start(name: str = ""):
        user.orm_user.orm_spawners[name].server = object()
        asyncio.run(routes.add_user(proxy, user, name))

    def end(name: str = ""):
        asyncio.run(routes.delete_user(proxy, user, name))
        user.orm_user.orm_spawners[name].server = None

    return proxy, user, start, end


def test_c7_a_named_session_that_has_ended_is_the_hubs_while_the_default_one_runs():
    proxy, _, start, end = world("second", "third")
    start()
    assert proxy.leads("/user/ravi/lab") == "server "
    assert proxy.leads("/user/ravi/second/lab") == proxy.leads("/user/ravi/third/api") == "hub"
    assert proxy.leads("/user/ravi/secondary/lab") == "server ", "a name that nobody has is the default one's"
    start("second")
    assert proxy.leads("/user/ravi/second/lab") == "server second"
    assert proxy.leads("/user/ravi/third/lab") == "hub"
    end("second")
    assert proxy.leads("/user/ravi/second/lab") == "hub"
    end()
    assert proxy.table == {"/": "hub"}
    assert proxy.extra_routes == {}
    start("second")
    assert proxy.leads("/user/ravi/second/lab") == "server second"
    start()
    assert proxy.leads("/user/ravi/second/lab") == "server second"
    # JupyterHub keeps these when it looks through all routes, and no others.
    assert set(proxy.extra_routes) == {"/user/ravi/third/"}


def test_c7_names_that_come_go_and_change_have_their_routes():
    proxy, user, start, _ = world("second")
    start()
    user.make("new")
    asyncio.run(routes.settle(proxy, user))
    assert proxy.leads("/user/ravi/new/lab") == "hub"
    del user.orm_user.orm_spawners["new"]
    asyncio.run(routes.settle(proxy, user))
    assert proxy.leads("/user/ravi/new/lab") == "server "
    asyncio.run(routes.forget(proxy, "/user/ravi/second/"))
    assert proxy.leads("/user/ravi/second/lab") == "server "


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "ab"]), st.booleans())))
def test_c7_whatever_starts_and_ends_every_address_leads_to_its_own(steps):
    proxy, _, start, end = world("a", "b", "ab")
    running: set[str] = set()
    for name, starts in steps:
        if starts != (name in running):
            (start if starts else end)(name)
            running ^= {name}
        for one in ("a", "b", "ab"):
            assert proxy.leads(f"/user/ravi/{one}/lab") == (f"server {one}" if one in running else "hub")
        assert proxy.leads("/user/ravi/lab") == ("server " if "" in running else "hub")


def test_c17_a_suspended_session_is_the_hubs():
    proxy, user, start, _ = world()
    user.make("", paused=True)
    start()
    assert proxy.leads("/user/ravi/lab") == "hub"
    user.make("")
    start()
    assert proxy.leads("/user/ravi/lab") == "server "


# --- Links ---


@pytest.mark.parametrize(
    "name", ["100%.ipynb", "a#b.ipynb", "a?b.ipynb", "%41.ipynb", "a b+c&d.ipynb", "ü.ipynb"]
)
def test_c13_a_name_of_any_signs_is_the_same_name_at_the_end(name):
    found = target("/user/ravi/", f"/hub/user-redirect/lab/tree/{quote(name)}", "reset&x=%25")
    parts = urlsplit(found)
    assert unquote(parts.path) == f"/user/ravi/lab/tree/{name}"
    assert parts.query == "reset&x=%25"
    assert not parts.fragment


@given(st.text(alphabet="/\\.%:@?#ev25cx\t", max_size=20))
def test_c13_no_path_leads_to_another_site(path):
    sent = quote(path, safe="/\\.%:@")
    found = target("/user/ravi/", f"/hub/user-redirect/{sent}", "")
    assert found.startswith("/user/ravi/")
    assert not found.removeprefix("/user/ravi/").startswith(("/", "\\"))
    assert urlsplit(found).netloc == ""
