"""CarmeSpawner's steps, with a scripted Slurm; sessions on a real one are tests/integration's."""

import asyncio
import hashlib
import logging
import re
import time
from types import SimpleNamespace

import pytest
from jupyterhub.spawner import Spawner
from traitlets import TraitError
from traitlets.config import Config
from wrapspawner import WrapSpawner

from carme_hub.spawner import estimates, named, offer, sweep
from carme_hub.spawner import job as job_module
from carme_hub.spawner import session as module
from carme_hub.spawner import watcher as watching
from carme_hub.spawner.answers import SEPARATOR, Ending, Picture, QueueEntry
from carme_hub.spawner.asking import NotStartedYet
from carme_hub.spawner.backends import Backend
from carme_hub.spawner.errors import HubFault, SessionError
from carme_hub.spawner.estimate import Estimate
from carme_hub.spawner.estimates import Estimates
from carme_hub.spawner.progress import SERVER
from carme_hub.spawner.session import SlurmSession
from carme_hub.spawner.slurm import Account, Slurm, SlurmUnavailable, SubmitRefused
from carme_hub.spawner.spawner import CarmeSpawner, check_config
from carme_hub.spawner.watcher import Watcher
from tests.unit.conftest import IMAGES, MOUNTS, PROFILES

SCHEME = "http"
TOKEN = "a-very-secret-token"


class ScriptedSlurm:
    """A real cluster is used in the integration tests; here steps fail and wait when the test says so."""

    def __init__(self):
        self.submitted, self.cancelled, self.jobs = [], [], {}
        self.endings_asked = self.looks = 0
        self.error, self.gate, self.end, self.cancel_errors = None, None, None, 0

    async def submit(self, script, account, env):
        if self.gate is not None:
            await self.gate.wait()
        if self.error:
            raise self.error
        self.submitted.append((script, account, env))
        self.jobs[7] = QueueEntry(7, "PENDING", "Resources")
        return 7

    async def cancel(self, job_id, _account):
        if self.cancel_errors:
            self.cancel_errors -= 1
            raise SlurmUnavailable("Unable to contact slurm controller")
        self.cancelled.append(job_id)
        self.jobs[job_id] = QueueEntry(job_id, "CANCELLED")

    async def queue(self, job_ids):
        self.looks += 1
        return Picture(time.monotonic(), {job: self.jobs[job] for job in job_ids if job in self.jobs})

    async def ending(self, _job_id, _owner=None):
        self.endings_asked += 1
        return self.end if self.endings_asked == 1 else None  # the hub's own machine says it once

    async def log_tail(self, _path, _account):
        return "<last words>\n"

    async def node_address(self, node):
        return f"{node}.example.org"


@pytest.fixture
def slurm():
    return ScriptedSlurm()


@pytest.fixture
async def make(slurm, monkeypatch):
    watcher = slurm.watcher = Watcher(slurm)
    monkeypatch.setattr(watching, "SHORT", 0.01)
    monkeypatch.setattr(watching, "LONG", 0.05)
    monkeypatch.setattr(watching, "PATIENT", 0.02)
    backend = Backend(slurm, watcher)
    monkeypatch.setattr(SlurmSession, "backend", backend)
    monkeypatch.setattr(CarmeSpawner, "_backend", lambda _self, _profile: backend)

    async def account(name):
        return Account(name, 1000, 1000, (1000,), f"/srv/home/{name}")

    for place in (module, job_module):
        monkeypatch.setattr(place, "account_of", account)

    def new(name="rosa", groups=("researchers",), **traits):
        user = SimpleNamespace(
            name=name,
            url=f"/user/{name}/",
            escaped_name=name,
            groups=[SimpleNamespace(name=group) for group in groups],
        )
        hub = SimpleNamespace(public_host="", api_url=f"{SCHEME}://hub:8081/hub/api", base_url="/hub/")
        settings = {"images": IMAGES, "mounts": MOUNTS, "profiles": PROFILES} | traits
        made = CarmeSpawner(user=user, hub=hub, **settings)
        user.spawner = made
        user.spawners = {"": made}
        made.api_token = TOKEN
        return made

    yield new
    for job in list(watcher._jobs):
        watcher.forget(job)
    if watcher._task is not None:
        await asyncio.wait_for(watcher._task, 5)


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - any condition, not only ours
            await asyncio.sleep(0.01)


