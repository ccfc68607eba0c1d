"""History, notices, announcements, samples, maintenance: on a real SQLite file."""

import pytest

from carme_hub.records import open_records
from tests.records_cases import RecordsCases


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'state' / 'carme.sqlite'}"


@pytest.fixture
def engine(url):
    opened = open_records(url)
    yield opened
    opened.dispose()


class TestOnSqlite(RecordsCases):
    """All that has to be true of the records."""
