"""Which jobs the hub ends because no session knows them, and whose comments it believes."""

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub import orm
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from carme_hub.spawner import sweep
from carme_hub.spawner.answers import SEPARATOR
from carme_hub.spawner.rows import known_jobs
from carme_hub.spawner.sweep import MarkedJob, Sweep, orphans, parse

HUB = sweep.hub_id(b"secret")


def line(number=7, user="rosa", state="RUNNING", comment=None):
    return SEPARATOR.join([str(number), user, state, comment or sweep.mark(HUB, user, "")])


def job(number=7, user="rosa", owner="rosa", server=""):
    return MarkedJob(number, user, owner, sweep.mark(HUB, owner, server))


def test_a_hub_knows_its_own_mark_and_no_other():
    other = sweep.hub_id(b"another hub's secret")
    text = "\n".join([line(), line(8, comment=sweep.mark(other, "rosa", "")), line(9, comment="(null)")])
    assert parse(text, HUB) == [job()]


@pytest.mark.parametrize(
    ("state", "found"),
    [("PENDING", True), ("RUNNING", True), ("SUSPENDED", True), ("COMPLETING", False), ("CANCELLED", False)],
)
def test_only_a_job_that_goes_on_is_found(state, found):
    assert bool(parse(line(state=state), HUB)) is found


@given(st.text(min_size=1, max_size=40), st.text(max_size=30))
def test_whoever_and_whatever_a_session_is_called_its_mark_is_read_back(name, server):
    found = parse(line(user="x", comment=sweep.mark(HUB, name, server)), HUB)
    assert [one.owner for one in found] == [name]


@given(st.text(max_size=200))
def test_no_comment_breaks_the_reading(comment):
    assert parse("\n".join([line(6), line(7, comment=comment or "x"), line(8)]), HUB)[-1].job_id == 8


@pytest.mark.parametrize(
    ("found", "known", "submitting", "leaving"),
    [
        (job(), {7}, (), ()),  # a session has it
        (job(), (), {job().mark}, ()),  # it is being handed to Slurm: the row comes in a moment
        (job(), (), (), {7}),  # it is being ended already
        (job(user="ravi", owner="rosa"), (), (), ()),  # ravi wrote rosa's mark into his own job
        (job(user="rosa", owner="ravi"), (), (), ()),
        (job(user="root", owner="rosa"), (), (), ()),
    ],
)
def test_a_job_is_left_alone(found, known, submitting, leaving):
    assert orphans([found], known, submitting, leaving) == []


def test_a_job_that_nobody_knows_is_an_orphan():
    others = {sweep.mark(HUB, "rosa", "another")}
    assert orphans([job()], {6, 8}, others, {9}) == [job()]


class Cluster:
    """Slurm, as the test scripts it; the real one is the fault tests'."""

    def __init__(self, answers):
        self.answers = answers

    async def marked(self, _hub, job_id=None):
        if job_id is not None:
            return [one for one in self.said if one.job_id == job_id]
        self.said = self.answers.pop(0) if self.answers else []
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


async def test_a_look_that_fails_is_no_end_of_looking(monkeypatch):
    monkeypatch.setattr(sweep, "FIRST", 0.01)
    monkeypatch.setattr(sweep, "INTERVAL", 0.01)
    ended = []
    one = Sweep(
        Cluster([RuntimeError("no Slurm"), [job()]]), HUB, set, tuple, ended.append, logging.getLogger()
    )
    one.start()
    one.start()
    async with asyncio.timeout(5):
        while not ended:  # noqa: ASYNC110 - a list has no event
            await asyncio.sleep(0.01)
    one._task.cancel()
    assert ended == [job()]


async def test_somebody_who_marks_thousands_of_jobs_keeps_the_hub_from_nothing():
    many = [job(number) for number in range(1, 5000)]
    ended = []
    one = Sweep(Cluster([many]), HUB, set, tuple, ended.append, logging.getLogger())
    await one.look()
    assert len(ended) == sweep.MOST


async def test_a_line_that_somebody_forged_ends_nobodys_job():
    class Forged(Cluster):
        async def marked(self, hub, job_id=None):
            return await super().marked(hub) if job_id is None else []

    ended = []
    one = Sweep(Forged([[job()]]), HUB, set, tuple, ended.append, logging.getLogger())
    assert await one.look() == []
    assert not ended


async def test_lines_that_somebody_forged_keep_no_orphan_from_its_end():
    """Hundreds of lines about one job that is no orphan, and some about jobs that do not exist."""
    forged = [job(1, "noah", "noah", str(number)) for number in range(500)] + [job(99), job(98)]

    class Real(Cluster):
        async def marked(self, hub, job_id=None):
            return await super().marked(hub) if job_id is None else [job()] * (job_id == 7)

    ended = []
    one = Sweep(Real([[*forged, job()]]), HUB, set, tuple, ended.append, logging.getLogger())
    await one.look()
    assert ended == [job()]


async def test_a_job_that_is_written_down_while_the_sweep_looks_is_no_orphan():
    """Its submission ends while the rows are read: what is being submitted was asked for before."""
    rows, loop = set(), asyncio.get_running_loop()
    submission = sweep.submitting(job().mark)
    submission.__enter__()

    def returns():
        rows.add(7)
        submission.__exit__(None, None, None)

    def known():
        # In a thread: the loop goes on meanwhile.
        seen = frozenset(rows)
        asyncio.run_coroutine_threadsafe(asyncio.to_thread(returns), loop).result(5)
        return seen

    ended = []
    one = Sweep(Cluster([[job()]]), HUB, known, tuple, ended.append, logging.getLogger())
    assert await one.look() == []


def test_a_job_that_any_session_has_on_any_cluster_is_known():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    orm.Base.metadata.create_all(engine)
    states = [{"cluster": "big", "job_id": "7"}, {"cluster": "small", "job_id": "8"}, {"job_id": "9"}]
    states += [{"cluster": "local", "job_id": "10"}, {"cluster": "renamed", "job_id": "11"}]
    with Session(engine) as session:
        user = orm.User(name="rosa")
        for number, state in enumerate(states):
            session.add(orm.Spawner(name=str(number), user=user, state=state, server=orm.Server()))
        session.add(orm.Spawner(name="given-up", user=user, state={"cluster": "big", "job_id": "12"}))
        session.commit()
    assert known_jobs(engine) == {7, 8, 9, 10, 11}


def test_a_submission_is_known_while_it_lasts():
    with sweep.submitting("a mark"):
        assert sweep.submitted_now() == {"a mark"}
    assert not sweep.submitted_now()
