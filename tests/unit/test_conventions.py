"""JupyterHub's conventions: what a site sets or overrides of its spawner counts, or is refused.

The surface is walked by introspection, so that a JupyterHub with one member more fails here until
somebody has decided what becomes of it.
"""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from jupyterhub import orm
from jupyterhub.auth import DummyAuthenticator
from jupyterhub.oauth.provider import make_provider
from jupyterhub.objects import Hub
from jupyterhub.roles import create_role, get_default_roles
from jupyterhub.spawner import Spawner, SpawnException
from jupyterhub.user import User
from tornado import web
from traitlets import TraitError
from traitlets.config import Config, LoggingConfigurable

from carme_hub.spawner import backends, conventions
from carme_hub.spawner import job as job_module
from carme_hub.spawner import session as module
from carme_hub.spawner import watcher as watching
from carme_hub.spawner.answers import Picture, QueueEntry
from carme_hub.spawner.backends import LOCAL, Backend, used_clusters
from carme_hub.spawner.errors import HubFault, SessionError
from carme_hub.spawner.session import SlurmSession
from carme_hub.spawner.slurm import Account, AccountError, SlurmUnavailable, SubmitRefused
from carme_hub.spawner.spawner import CarmeSpawner, check_config
from carme_hub.spawner.watcher import Watcher
from tests.unit.conftest import IMAGES, MOUNTS, PROFILES

PROFILE = PROFILES[0] | {"groups": []}


class ScriptedSlurm:
    """Takes each job and runs it at once. A real cluster has tests of its own; here, the hub's side is."""

    def __init__(self):
        self.submitted, self.jobs, self.error = [], {}, None

    async def submit(self, script, _account, env):
        if self.error:
            raise self.error
        self.submitted.append((script, env))
        self.jobs[7] = QueueEntry(7, "RUNNING", "", "n1")
        return 7

    async def queue(self, job_ids):
        return Picture(time.monotonic(), {one: self.jobs[one] for one in job_ids if one in self.jobs})

    async def node_address(self, _node):
        return "127.0.0.1"

    async def cancel(self, number, _account):
        self.jobs[number] = QueueEntry(number, "CANCELLED")

    async def ending(self, _number, _owner=None):
        return None

    async def log_tail(self, _path, _account):
        return ""


@pytest.fixture
def slurm():
    return ScriptedSlurm()


@pytest.fixture
async def person(slurm, monkeypatch):
    """Return a function that makes a person of a hub with some class of spawners: JupyterHub's own `User`."""
    watcher = Watcher(slurm)
    backend = Backend(slurm, watcher)
    monkeypatch.setattr(SlurmSession, "backend", backend)
    monkeypatch.setattr(CarmeSpawner, "_backend", lambda _self, _profile: backend)
    monkeypatch.setattr(watching, "SHORT", 0.01)
    monkeypatch.setattr(watching, "LONG", 0.05)

    async def account(name):
        return Account(name, 1000, 1000, (1000,), f"/srv/home/{name}")

    for place in (module, job_module):
        monkeypatch.setattr(place, "account_of", account)
    session = orm.new_session_factory("sqlite:///:memory:")()
    for role in get_default_roles():
        create_role(session, role)
    row = orm.User(name="rosa")
    session.add(row)
    row.roles.append(orm.Role.find(session, "user"))
    session.commit()
    provider = make_provider(lambda: session, url_prefix="/hub", login_url="/hub/login")
    provider.add_client("jupyterhub", "secret", "/hub/oauth_callback", allowed_scopes=[])

    def new(kind=CarmeSpawner, **traits):
        config = Config()
        config.CarmeSpawner.update(images=IMAGES, mounts=MOUNTS, profiles=[PROFILE], **traits)
        settings = {
            "config": config,
            "hub": Hub(),
            "spawner_class": kind,
            "authenticator": DummyAuthenticator(),
            "oauth_provider": provider,
            "internal_ssl": False,
        }
        return User(row, settings)

    yield new
    await watcher.close()
    session.close()


