"""Hubs that know many idle sessions, without starting each of them through each hub.

A hub learns of its running sessions from its database when it starts; that is what a restart of the hub does.
So each system starts one session for real, the benchmark copies its rows for every idle job of the cluster,
and the hub that starts on the copy looks at all of them and polls them from then on. The jobs are real and
run once, for all three systems.
"""

from __future__ import annotations

import json
import pwd
import re
import shutil
import sqlite3
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carme_hub.demo.layout import NODES

FILES = ("jupyterhub.sqlite", "cookie_secret")
NODE = re.compile(r"\bnode\d+\b")


def moved(state: Any, old_job: str, job: str, node: str, numbers: Mapping[str, int]) -> Any:
    """Return a session's state as it would be with another job on another node, and with other numbers."""
    if isinstance(state, dict):
        return {
            key: numbers[key] if key in numbers else moved(value, old_job, job, node, numbers)
            for key, value in state.items()
        }
    if isinstance(state, list):
        return [moved(value, old_job, job, node, numbers) for value in state]
    if isinstance(state, str):
        return job if state == old_job else NODE.sub(node, state)
    return state


def job_of(state: Any) -> str:
    """Find the job's number in a state, wherever a spawner has put it."""
    if isinstance(state, dict):
        if state.get("job_id"):
            return str(state["job_id"])
        return next((found for value in state.values() if (found := job_of(value))), "")
    return ""


def seed(template: Path, folder: Path, jobs: Mapping[str, tuple[str, str]], port: int) -> None:
    """
    Make a hub's folder with one running session for each job.

    Parameters
    ----------
    template
        Folder of a hub that was killed while exactly one session ran.
    jobs
        Person -> number of the job and its node.
    port
        Where all sessions answer, each on the node of its job: not every hub believes the address in its
        database, some ask Slurm where the node is.
    """
    folder.mkdir(parents=True)
    for name in FILES:
        shutil.copy(template / name, folder)
    database = sqlite3.connect(folder / FILES[0])
    database.row_factory = sqlite3.Row
    with database:
        one = "select * from spawners where server_id is not null"
        spawner = dict(database.execute(one).fetchone())
        server = dict(
            database.execute("select * from servers where id = ?", [spawner["server_id"]]).fetchone()
        )
        user = dict(database.execute("select * from users where id = ?", [spawner["user_id"]]).fetchone())
        state = json.loads(spawner["state"])
        database.execute("delete from spawners")
        database.execute("delete from servers where id = ?", [server["id"]])
        for name, (job, node) in jobs.items():
            base_url = server["base_url"].replace(user["name"], name)
            cookie = server["cookie_name"].replace(user["name"], name)
            where = {"ip": NODES[node], "port": port}
            numbers = {"port": port, "owner": pwd.getpwnam(name).pw_uid}
            new_server = server | where | {"base_url": base_url, "cookie_name": cookie}
            new_spawner = spawner | {
                "user_id": _insert(database, "users", user | {"name": name, "cookie_id": uuid.uuid4().hex}),
                "server_id": _insert(database, "servers", new_server),
                "state": json.dumps(moved(state, job_of(state), job, node, numbers)),
            }
            _insert(database, "spawners", new_spawner)
    database.close()


def _insert(database: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    columns = [name for name in row if name != "id"]
    words = f"insert into {table} ({', '.join(columns)}) values ({', '.join('?' * len(columns))})"  # noqa: S608 - names of JupyterHub's tables
    return int(database.execute(words, [row[name] for name in columns]).lastrowid or 0)