async def refusal(awaitable):
    with pytest.raises((SessionError, HubFault)) as error:
        await asyncio.wait_for(awaitable, 5)
    return error.value


# --- options ---


async def test_a_form_becomes_clean_options(make):
    chosen = await make().run_options_from_form(
        {"_xsrf": ["x"], "profile": ["gpu"], "gpus": ["2"], "time": ["1:00:00"]}
    )
    assert chosen == {
        "profile": "gpu",
        "image": "base",
        "gpus": 2,
        "gpu_type": "a100",
        "nodes": 1,
        "time": 60,
    }


async def test_forms_of_one_person_ask_slurm_one_after_the_other(make, monkeypatch):
    first = make()
    others = [make() for _ in range(4)]
    for one in others:
        one.user = first.user
    asking, at_once = [], []

    async def estimate(one, _request):
        asking.append(one)
        at_once.append(len(asking))
        await asyncio.sleep(0.01)
        asking.remove(one)

    monkeypatch.setattr(CarmeSpawner, "estimate", estimate)
    await asyncio.gather(*(one.run_options_from_form({"profile": ["gpu"]}) for one in [first, *others]))
    assert at_once == [1] * 5


async def test_what_slurm_said_a_moment_ago_is_not_asked_again_by_the_click(make, slurm, monkeypatch):
    asked = []

    async def test(_script, _account):
        asked.append(time.monotonic())
        return Estimate(1, "n1", "gpu", "It would start on n1.")

    slurm.test = test
    one, other = make(), make("ravi")
    backend = one._backend(None)
    monkeypatch.setattr(backend, "slurm", slurm)
    monkeypatch.setattr(offer, "ESTIMATES", Estimates())
    monkeypatch.setattr(offer, "account_of", module.account_of)
    wish = {"profile": ["gpu"], "gpus": ["2"]}
    assert (await one.estimate(one.parse_options({"profile": "gpu", "gpus": 2}))).nodes == "n1"
    await one.run_options_from_form(wish)
    assert len(asked) == 1
    await other.run_options_from_form(wish)  # somebody else's answer is none
    await one.run_options_from_form(wish | {"gpus": ["3"]})  # nor is that of another request
    assert len(asked) == 3
    monkeypatch.setattr(estimates, "FRESH", 0.0)
    await one.run_options_from_form(wish)
    assert len(asked) == 4


async def test_an_answer_of_a_moment_ago_takes_no_limit_away(make, monkeypatch):
    known = Estimates()
    monkeypatch.setattr(offer, "ESTIMATES", known)
    one = make(limits={"max_gpus": 2})
    known.keep("rosa", one.parse_options({"profile": "gpu", "gpus": 3}), Estimate(1, "n1", "gpu", ""))
    with pytest.raises(SessionError, match="3 GPUs asked in all"):
        await one.run_options_from_form({"profile": ["gpu"], "gpus": ["3"]})


def test_only_so_many_answers_are_remembered(ask, monkeypatch):
    monkeypatch.setattr(estimates, "_MOST", 2)
    known, answer = Estimates(), Estimate(1, "n1", "gpu", "")
    for name in ("a", "b", "c"):
        known.keep(name, ask({"profile": "gpu"}), answer)
    assert [known.known(name, ask({"profile": "gpu"})) for name in ("a", "b", "c")] == [None, answer, answer]
    assert known.known("b", ask({"profile": "gpu", "gpus": 2})) is None


class Look:
    """A named server that somebody has opened the form of; a hub's database is in tests/integration."""

    def __init__(self, **row):
        empty = {"server": None, "started": None, "user_options": None, "state": {}, "display_name": "work"}
        self.orm_spawner = SimpleNamespace(**(empty | row))
        self.in_use = False


@pytest.mark.parametrize(
    ("row", "goes"),
    [
        ({}, True),
        ({"display_name": None}, True),
        ({"server": object()}, False),
        ({"started": object()}, False),
        ({"user_options": {"profile": "gpu"}}, False),
        ({"state": {"job_id": "7"}}, False),
        ({"display_name": "My work"}, False),
    ],
)
def test_a_named_session_that_was_only_looked_at_leaves_no_row(monkeypatch, row, goes):
    deleted, committed = [], []
    session = SimpleNamespace(delete=deleted.append, commit=lambda: committed.append(True))
    monkeypatch.setattr(named, "object_session", lambda _row: session)
    look = Look(**row)
    user = SimpleNamespace(spawners={"": object(), "work": look})
    named.drop_unused(user, "")
    named.drop_unused(user, "nothing")
    look.in_use = True
    named.drop_unused(user, "work")
    assert (set(user.spawners), deleted) == ({"", "work"}, [])
    look.in_use = False
    named.drop_unused(user, "work")
    assert ("work" not in user.spawners) is goes
    assert deleted == ([look.orm_spawner] if goes else [])
    assert bool(committed) is goes