async def started(user, slurm, port=40000):
    """Start the person's session as JupyterHub does, up to the first look at its server."""

    async def answers(_spawner):
        return None

    user._wait_up = answers
    spawning = asyncio.ensure_future(user.spawn("", options={"profile": "gpu", "gpus": 2}))
    async with asyncio.timeout(5):
        while not slurm.submitted and not spawning.done():  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    if not spawning.done():
        assert user.spawners[""].take_port(port)
    async with asyncio.timeout(5):
        await spawning
    return user.spawners[""]


async def ended(one):
    one.stop_polling()
    if one._guard is not None:
        one._guard.cancel()
        await asyncio.gather(one._guard, return_exceptions=True)


# --- F3: every public member of Spawner has been decided about ---

HUB = "JupyterHub reads or calls it at the spawner that it made, which is CarmeSpawner"
SESSION = "it reaches the session's script or variables; a test here proves it"
SETTINGS = {
    SESSION: {
        *("args", "cmd", "debug", "default_url", "disable_user_config", "env_keep", "environment"),
        *("hub_connect_url", "ip", "notebook_dir"),
    },
    HUB: {
        *("apply_user_options", "auth_state_hook", "consecutive_failure_limit", "group_overrides"),
        *("http_timeout", "oauth_client_allowed_scopes", "oauth_roles", "options_form", "options_from_form"),
        *("poll_interval", "poll_jitter", "post_stop_hook", "pre_spawn_hook", "progress_ready_hook"),
        *("server_token_scopes", "ssl_alt_names", "ssl_alt_names_include_local", "start_timeout"),
    },
}
# Methods that a start, a look, and an end call; a test here counts them.
CALLED = {
    *("add_poll_callback", "apply_group_overrides", "clear_state", "format_string", "get_args", "get_env"),
    *("get_state", "load_state", "poll", "run_auth_state_hook", "run_post_stop_hook", "run_pre_spawn_hook"),
    *("start", "start_polling", "stop", "stop_polling", "template_namespace", "user_env"),
}
# Those that JupyterHub calls at other moments, always at CarmeSpawner.
ELSEWHERE = {
    *("active", "create_certs", "delete_forever", "display_name", "get_options_form", "last_activity"),
    *("move_certs", "name", "oauth_scopes", "options_from_query", "pending", "poll_and_notify", "progress"),
    *("ready", "rename", "run_options_from_form", "server"),
}


def test_f3_every_setting_of_jupyterhubs_spawner_is_decided_about():
    settings = {name for name, trait in Spawner.class_traits().items() if trait.metadata.get("config")}
    refused = {name for name in conventions.REFUSED if name in Spawner.class_traits()}
    assert settings == SETTINGS[SESSION] | SETTINGS[HUB] | refused


def test_f3_every_method_of_jupyterhubs_spawner_is_decided_about():
    base = set(dir(LoggingConfigurable)) | set(Spawner.class_traits())
    methods = {name for name in dir(Spawner) if not name.startswith("_")} - base
    assert methods | {"user_env"} == CALLED | ELSEWHERE | set(conventions.NEVER_CALLED)


MARKED = {
    "args": (["--marked-arg"], "script", "--marked-arg"),
    "cmd": (["marked-command"], "script", "marked-command"),
    "debug": (True, "JUPYTERHUB_DEBUG", "1"),
    "default_url": ("/marked/{username}", "JUPYTERHUB_DEFAULT_URL", "/marked/rosa"),
    "disable_user_config": (True, "JUPYTERHUB_DISABLE_USER_CONFIG", "1"),
    "env_keep": (["MARKED_KEPT"], "MARKED_KEPT", "kept"),
    "environment": ({"MARKED": lambda spawner: spawner.user.name}, "MARKED", "rosa"),
    "hub_connect_url": ("https://marked:1", "JUPYTERHUB_API_URL", "https://marked:1/api"),
    "ip": ("10.9.8.7", "JUPYTERHUB_SERVICE_URL", "10.9.8.7"),
    "notebook_dir": ("/marked/{username}", "JUPYTERHUB_ROOT_DIR", "/marked/rosa"),
}


