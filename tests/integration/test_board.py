"""The addresses that show sessions, on a hub with real jobs: who sees what, and when there is news."""

from __future__ import annotations

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from carme_hub.records import history, maintenance, notices, open_records
from carme_hub.records.attach import CLOSED
from carme_hub.records.maintenance import Maintenance
from carme_hub.spawner.board import PATIENCE
from tests.integration.fault_world import OPEN, FaultHub, clean_up, partition, prepare
from tests.support import until

BOARD, DETAILS = "/hub/api/carme/sessions", "/hub/api/carme/session"
# Rosa is in the group that ines looks after; adam is an admin; ravi is somebody.
ROLES = [
    {"name": "teacher", "users": ["ines"], "scopes": ["read:servers!group=class", "servers!group=class"]},
    {"name": "reader", "services": ["reader"], "scopes": ["read:servers"]},
    {"name": "keeper", "services": ["keeper"], "scopes": ["admin:servers"]},
]
TOKENS = {"reader": "a" * 32, "keeper": "b" * 32}
SERVICES = [{"name": name, "api_token": token} for name, token in TOKENS.items()]
RECORDS = """
import logging
from carme_hub.records import attach
attach.FRESH = 0.2
attach.attach({url!r}, logging.getLogger("carme"))
"""


class BoardHub(FaultHub):
    """A hub with people who have different rights, and with records."""

    def __init__(self, site, folder):
        self.records = f"sqlite:///{folder / 'carme.sqlite'}"
        self.tokens = dict(TOKENS)
        super().__init__(site, folder, RECORDS.format(url=self.records))

    def _lines(self):
        more = [
            f"c.JupyterHub.services += {SERVICES!r}",
            f"c.JupyterHub.load_roles += {ROLES!r}",
            "c.JupyterHub.load_groups = {'class': {'users': ['rosa']}}",
            "c.Authenticator.admin_users = {'adam'}",
            # A refusal is the answer then, and not told later.
            "c.JupyterHub.tornado_settings = {'slow_spawn_timeout': 2}",
        ]
        return "\n".join([super()._lines(), *more])

    def of(self, who, *scopes):
        """Return a token of somebody's, with all their rights or with these."""
        if (who, *scopes) not in self.tokens and who not in TOKENS:
            body = {"note": "tests", "scopes": list(scopes)} if scopes else {"note": "tests"}
            code, text = self.ask("POST", f"/hub/api/users/{who}/tokens", body)
            assert code == 201, text
            self.tokens[who, *scopes] = json.loads(text)["token"]
        return self.tokens[who] if who in TOKENS else self.tokens[who, *scopes]

    def get(self, path, token, patience=30):
        """Ask with a token; returns status and what was answered."""
        words = ["curl", "--silent", "--max-time", str(patience), "--write-out", "\n%{http_code}"]
        words += ["--header", f"Authorization: token {token}"] if token else []
        text, _, code = self.site.run(*words, f"{self.hub_url}{path}", check=False).rpartition("\n")
        return int(code or 0), json.loads(text) if text.startswith("{") else text

    def board(self, token, seen=""):
        code, told = self.get(f"{BOARD}?seen={quote(seen)}", token)
        assert code == 200, told
        return told["revision"], {(one["user"], one["name"]): one for one in told["sessions"]}

    def sessions(self, token):
        return self.board(token)[1]


@pytest.fixture(scope="module")
def fault_hub(site, tmp_path_factory):
    prepare(site)
    try:
        with BoardHub(site, tmp_path_factory.mktemp("board")) as running:
            yield running
            running.clear()
    finally:
        clean_up(site)


@pytest.fixture
def engine(hub):
    opened = open_records(hub.records)
    yield opened
    maintenance.set(opened, Maintenance())
    opened.dispose()