async def test_what_is_wrong_comes_back_at_its_field_once(make):
    one = make()
    with pytest.raises(SessionError):
        await one.run_options_from_form({"profile": ["gpu"], "gpus": ["9"]})
    form = await one.form()
    assert form.place_of(form.problems[0]) == "profile-gpu-gpus"
    assert form.profiles[0].error("gpus") == "9 asked, 1 to 4 allowed in “GPU session”."
    assert (await one.form()).problems == ()
    with pytest.raises(SessionError):
        one.options_from_query({"profile": ["gpu"], "nodes": ["7"]})
    form = await one.form()
    assert (form.place_of(form.problems[0]), form.from_link) == ("profile-gpu-nodes", True)


async def test_all_that_is_wrong_is_told_at_once(make):
    one = make()
    with pytest.raises(SessionError) as refused:
        await one.run_options_from_form(
            {"profile": ["gpu"], "gpus": ["9"], "nodes": ["x"], "time": ["tomorrow"]}
        )
    form = await one.form()
    assert [problem.field for problem in form.problems] == ["gpus", "nodes", "time"]
    for option in ("gpus", "nodes", "time"):
        assert form.profiles[0].error(option)
        assert f"({option})" in refused.value.jupyterhub_message


async def test_a_wrong_form_is_a_400_and_is_shown_again_with_what_was_typed(make):
    one = make()
    with pytest.raises(SessionError) as error:
        await one.run_options_from_form({"profile": ["gpu"], "gpus": ["9"]})
    assert error.value.status_code == 400
    assert "gpus" in error.value.jupyterhub_message
    assert (await one.form()).profiles[0].values["gpus"] == "9"
    assert (await one.form()).profiles[0].values["gpus"] == "1", "only once"


async def test_a_link_never_starts_a_job(make, slurm):
    one = make()
    with pytest.raises(NotStartedYet) as error:
        one.options_from_query({"profile": ["gpu"], "gpus": ["3"]})
    assert "press Start" in error.value.jupyterhub_message
    form = await one.get_options_form()
    assert form.profiles[0].values["gpus"] == "3"
    with pytest.raises(SessionError):
        one.options_from_query({"partition": ["x"]})
    assert not slurm.submitted


def test_a_link_is_no_error_in_the_log(make, caplog):
    one = make()
    for link, logged in (({"profile": ["gpu"]}, False), ({"gpus": ["99"]}, True)):
        caplog.clear()
        try:
            one.options_from_query(link)
        except Exception:
            one.log.exception("Failed to spawn single-user server with query arguments")
        assert bool(caplog.records) is logged


@pytest.mark.parametrize(
    "options", [{"prologue": "id"}, {"gpus": True}, {"gpus": [1]}, {"profile": {"a": 1}}, {"__class__": 1}]
)
async def test_whatever_the_api_stored_is_checked_before_anything_is_submitted(make, slurm, options):
    one = make()
    one.user_options = options
    await one._run_apply_user_options(options)
    error = await refusal(one.start())
    assert error.status_code == 400
    assert not slurm.submitted
    assert await one.poll() == 0


async def test_nothing_a_person_asks_for_is_kept_in_the_spawner(make):
    one = make()
    await one.run_options_from_form({"profile": ["gpu"]})  # fills in defaults
    before = dict(one._trait_values)
    await one.run_options_from_form({"profile": ["gpu"], "gpus": ["2"]})
    assert dict(one._trait_values) == before


# --- a start ---


async def listen(one, slurm, port=40000, node="node1"):
    """Do what the job does: run, and report."""
    await until(lambda: slurm.submitted)
    slurm.jobs[7] = QueueEntry(7, "RUNNING", "", node)
    assert one.owns_token(TOKEN)
    assert one.take_port(port)