@pytest.mark.parametrize("name", sorted(SETTINGS[SESSION]))
async def test_f3_a_setting_reaches_the_session(person, slurm, monkeypatch, name):
    monkeypatch.setenv("MARKED_KEPT", "kept")
    value, where, expected = MARKED[name]
    one = await started(person(**{name: value}), slurm)
    script, variables = slurm.submitted[0]
    found = script if where == "script" else variables[f"APPTAINERENV_{where}"]
    assert expected in found
    await ended(one)


@pytest.mark.parametrize("name", sorted(conventions.REFUSED))
def test_f3_a_setting_that_would_do_nothing_is_refused_with_what_does_it(name):
    value = {"child_config": {"x": 1}, "child_class": "jupyterhub.spawner.SimpleLocalProcessSpawner"}.get(
        name, 2
    )
    for section in ("CarmeSpawner", "WrapSpawner" if name.startswith("child") else "Spawner"):
        config = Config()
        config[section][name] = value
        with pytest.raises(TraitError, match=rf"^CarmeSpawner\.{name} has no effect: ") as error:
            check_config(config)
        assert str(error.value).endswith(".")


def recording(names, calls):
    """Make a subclass of CarmeSpawner that overrides methods, as a site does in its configuration."""

    def overriding(name):
        def method(self, *words, **more):
            calls.append(name)
            return getattr(super(site, self), name)(*words, **more)

        return method

    site = type("SiteSpawner", (CarmeSpawner,), {name: overriding(name) for name in names})
    return site


async def test_f3_what_a_site_overrides_is_called(person, slurm):
    calls = []
    user = person(recording(CALLED, calls), notebook_dir="/home")
    one = await started(user, slurm)
    one.add_poll_callback(lambda: None)
    again = type(one)(user=user, orm_spawner=None, hub=one.hub, config=one.config)
    again.load_state(one.get_state())
    await user.stop("")
    assert set(calls) == CALLED
    await ended(one)


async def test_f3_what_a_site_adds_to_arguments_variables_and_state_counts(person, slurm):
    class Site(CarmeSpawner):
        def get_args(self):
            return [*super().get_args(), "--of-the-site"]

        def get_env(self):
            return super().get_env() | {"OF_THE_SITE": "1"}

        def user_env(self, env):
            return env | {"OF_THE_PERSON": self.user.name}

        def get_state(self):
            return super().get_state() | {"of_the_site": 1}

    user = person(Site)
    user._wait_up = None
    spawning = asyncio.ensure_future(user.spawn("", options={"profile": "gpu"}))
    async with asyncio.timeout(5):
        # What a hub that is killed now finds again holds the site's part, too.
        while not (user.spawners[""].orm_spawner.state or {}).get("job_id"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert user.spawners[""].orm_spawner.state["of_the_site"] == 1
    script, variables = slurm.submitted[0]
    assert "--of-the-site" in script
    assert variables["APPTAINERENV_OF_THE_SITE"] == "1"
    assert variables["APPTAINERENV_OF_THE_PERSON"] == "rosa"
    spawning.cancel()
    await asyncio.gather(spawning, return_exceptions=True)


HOOKS = ["pre_spawn_hook", "post_stop_hook", "auth_state_hook", "apply_user_options"]


async def test_f3_hooks_are_run(person, slurm):
    ran = []
    hooks = {name: lambda *_words, name=name: ran.append(name) for name in HOOKS}
    user = person(**hooks)
    one = await started(user, slurm)
    await user.stop("")
    assert set(ran) == set(HOOKS)
    await ended(one)


async def test_f3_a_form_of_the_sites_own_is_shown_and_read(person):
    one = person(
        options_form="<input name='size'>",
        options_from_form=lambda form: {"profile": "gpu", "gpus": int(form["size"][0])},
    ).spawners[""]
    assert await one.get_options_form() == "<input name='size'>"
    assert one.run_options_from_form({"size": ["2"]}) == {"profile": "gpu", "gpus": 2}


async def test_f3_a_groups_overrides_reach_the_session(person, slurm):
    user = person(
        group_overrides={"all": {"groups": ["ml"], "spawner_override": {"environment": {"OVERRIDDEN": "1"}}}}
    )
    user.orm_user.groups.append(orm.Group(name="ml"))
    one = await started(user, slurm)
    assert slurm.submitted[0][1]["APPTAINERENV_OVERRIDDEN"] == "1"
    await ended(one)


@pytest.mark.parametrize("name", sorted(conventions.never_called()))
def test_f3_overriding_what_is_never_called_is_refused(name):
    with pytest.raises(TypeError, match=rf"^SiteSpawner\.{name} has no effect: .+\.$"):
        type("SiteSpawner", (CarmeSpawner,), {name: lambda _self: None})


# --- F2: whose fault a failed start is ---


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (SlurmUnavailable("The hub cannot run sbatch: No such file or directory."), True),
        (SlurmUnavailable("Slurm does not answer at the moment. Please try again later."), True),
        (SubmitRefused("Slurm did not accept the session: Invalid account"), False),
        (AccountError("There is no account 'rosa' on this cluster; ask its administrators."), False),
    ],
)
async def test_f2_what_is_nobodys_fault_is_an_error_and_a_refusal_is_none(person, slurm, error, counts):
    slurm.error = error
    with pytest.raises(web.HTTPError) as told:
        await started(person(), slurm)
    # By this JupyterHub tells the two apart (jupyterhub.handlers.base, 6.1.1).
    assert isinstance(told.value, SpawnException) is not counts
    assert isinstance(told.value, HubFault) is counts
    assert not counts or told.value.status_code >= 500
    assert told.value.jupyterhub_message == str(error)