def test_a_session_is_shown_from_the_queue_to_its_end(hub, site):
    keeper = hub.of("keeper")
    hub.start("rosa", "big", profile="later")
    waiting = until(lambda: hub.sessions(keeper).get(("rosa", "big"), {}).get("slurm_state"), "its job")
    assert waiting == "PENDING"
    one = hub.sessions(keeper)["rosa", "big"]
    assert (one["state"], one["profile"], one["title"], one["image_title"]) == (
        "pending",
        "later",
        "Later",
        "Base",
    )
    assert (one["reason"], one["cluster"], one["nodes"], one["cpus"], one["memory"]) == (
        "PartitionDown",
        "slurm",
        1,
        1,
        64,
    )
    assert one["reason_text"]
    assert abs(one["submitted"] - time.time()) < 300
    assert (one["node"], one["start"], one["end"], one["gpus"]) == ("", None, None, 0)
    partition(site, OPEN)
    hub.until_ready("rosa", "big")
    one = until(
        lambda: (found := hub.sessions(keeper)["rosa", "big"])["state"] == "running" and found, "it to run"
    )
    (job,) = hub.live_jobs()
    assert (str(one["job"]), one["slurm_state"], one["progress"], one["limit"]) == (
        job.number,
        "RUNNING",
        100,
        60,
    )
    assert one["end"] - one["start"] == 3600
    assert one["node"].startswith("node")
    assert one["url"] == "/user/rosa/big/"
    assert {"title": "JupyterLab", "url": "/user/rosa/big/lab"} in one["apps"]
    hub.stop("rosa", "big")
    until(lambda: not hub.sessions(keeper), "the end of it")


def test_each_one_sees_whom_they_may_read(hub, site):
    for person in ("rosa", "ravi"):
        hub.start(person)
        hub.until_ready(person)
    rosa, ravi = ("rosa", ""), ("ravi", "")
    until(lambda: set(hub.sessions(hub.of("reader"))) == {rosa, ravi}, "both")
    assert set(hub.sessions(hub.of("keeper"))) == {rosa, ravi}
    assert set(hub.sessions(hub.of("adam"))) == {rosa, ravi}
    assert set(hub.sessions(hub.of("rosa"))) == {rosa}
    assert set(hub.sessions(hub.of("ravi"))) == {ravi}
    assert set(hub.sessions(hub.of("ines"))) == {rosa}
    assert set(hub.sessions(hub.of("ravi", "read:servers!user"))) == {ravi}
    assert hub.get(BOARD, hub.of("rosa", "read:users!user"))[0] == 403
    assert hub.get(BOARD, "")[0] == 403
    assert hub.get(BOARD, "0" * 32)[0] == 403
    for token in session_tokens(hub, site).values():
        assert hub.get(BOARD, token)[0] == 403

    # Details: the owner and admins, nobody else of those who may start and stop.
    may = {
        hub.of("rosa"): 200,
        hub.of("keeper"): 200,
        hub.of("adam"): 200,
        hub.of("rosa", "servers!user"): 200,
        hub.of("rosa", "read:servers!user"): 404,
        hub.of("ines"): 404,
        hub.of("ravi"): 404,
        hub.of("reader"): 404,
        session_tokens(hub, site)["rosa"]: 404,
        "": 403,
    }
    for token, wanted in may.items():
        assert hub.get(f"{DETAILS}/rosa", token)[0] == wanted, [
            key for key in hub.tokens if hub.tokens[key] == token
        ]
    for path in ("/nobody", "/rosa/other", "/ros%61%2F..", "/..%2frosa", "/rosa%00"):
        assert hub.get(DETAILS + path, hub.of("keeper"))[0] == 404, path
        assert hub.get(DETAILS + path, hub.of("ravi"))[0] == 404, path


def session_tokens(hub, site):
    """Return the tokens that sessions have in their environment, by their owners."""
    program = (
        "import pathlib, json\n"
        "found = {}\n"
        "for place in pathlib.Path('/proc').glob('[0-9]*/environ'):\n"
        "    try: words = place.read_bytes().decode(errors='replace').split('\\0')\n"
        "    except OSError: continue\n"
        "    given = dict(word.split('=', 1) for word in words if '=' in word)\n"
        "    if 'JUPYTERHUB_API_TOKEN' in given and 'SLURM_JOB_ID' in given:\n"
        "        found[given['JUPYTERHUB_USER']] = given['JUPYTERHUB_API_TOKEN']\n"
        "print(json.dumps(found))"
    )
    nodes = {site.run("squeue", "-h", "-j", job.number, "-o", "%N").strip() for job in hub.live_jobs()}
    found = {}
    for node in nodes:
        found |= json.loads(site.run("/usr/bin/python3", "-c", program, node=node))
    assert found
    return found