async def test_a_name_may_hold_what_no_directive_can(make, slurm):
    one = make("josé o'brien")
    start = asyncio.ensure_future(one.start())
    await listen(one, slurm)
    await asyncio.wait_for(start, 5)
    assert ":jos%C3%A9%20o%27brien/\n" in slurm.submitted[0][0]


async def test_a_start_returns_where_the_server_listens(make, slurm):
    one = make()
    one.user_options = {"gpus": 2}
    start = asyncio.ensure_future(one.start())
    await listen(one, slurm)
    assert await asyncio.wait_for(start, 5) == ("node1.example.org", 40000)
    assert await one.poll() is None
    script, account, variables = slurm.submitted[0]
    assert account.name == "rosa"
    assert TOKEN not in script
    assert "#SBATCH --gres=gpu:a100:2" in script
    assert variables["APPTAINERENV_JUPYTERHUB_API_TOKEN"] == TOKEN
    assert variables["APPTAINERENV_JUPYTERHUB_DEFAULT_URL"] == "/lab"
    assert not [name for name in variables if not name.startswith("APPTAINERENV_")]
    assert not one.take_port(40001), "one report"


async def test_a_course_opens_its_notebook(make, slurm):
    one = make("mia", ("ml101",))
    start = asyncio.ensure_future(one.start())
    await listen(one, slurm)
    await asyncio.wait_for(start, 5)
    variables = slurm.submitted[0][2]
    assert variables["APPTAINERENV_JUPYTERHUB_DEFAULT_URL"] == "/lab/tree/courses/ml101/week1/intro.ipynb"
    assert variables["APPTAINERENV_JUPYTERLAB_WORKSPACES_DIR"].startswith("/tmp/")


async def test_no_log_at_any_level_has_the_token(make, slurm, caplog):
    one = make()
    with caplog.at_level(logging.DEBUG):
        start = asyncio.ensure_future(one.start())
        await listen(one, slurm)
        await asyncio.wait_for(start, 5)
    assert TOKEN not in caplog.text
    assert "APPTAINERENV" not in caplog.text


async def test_state_is_there_as_soon_as_the_job_is(make, slurm, monkeypatch):
    one = make()
    saved = []
    save = SlurmSession._save
    monkeypatch.setattr(SlurmSession, "_save", lambda one: saved.append(one.get_state()) or save(one))
    start = asyncio.ensure_future(one.start())
    await until(lambda: saved)
    assert saved[0]["job_id"] == "7"
    assert saved[0]["token_sha256"] == hashlib.sha256(TOKEN.encode()).hexdigest()
    assert TOKEN not in str(saved)
    await listen(one, slurm)
    await asyncio.wait_for(start, 5)
    assert (saved[-1]["port"], one.get_state()["node"]) == (40000, "node1")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SubmitRefused("Slurm did not accept the session: Invalid account"), 400),
        (SlurmUnavailable("no answer"), 503),
    ],
)
async def test_slurms_words_reach_the_person(make, slurm, error, status):
    slurm.error = error
    told = await refusal(make().start())
    assert (told.status_code, told.jupyterhub_message) == (status, str(error))


async def test_a_job_is_marked_with_the_name_that_slurm_shows_for_its_owner(make, slurm, monkeypatch):
    async def account(name):
        return Account(f"{name}@example.org", 1000, 1000, (1000,), f"/srv/home/{name}")

    monkeypatch.setattr(module, "account_of", account)
    start = asyncio.ensure_future(make().start())
    await until(lambda: slurm.submitted)
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    (comment,) = re.findall(r"^#SBATCH --comment=(.*)$", slurm.submitted[0][0], re.MULTILINE)
    assert sweep.parse(sweep_line(comment), sweep.hub_id(b"")) == [
        sweep.MarkedJob(7, "rosa@example.org", "rosa@example.org", comment.strip("'\""))
    ]


def sweep_line(comment):
    return SEPARATOR.join(["7", "rosa@example.org", "RUNNING", comment.strip("'\"")])


async def test_a_job_that_dies_says_why_with_its_last_words(make, slurm):
    slurm.end = Ending("OUT_OF_MEMORY")
    start = asyncio.ensure_future(make().start())
    await until(lambda: slurm.submitted)
    slurm.jobs[7] = QueueEntry(7, "OUT_OF_MEMORY")
    told = await refusal(start)
    assert "limit of 2 GiB" in told.jupyterhub_message
    assert "&lt;last words&gt;" in told.jupyterhub_html_message