async def test_f2_what_a_person_asks_for_never_counts(person, slurm):
    user = person()
    with pytest.raises(SessionError) as told:
        await user.spawn("", options={"profile": "gpu", "gpus": 99})
    assert isinstance(told.value, SpawnException)
    assert not slurm.submitted


# --- F5 ---


def test_f5_a_state_can_be_loaded_where_no_loop_runs():
    row = orm.Spawner(name="", user_options={})
    row.server = orm.Server(
        base_url="/user/rosa/", proto="https", cookie_name="x", ip="127.0.0.1", port=40000
    )
    user = SimpleNamespace(
        name="rosa", url="/user/rosa/", groups=[], settings={"cookie_secret": b"x"}, escaped_name="rosa"
    )
    config = Config()
    config.CarmeSpawner.update(images=IMAGES, mounts=MOUNTS, profiles=[PROFILE])
    one = CarmeSpawner(user=user, config=config)
    one.orm_spawner = row
    one.load_state({"cluster": "slurm", "job_id": "7", "node": "n1", "port": 40000})
    assert one.child.job_id == "7"
    assert one.get_state()["job_id"] == "7"


# --- F7 ---

HERE = {"name": "here", "title": "Here", "cluster": LOCAL, "images": ["base"]}


@pytest.mark.parametrize(
    ("clusters", "profiles", "names"),
    [
        ({}, [HERE], []),
        ({}, [HERE, PROFILE], ["slurm"]),
        ({}, [], ["slurm"]),
        ({"big": {}}, [HERE], ["big"]),
        ({"big": {}, "small": {}}, [PROFILE], ["big", "small"]),
    ],
)
def test_f7_a_site_that_needs_no_slurm_has_no_cluster(clusters, profiles, names):
    assert list(used_clusters(clusters, profiles)) == names


async def test_f7_where_every_profile_is_on_the_hubs_machine_slurm_is_never_asked(monkeypatch):
    monkeypatch.setattr(backends, "_BACKENDS", {})
    asked = []
    monkeypatch.setattr("carme_hub.spawner.slurm.Slurm.run", lambda *_words, **_more: asked.append(1))
    config = Config()
    config.CarmeSpawner.update(images=IMAGES, mounts=MOUNTS, profiles=[HERE])
    session = orm.new_session_factory("sqlite:///:memory:")()
    row = orm.User(name="rosa")
    session.add(row)
    session.commit()
    settings = {"config": config, "hub": Hub(), "cookie_secret": b"x"}
    user = User(row, settings | {"spawner_class": CarmeSpawner, "authenticator": DummyAuthenticator()})
    one = user.spawners[""]
    one.load_state({})
    await one.get_options_form()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not asked
    assert all(backend.slurm is None for backend in backends._BACKENDS.values())
    session.close()