def test_a_follower_hears_of_a_change_at_once_and_else_only_now_and_then(hub):
    keeper = hub.of("keeper")
    hub.start("rosa")
    hub.until_ready("rosa")
    until(lambda: hub.sessions(keeper)["rosa", ""]["state"] == "running", "it to run")
    revision = until(
        lambda: (seen := hub.board(keeper)[0]) == hub.board(keeper, "")[0] and seen, "quiet", patience=20
    )
    began = time.monotonic()
    assert hub.board(keeper, "something else")[0] == revision
    assert time.monotonic() - began < 5
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(hub.board, keeper, revision)
        others = threads.submit(hub.get, f"{BOARD}?seen=x", hub.of("ravi"))
        assert others.result()[1]["sessions"] == []
        hub.start("ravi", "new")
        news, sessions = waiting.result()
    assert news != revision
    assert ("ravi", "new") in sessions
    assert time.monotonic() - began < PATIENCE


def test_details_are_what_slurm_and_the_log_say(hub, site):
    hub.start("rosa")
    hub.until_ready("rosa")
    (job,) = hub.live_jobs()
    code, told = hub.get(f"{DETAILS}/rosa", hub.of("rosa"))
    assert (code, str(told["job"])) == (200, job.number)
    assert told["nodes"] == [site.run("squeue", "-h", "-j", job.number, "-o", "%N").strip()]
    assert told["script"].startswith("#!/bin/bash\n#SBATCH ")
    token = session_tokens(hub, site)["rosa"]
    assert token not in json.dumps(told)
    home = site.run("bash", "-c", "echo ~rosa").strip()
    log = f"{home}/.carme/session-{job.number}.log"
    site.run("bash", "-c", f"printf '\\033[31mred <b>text</b>\\n' >> {log}", user="rosa")

    def used():
        answer = hub.get(f"{DETAILS}/rosa", hub.of("rosa"))[1]
        return answer["use"] and "red" in answer["log"] and answer

    told = until(used, "what it uses")
    assert told["log"].splitlines()[-1] == "red <b>text</b>"
    assert told["use"]["memory_peak"] > 0
    assert told["use"]["cpu_seconds"] >= 0
    hub.stop("rosa")
    hub.until_gone("rosa")
    assert hub.get(f"{DETAILS}/rosa", hub.of("rosa"))[0] == 404


def test_sessions_are_written_down_with_what_their_owners_are_told(hub, engine):
    hub.start("rosa", "one")
    hub.until_ready("rosa", "one")
    (job,) = hub.live_jobs()
    row = until(
        lambda: next((row for row in history.find(engine, "rosa") if str(row.job) == job.number), None),
        "its row",
    )
    row = until(lambda: (row := history.find(engine, "rosa")[0]).state == "RUNNING" and row, "its start")
    assert (row.server, row.profile, row.image, row.partition, row.cpus) == ("one", "now", "base", "cpu", 1)
    assert row.started - row.submitted < 120
    assert notices.unread(engine, "rosa")[0].title == "one is ready"
    assert hub.get("/hub/api/user", hub.of("adam"))[0] == 200
    told = len(notices.recent(engine, "rosa"))
    stop(hub, "adam", "rosa", "one")
    row = until(lambda: (row := history.find(engine, "rosa")[0]).ended and row, "its end")
    assert (row.state, row.ended >= row.started) == ("CANCELLED", True)
    newest = until(lambda: len(found := notices.recent(engine, "rosa")) > told and found[0], "the notice")
    assert (newest.kind, newest.text) == ("ended", "adam has ended this session.")
    # What one has stopped oneself is no news.
    hub.start("ravi", "own")
    hub.until_ready("ravi", "own")
    stop(hub, "ravi", "ravi", "own")
    until(lambda: (row := history.find(engine, "ravi")[0]).ended and row, "its end")
    hub.start("ravi", "next")
    until(lambda: notices.recent(engine, "ravi")[0].server == "next", "what is told after it")
    assert [one.kind for one in notices.recent(engine, "ravi") if one.server == "own"] == ["started"]