async def test_a_server_that_never_listens(make, slurm):
    one = make(server_start_timeout=1)
    start = asyncio.ensure_future(one.start())
    await until(lambda: slurm.submitted)
    slurm.jobs[7] = QueueEntry(7, "RUNNING", "", "node1")
    told = await refusal(start)
    assert "did not listen within 1 s" in told.jupyterhub_message


async def test_a_start_that_is_given_up_during_sbatch_is_still_cancelled(make, slurm):
    one, slurm.gate = make(), asyncio.Event()
    start = asyncio.ensure_future(one.start())
    await until(lambda: one.child is not None and one.child._submission is not None)
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    assert await one.poll() is None
    asyncio.get_running_loop().call_later(0.05, slurm.gate.set)
    await asyncio.wait_for(one.stop(), 5)
    assert slurm.cancelled == [7]


async def test_stop_tries_again_while_slurm_is_silent_and_waits_for_the_end(make, slurm):
    one, slurm.cancel_errors = make(), 1
    start = asyncio.ensure_future(one.start())
    await listen(one, slurm)
    await asyncio.wait_for(start, 5)
    await asyncio.wait_for(one.stop(), 5)
    assert slurm.cancelled == [7]
    assert await one.poll() is not None
    one.clear_state()
    assert one.get_state() == {}
    assert not one.owns_token(TOKEN)


async def test_no_report_is_taken_after_the_stop(make, slurm):
    one = make()
    start = asyncio.ensure_future(one.start())
    await until(lambda: slurm.submitted)
    one._stop_pending = True
    assert not one.take_port(40000)
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)


async def test_several_people_watch_the_same_start(make, slurm):
    one = make()

    async def watch():
        said = []
        async for event in one.progress():
            said.append(event["message"])
            if event["progress"] == 95:
                break
        return said

    pages = [asyncio.ensure_future(watch()) for _ in range(3)]
    start = asyncio.ensure_future(one.start())
    await until(lambda: one.child and one.child.view)
    slurm.jobs[7] = QueueEntry(7, "RUNNING", "", "node1")
    await until(lambda: one.child.view.node)
    await asyncio.sleep(0.2)
    assert one.take_begun()
    assert not one.take_begun()
    assert one.waiting()["step"] == SERVER
    await asyncio.sleep(0.2)
    one.take_port(40000)
    assert not one.take_begun()
    await asyncio.wait_for(start, 5)
    for said in await asyncio.wait_for(asyncio.gather(*pages), 5):
        assert said[0] == "Handing the session to Slurm"
        assert any("runs on node1" in message for message in said)
        assert any("The container runs" in message for message in said)


# --- a hub that comes back ---


