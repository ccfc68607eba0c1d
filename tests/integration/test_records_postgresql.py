"""History, notices, announcements, samples, maintenance: on a real PostgreSQL server."""

import itertools

import pytest

from carme_hub.records import open_records
from tests.integration.postgresql_world import running_server
from tests.records_cases import RecordsCases

NAMES = (f"records{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server():
    with running_server() as running:
        yield running


@pytest.fixture
def url(server):
    name = next(NAMES)
    server.sql("postgres", f"CREATE DATABASE {name}")
    return server.url(name)


@pytest.fixture
def engine(url):
    opened = open_records(url)
    yield opened
    opened.dispose()


class TestOnPostgresql(RecordsCases):
    """All that has to be true of the records."""