def test_whose_start_is_cancelled_by_somebody_else_is_told_by_whom(hub, engine):
    hub.start("rosa", "queued", profile="later")
    until(hub.live_jobs, "its job")
    browse(hub, "adam", 'post("/hub/carme/cancel/rosa/queued")')
    told = until(
        lambda: next((one for one in notices.recent(engine, "rosa") if one.server == "queued"), None),
        "the notice",
    )
    assert (told.kind, told.text) == ("ended", "adam has ended this session.")


def stop(hub, who, username, name=""):
    words = ["curl", "--silent", "-o", "/dev/null", "--write-out", "%{http_code}", "--request", "DELETE"]
    words += [
        "--header",
        f"Authorization: token {hub.of(who)}",
        f"{hub.hub_url}{hub.server_path(username, name)}",
    ]
    assert hub.site.run(*words) in {"202", "204"}


def test_a_session_that_ends_while_no_hub_is_there_is_written_down_by_the_next_one(hub, engine, site):
    hub.start("rosa", "lost")
    hub.until_ready("rosa", "lost")
    (job,) = hub.live_jobs()
    hub.kill()
    site.run("scancel", job.number)
    until(lambda: not hub.live_jobs(), "the end of the job")
    hub.__enter__()
    row = until(lambda: (row := history.find(engine, "rosa")[0]).ended and row, "its end")
    assert (str(row.job), row.state) == (job.number, "CANCELLED")
    assert "cancelled" in row.sentence


# ---- maintenance


def test_in_maintenance_only_admins_start_sessions_and_all_that_run_go_on(hub, engine):
    hub.start("rosa", "before")
    hub.until_ready("rosa", "before")
    hub.start("rosa", "waiting", profile="later")
    text = "The cluster is <b>down</b> until nine."
    maintenance.set(engine, Maintenance(on=True, text=text, by="adam", since=int(time.time())))

    names = (f"new-{number}" for number in itertools.count())

    def refused():
        name = next(names)
        code, told = hub.start("rosa", name)
        return code == 503 and (name, json.loads(told))

    name, said = until(refused, "the door to close")
    assert said["message"] == f"{CLOSED} {text}"
    assert ("rosa", name) not in hub.rows()
    # The page's form and a link end in the same question.
    page = form(hub, "rosa")
    assert "The cluster is &lt;b&gt;down&lt;/b&gt; until nine." in page
    assert "<b>down</b>" not in page
    assert hub.start("adam")[0] in {201, 202}
    hub.until_ready("adam")
    assert hub.until_reachable("rosa", "before")
    assert hub.server("rosa", "waiting")["pending"] == "spawn"
    hub.restart()
    assert hub.until_reachable("rosa", "before")
    assert hub.server("rosa", "waiting")["pending"] == "spawn"
    maintenance.set(engine, Maintenance())
    until(lambda: hub.start("rosa", name)[0] in {201, 202}, "the door to open")


def form(hub, username):
    """Send the start page's form as a browser of that person would; returns the page that comes back."""
    path = f"/hub/spawn/{username}/by-form"
    return browse(hub, username, f'get("{path}")', f'print(post("{path}", profile="now"))')


def browse(hub, username, *steps):
    """Do something as a browser of that person would; returns what is printed."""
    program = f"""
import http.cookiejar, urllib.error, urllib.parse, urllib.request
jar = http.cookiejar.CookieJar()
opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
def xsrf():
    return next(cookie.value for cookie in jar if cookie.name == "_xsrf" and cookie.path.endswith("/hub/"))
def post(path, **fields):
    body = urllib.parse.urlencode({{**fields, "_xsrf": xsrf()}}).encode()
    try:
        return opener.open("{hub.hub_url}" + path, body, timeout=60).read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()
def get(path):
    return opener.open("{hub.hub_url}" + path, timeout=60).read().decode()
get("/hub/login")
post("/hub/login", username="{username}", password="x")
"""
    return hub.site.run("/usr/bin/python3", "-c", "\n".join([program, *steps]))
