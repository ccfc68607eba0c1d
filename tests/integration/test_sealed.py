"""What a session's token opens, and what of a session listens to whom."""

from __future__ import annotations

import json
import re

import pytest
import requests
from jupyterhub import apihandlers

from carme_hub.spawner import doors

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
REFUSED = {403, 404, 405}


@pytest.fixture
def session(site, person):
    """Rosa's session, the token in it, and the node it runs on."""
    rosa = person("rosa")
    rosa.start(profile="cpu")
    token = rosa.python("import os; print(os.environ['JUPYTERHUB_API_TOKEN'])").strip()
    (job,) = site.jobs("rosa")
    return rosa, token, site.run("squeue", "-h", "-j", job, "-o", "%N").strip()


def addresses():
    """Return all addresses of the hub's API, each for rosa, for ines, and for what is nobody's."""
    doors.open_all()
    found = set()
    for pattern, *_ in apihandlers.default_handlers:
        for user, server in (("rosa", ""), ("rosa", "other"), ("ines", "")):
            path = re.sub(r"\(\?P<(user_)?name>[^)]*\)|\(\[\^/\]\+\)", user, pattern, count=1)
            path = re.sub(r"\(\?P<server_name>[^)]*\)|\(\[\^/\]\*\)", server, path)
            path = re.sub(r"\([^()]*\)", "x", path)
            found.add(re.sub(r"[?*+^$\\]", "", path).removeprefix("/api"))
    return sorted(found)


def test_the_sessions_token_says_who_it_is_and_that_it_is_busy_and_nothing_else(session):
    rosa, token, _ = session
    allowed = {("GET", "/"), ("GET", "/user"), ("GET", "/users/rosa"), ("POST", "/users/rosa/activity")}
    allowed.add(("GET", "/carme/report"))  # when the session's own time limit ends
    asked = addresses()
    assert len(asked) > 50
    assert {path for _, path in allowed} <= set(asked)
    before = rosa.api("GET", "/users/rosa").json()
    for path in asked:
        for method in METHODS:
            answer = requests.request(
                method,
                f"{rosa.site.hub_url}/hub/api{path}",
                headers={"Authorization": f"token {token}"},
                json={
                    "name": "rosa",
                    "admin": True,
                    "users": ["rosa"],
                    "groups": ["x"],
                    "scopes": ["admin:users"],
                },
                timeout=60,
                allow_redirects=False,
            )
            if (method, path) in allowed:
                assert answer.status_code in {200, 400}, (method, path, answer.text)
            elif path == "/carme/report" and method == "POST":
                assert answer.status_code == 400
            elif path.startswith(("/authorizations", "/oauth2")):
                # Addresses that are no more, one of which stumbles (JupyterHub 6.1.1); and questions about a
                # login, which want a cookie: the way there is all they say.
                assert answer.status_code in REFUSED | {302, 400, 500}, (method, path, answer.text)
                assert "/hub/login" in answer.headers.get("Location", "/hub/login")
            else:
                assert answer.status_code in REFUSED, (method, path, answer.text)
    whoami = requests.get(
        f"{rosa.site.hub_url}/hub/api/user", headers={"Authorization": f"token {token}"}, timeout=60
    ).json()
    assert set(whoami["scopes"]) == {
        "access:servers!server=rosa/",
        "users:activity!user=rosa",
        "read:users:activity!user=rosa",
        "read:users:groups!user=rosa",
        "read:users:name!user=rosa",
    }
    after = rosa.api("GET", "/users/rosa").json()
    assert (after["servers"].keys(), after["admin"]) == (before["servers"].keys(), before["admin"])


def test_the_token_opens_no_other_session(session, person):
    rosa, token, _ = session
    ines = person("ines")
    ines.start(profile="cpu")
    for name, code in (("ines", {403}), ("rosa", {200})):
        answer = requests.get(
            f"{rosa.site.hub_url}/user/{name}/api/status",
            headers={"Authorization": f"token {token}"},
            timeout=60,
            allow_redirects=False,
        )
        assert answer.status_code in code


def test_a3_a_session_has_no_tcp_port_but_its_servers(site, session):
    """Code-Server and a kernel run; both are reached over Unix sockets in the session's private /tmp."""
    rosa, _, node = session
    assert rosa.get("/code-server/").status_code == 200
    rosa.python("pass")
    port = rosa.python(
        "import urllib.parse, os\nprint(urllib.parse.urlsplit(os.environ['JUPYTERHUB_SERVICE_URL']).port)"
    ).strip()
    assert "/opt/code-server" in rosa.shell("ps -eo args")
    uid = rosa.shell("id -u").strip()
    seen = site.run("ss", "-Hltne", node=node).splitlines()
    mine = {line.split()[3] for line in seen if f"uid:{uid} " in line}
    assert {address.rpartition(":")[2] for address in mine} == {port}
    ask = "import ipykernel, json; print(json.dumps(json.loads(ipykernel.connect.get_connection_info())))"
    connection = json.loads(rosa.python(ask))
    assert connection["transport"] == "ipc"
    assert rosa.shell("stat -c %A:%U $JUPYTER_RUNTIME_DIR")[4:9] == "-----"  # nobody else
