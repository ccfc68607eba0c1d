"""The file of the history while things change and go wrong: each row once, all of them or none."""

from __future__ import annotations

import asyncio
import csv
import io
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from sqlalchemy.exc import OperationalError
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application

from carme_hub.records import history, open_records
from carme_hub.records.history import Submission
from carme_hub.service import history_pages
from carme_hub.service.history_pages import HistoryFile
from carme_hub.service.person import Person
from carme_hub.service.reading import AWAY

NOW = 1_800_000_000


class Rosas(HistoryFile):
    """The file as Rosa gets it, who has come in."""

    async def prepare(self) -> None:
        self.person = Person("rosa")

    def write_error(self, _status: int, **problem: Any) -> None:
        self.finish(problem["exc_info"][1].sentence)


@pytest.fixture
def engine(tmp_path):
    opened = open_records(f"sqlite:///{tmp_path}/records.sqlite")
    for job in range(1, 6):
        submit(opened, job)
    yield opened
    opened.dispose()


def submit(engine, job):
    history.add_submitted(engine, Submission(cluster="main", job=job, user="rosa", submitted=NOW + job))


@asynccontextmanager
async def served(engine):
    """Yield the file's address."""
    pages = SimpleNamespace(policy=lambda _nonce: "default-src 'self'")
    site = SimpleNamespace(records=engine, pages=pages)
    line, port = bind_unused_port()
    server = HTTPServer(Application([("/history.csv", Rosas)], site=site))
    server.add_socket(line)
    try:
        yield f"http://127.0.0.1:{port}/history.csv?period=all"
    finally:
        server.stop()
        await server.close_all_connections()


@pytest.fixture
def each_piece(monkeypatch):
    """Has something done before each further piece of two rows is read; it is told which one."""
    monkeypatch.setattr(history_pages, "PIECE", 2)
    found, pieces = history.find, []

    def set_up(before):
        def find(*values, **more):
            pieces.append(len(pieces))
            if len(pieces) > 1:
                before(len(pieces))
            return found(*values, **more)

        monkeypatch.setattr(history, "find", find)

    return set_up


async def test_a_session_that_begins_meanwhile_makes_no_row_come_twice(engine, each_piece):
    each_piece(lambda piece: submit(engine, 100 + piece))
    async with served(engine) as address:
        answer = await asyncio.to_thread(requests.get, address, timeout=30)
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["job"] for row in rows] == ["5", "4", "3", "2", "1"]


async def test_a_file_that_cannot_be_read_to_its_end_is_none(engine, each_piece):
    def away(_piece):
        raise OperationalError("SELECT", {}, OSError("gone"))

    each_piece(away)
    async with served(engine) as address:
        answer = await asyncio.to_thread(requests.get, address, timeout=30)
    assert (answer.status_code, answer.text) == (503, AWAY)