async def test_a_pending_job_is_waited_for_after_a_restart(make, slurm):
    state = {"job_id": "7", "token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest(), "port": 0, "node": ""}
    slurm.jobs[7] = QueueEntry(7, "PENDING", "Resources")
    one = make()
    one.api_token = ""
    one.load_state(state)
    assert await one.poll() is None
    url = asyncio.ensure_future(one.up_again())
    await asyncio.sleep(0.05)
    slurm.jobs[7] = QueueEntry(7, "RUNNING", "", "node2")
    assert one.owns_token(TOKEN)
    assert one.take_port(40000)
    assert await asyncio.wait_for(url, 5) == f"{SCHEME}://node2.example.org:40000"


async def test_a_job_that_ended_meanwhile(make, slurm):
    one = make()
    one.load_state({"job_id": "7", "port": 40000, "node": "node1"})
    slurm.end = Ending("FAILED", "", 3)
    assert await asyncio.wait_for(one.poll(), 5) is not None
    await until(lambda: one.child.view.ending)
    assert await one.poll() == 3


# --- the end of a session that nobody stopped ---


@pytest.fixture
def running(make, slurm):
    """Return a function that starts a session as far as JupyterHub goes, with the list of its callbacks."""

    async def start(**traits):
        one, told = make(**traits), []
        start = asyncio.ensure_future(one.start())
        await listen(one, slurm)
        await asyncio.wait_for(start, 5)
        one.add_poll_callback(lambda: told.append(one.child.job_id))
        one.start_polling()
        await asyncio.sleep(0)
        return one, told

    return start


async def test_the_jobs_word_of_its_end_removes_the_route_before_it_is_answered(running, slurm):
    one, told = await running(poll_interval=3600)
    assert await asyncio.wait_for(one.take_end(), 5)
    assert told == ["7"]
    assert await one.poll() == 0
    assert not slurm.cancelled, "it has some time to end by itself"
    slurm.jobs.clear()


async def test_nobody_says_the_end_before_the_port(make, slurm):
    one = make()
    assert not await one.take_end()
    start = asyncio.ensure_future(one.start())
    await until(lambda: slurm.submitted)
    assert not await one.take_end()
    await listen(one, slurm)
    await asyncio.wait_for(start, 5)
    assert await one.take_end()
    slurm.jobs.clear()


async def test_an_end_while_the_session_still_starts_is_told_as_soon_as_jupyterhub_listens(make, slurm):
    one, told = make(poll_interval=3600), []
    start = asyncio.ensure_future(one.start())
    await listen(one, slurm)
    await asyncio.wait_for(start, 5)
    one._spawn_future = asyncio.get_running_loop().create_future()
    one.start_polling()
    ended = asyncio.ensure_future(one.take_end())
    await asyncio.sleep(0.05)
    assert not told
    one.add_poll_callback(lambda: told.append(one.child.job_id))
    one._spawn_future.set_result(None)
    await asyncio.wait_for(ended, 5)
    assert told == ["7"]
    slurm.jobs.clear()


async def test_a_job_that_is_killed_is_noticed_by_the_watcher(running, slurm):
    _, told = await running(poll_interval=3600)
    slurm.jobs[7] = QueueEntry(7, "FAILED")
    await until(lambda: told)
    assert not slurm.cancelled


def forgets(one):
    """Have the spawner cleared at its session's end, as JupyterHub does."""
    one.add_poll_callback(one.clear_state)


async def test_how_a_session_ended_is_asked_once_and_told(running, slurm):
    one, _ = await running(poll_interval=3600)
    forgets(one)
    slurm.end = Ending("OUT_OF_MEMORY")
    slurm.jobs[7] = QueueEntry(7, "OUT_OF_MEMORY")
    await until(lambda: one.last_words)
    assert "limit of 2 GiB" in one.last_words
    assert slurm.endings_asked == 1
    await until(lambda: not slurm.watcher.state()["watched"])


@pytest.mark.parametrize(
    ("ending", "words"), [("COMPLETED", "stopped by itself"), ("OUT_OF_MEMORY", "limit of 2 GiB")]
)
async def test_nothing_is_said_and_nobody_else_asks_while_a_session_that_said_its_end_lingers(
    running, slurm, ending, words
):
    one, _ = await running(poll_interval=3600)
    forgets(one)
    slurm.end = Ending("RUNNING")  # as the controller says of it until it has ended
    assert await asyncio.wait_for(one.take_end(), 5)
    assert await asyncio.wait_for(one.take_end(), 5) is False
    looks = slurm.looks
    await until(lambda: slurm.looks > looks + 2)
    assert (slurm.endings_asked, one.last_words) == (0, "")
    slurm.end = Ending(ending)
    slurm.jobs[7] = QueueEntry(7, ending)
    await asyncio.wait_for(one._teller, 5)
    assert words in one.last_words
    assert bool(words) == bool(one.last_words)
    assert slurm.endings_asked == 1


async def test_a_session_that_lingers_too_long_is_cancelled_and_nothing_is_said(running, slurm, monkeypatch):
    for place in (module, job_module):
        monkeypatch.setattr(place, "LINGER", 0.1)
    one, _ = await running(poll_interval=3600)
    forgets(one)
    slurm.end = Ending("CANCELLED")
    assert await asyncio.wait_for(one.take_end(), 5)
    await asyncio.wait_for(one._teller, 5)
    assert one.last_words == ""
    await until(lambda: slurm.cancelled)


@pytest.mark.parametrize("then", [("PENDING", "BeginTime", ""), ("RUNNING", "", "node2")])
async def test_a_job_that_is_started_again_is_cancelled_and_no_session(running, slurm, then):
    one, told = await running(poll_interval=3600)
    slurm.jobs[7] = QueueEntry(7, "COMPLETING", "", "node1")
    await until(lambda: told)
    # JupyterHub forgets the session, and Slurm starts the job again.
    slurm.jobs[7] = QueueEntry(7, *then)
    one.clear_state()
    await until(lambda: slurm.jobs[7].state == "CANCELLED")
    assert 7 in slurm.cancelled


async def test_completing_is_no_end_before_a_port_is_known(make, slurm):
    one = make()
    slurm.jobs[7] = QueueEntry(7, "COMPLETING")
    one.load_state({"job_id": "7"})
    assert await asyncio.wait_for(one.poll(), 5) is None


async def test_a_stop_that_slurm_does_not_take_is_done_later(running, slurm, monkeypatch):
    monkeypatch.setattr(job_module, "STOP_PATIENCE", 0.0)
    one, _ = await running()
    slurm.cancel_errors = 3
    await asyncio.wait_for(one.stop(), 5)
    assert not slurm.cancelled
    one.clear_state()
    await until(lambda: slurm.cancelled)


def test_all_sessions_of_a_cluster_share_its_commands_and_their_memory():
    user = SimpleNamespace(name="rosa", groups=[])
    one, other, elsewhere = (
        CarmeSpawner(user=user, **settings)._new_session("slurm")
        for settings in ({}, {}, {"slurm_conf": "/etc/other.conf"})
    )
    assert one.runner is one.runner is other.runner
    assert one.watcher is other.watcher
    assert one.runner is not elsewhere.runner


# --- what is inherited ---


@pytest.mark.parametrize(
    "name",
    ["run_command", "submit_batch_script", "query_job_status", "cancel_batch_job", "_get_batch_script"],
)
async def test_nothing_of_batchspawners_shell_is_left(make, name):
    with pytest.raises(NotImplementedError):
        await getattr(make()._new_session("slurm"), name)("id")


def test_the_environment_is_jupyterhubs_and_the_sites(make, monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_SINGLEUSER_APP", "x")
    one = make(environment={"SITE": "yes", "NUMBER": 3})
    ours = {"SHELL", "LANG", "JUPYTERHUB_DEFAULT_URL", "CARME_WARN_BEFORE"}
    assert set(one.get_env()) - set(Spawner.get_env(one)) == ours
    assert one.get_env()["CARME_WARN_BEFORE"] == "900,300"
    assert "JUPYTERHUB_SINGLEUSER_APP" not in one.get_env()
    assert one.get_env()["SITE"] == "yes"


# --- configuration ---


def test_a_configuration_is_checked_as_a_whole():
    config = Config()
    config.CarmeSpawner.images, config.CarmeSpawner.mounts = IMAGES, MOUNTS
    config.CarmeSpawner.profiles = PROFILES
    assert list(check_config(config).profiles) == ["gpu", "ml101"]
    config.CarmeSpawner.profiles = [{**PROFILES[0], "max_time": "soon"}]
    with pytest.raises(ValueError, match=r'CarmeSpawner\.profiles, profile "gpu", max_time: '):
        check_config(config)
    config.CarmeSpawner.profiles = "gpu"
    with pytest.raises(TraitError, match="profiles"):
        check_config(config)


def test_equal_descriptions_are_checked_once_and_changed_ones_again():
    def described(**more):
        profile = {"name": "now", "title": "Now", "partition": "cpu", "max_time": 60} | more
        images = {"base": {"title": "Base", "path": "/b.sif"}}
        return CarmeSpawner(images=images, profiles=[profile])

    one, other = described(), described()
    assert one.catalog is other.catalog
    assert described(max_nodes=1).catalog.profiles["now"].max_nodes == 1
    with pytest.raises(ValueError, match="max_nodes"):
        described(max_nodes=True).catalog  # noqa: B018 - equal to 1 for Python
    one.profiles = [{**one.profiles[0], "title": "Later"}]
    assert one.catalog.profiles["now"].title == "Later"
    assert other.catalog.profiles["now"].title == "Now"


def test_every_setting_of_ours_has_a_help_text():
    ours = {name for name in CarmeSpawner.class_traits(config=True) if name not in Spawner.class_traits()}
    for name in ours - set(WrapSpawner.class_traits()):
        assert len(CarmeSpawner.class_traits()[name].help) > 20, name


# --- limits ---


async def test_what_a_session_holds_counts_from_its_start_to_its_end(make, slurm):
    one = make(limits={"max_running": 1})
    two = make(limits={"max_running": 1})
    two.user = one.user
    one.user.spawners["two"] = two
    for spawner in (one, two):
        spawner.user_options = {"profile": "gpu", "gpus": 1}
    slurm.gate = asyncio.Event()
    starting = asyncio.ensure_future(one.start())
    error = await refusal(two.start())
    assert (error.status_code, error.field) == (400, "")
    assert "1 in use, 1 allowed at once" in error.jupyterhub_message
    error = await refusal(two.run_options_from_form({"profile": ["gpu"]}))
    assert "1 in use, 1 allowed at once" in error.jupyterhub_message
    slurm.error = SubmitRefused("no")
    slurm.gate.set()
    await refusal(starting)
    await one.stop()
    one.clear_state()
    assert two.others() == []
    assert await two.run_options_from_form({"profile": ["gpu"]})


async def test_the_count_holds_after_a_restart_of_the_hub(make):
    before, after = make(limits={"max_gpus": 4}), make(limits={"max_gpus": 4})
    after.user.spawners["two"] = before
    state = {"job_id": "7", "session": {"profile": "gpu", "gpus": 2, "nodes": 2, "gpu_type": "a100"}}
    before.load_state(state)
    assert [(held.gpus, held.nodes, held.pending) for held in after.others()] == [(4, 2, True)]
    before.load_state(state | {"port": 4000})
    assert not after.others()[0].pending
    after.user_options = {"profile": "gpu", "gpus": 1}
    assert "1 GPU asked in all, 4 in use, 4 allowed" in (await refusal(after.start())).jupyterhub_message


async def test_a_wrong_form_of_a_named_server_shows_that_servers_form(make):
    default, named = make(), make()
    named.user = default.user
    named.orm_spawner = SimpleNamespace(name="work", user_options={}, server=None)
    with pytest.raises(SessionError):
        await named.run_options_from_form({"profile": ["gpu"], "gpus": ["9"]})
    form = await default.get_options_form()
    assert (form.session, form.profiles[0].values["gpus"]) == ("work", "9")
    assert (await default.get_options_form()).session == ""


async def test_a_start_of_a_named_server_leaves_nothing_at_the_default_one(make):
    default, named = make(), make()
    named.user = default.user
    named.orm_spawner = SimpleNamespace(name="work", user_options={}, server=None)
    assert await named.run_options_from_form({"profile": ["gpu"], "gpus": ["3"]})
    form = await default.get_options_form()
    assert (form.session, form.profiles[0].values["gpus"]) == ("", "1")


async def test_an_extension_keeps_within_what_its_owner_may_have(make, slurm, monkeypatch):
    profiles = [PROFILES[0] | {"max_extended_time": "12:00:00"}]
    everybody, staff = {"max_time": "4:00:00"}, {"staff": {"max_time": "8:00:00"}, "free": {"max_time": None}}
    start = int(time.time())
    slurm.jobs[7] = QueueEntry(7, "RUNNING", "", "node1", start, start + 3600)
    for groups, most in (
        (["researchers"], 240),
        (["researchers", "staff"], 480),
        (["researchers", "free"], 720),
    ):
        one = make(groups=groups, profiles=profiles, limits=everybody, group_limits=staff)
        one.load_state({"job_id": "7", "session": {"profile": PROFILES[0]["name"]}, "port": 4000})
        monkeypatch.setattr(SlurmSession, "backend", Backend(Slurm(), one.child.watcher))
        one.child.watcher.watch(one.child.ref)
        await until(lambda one=one: one.time_limit() is not None)
        assert one.time_limit().most == most


async def test_a_second_click_does_not_start_a_second_time(make, monkeypatch):
    one = make()
    gate = asyncio.Event()
    monkeypatch.setattr(one, "learn", gate.wait)
    first = asyncio.ensure_future(one.run_options_from_form({"profile": ["gpu"]}))
    await asyncio.sleep(0)
    assert (await refusal(one.run_options_from_form({"profile": ["gpu"]}))).status_code == 409
    gate.set()
    assert (await first)["profile"] == "gpu"


async def test_an_accepted_start_is_remembered_for_its_profile(make, slurm):
    one = make()
    one.orm_spawner = SimpleNamespace(name="", state=None, server=None, user_options=None)
    one.user_options = {"profile": "gpu", "gpus": 3}
    slurm.error = SubmitRefused("no")
    await refusal(one.start())
    one.clear_state()
    assert one.get_state() == one.orm_spawner.state, "it outlives the session"
    form = await one.get_options_form()
    assert form.profiles[0].values["gpus"] == "3"
