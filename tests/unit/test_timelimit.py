"""How long a session may last: what a page offers, what is refused and how, what Slurm's answers say."""

import time

import pytest

from carme_hub.spawner import timelimit
from carme_hub.spawner.accounting import Accounting, Association, Membership, Quality
from carme_hub.spawner.answers import Phase
from carme_hub.spawner.extend import extend
from carme_hub.spawner.limit_pages import parse_body, parse_limit
from carme_hub.spawner.slurm import SlurmError, SlurmUnavailable
from carme_hub.spawner.timelimit import Job, NotExtended, Reservation, TimeLimit, limit_of
from carme_hub.spawner.watcher import View

START = 1_795_357_703
HOUR = 3600
JOB = Job("RUNNING", START, 120, "gpu", "node[1-2]", "", "normal", "research")


@pytest.mark.parametrize(
    ("minutes", "text"),
    [(0, "0 min"), (45, "45 min"), (60, "1 h"), (75, "1 h 15 min"), (1440, "1 d"), (1501, "1 d 1 h 1 min")],
)
def test_minutes_are_written_for_people(minutes, text):
    assert timelimit.spoken(minutes) == text


@pytest.mark.parametrize(
    ("most", "limits"),
    [(0, []), (120, []), (135, [135]), (150, [150]), (180, [150, 180]), (720, [150, 180, 360, 720])],
)
def test_a_page_offers_some_amounts_and_all_that_is_left(most, limits):
    limit = TimeLimit(START, START + 2 * HOUR, most)
    assert [amount.limit for amount in limit.amounts(START + 60)] == limits


def test_what_is_over_cannot_be_extended():
    assert TimeLimit(START, START + HOUR, 720).amounts(START + HOUR) == []


def test_a_page_warns_from_the_first_moment_on():
    limit = TimeLimit(START, START + 2 * HOUR, 0, 900.0)
    assert not limit.is_near(limit.end - 901)
    assert limit.is_near(limit.end - 900)
    assert limit.left(limit.end - 905) == "15 min"
    assert limit.left(limit.end + 60) == "0 min"


@pytest.mark.parametrize(
    "view",
    [
        None,
        View(Phase.PENDING, "PENDING", start=START, end=START + HOUR),
        View(Phase.RUNNING, "RUNNING"),
        View(Phase.ENDED, "TIMEOUT", start=START, end=START + HOUR),
    ],
)
def test_only_a_running_job_has_an_end_that_counts(view):
    assert limit_of(view, 720, [15, 5]) is None


def test_the_limit_is_slurms_and_the_bound_the_profiles():
    view = View(Phase.RUNNING, "RUNNING", start=START, end=START + HOUR)
    assert limit_of(view, 720, [5, 15]) == TimeLimit(START, START + HOUR, 720, 900)
    assert limit_of(view, None, []) == TimeLimit(START, START + HOUR, 0, 0)


def test_squeues_line_is_read():
    line = timelimit.SEPARATOR.join(
        ["RUNNING", str(START), "2:00:00", "gpu", "node[1-2]", "(null)", "normal", "Research"]
    )
    assert timelimit.parse_running(line + "\n") == JOB
    endless = timelimit.SEPARATOR.join(["PENDING", "N/A", "UNLIMITED", "gpu", "", "maint", "normal", "x"])
    assert timelimit.parse_running(endless) == Job("PENDING", None, None, "gpu", "", "maint", "normal", "x")
    assert timelimit.parse_running("") is None


def test_a_partitions_limit_is_read():
    recorded = "PartitionName=cpu AllowGroups=ALL DefaultTime=01:00:00 MaxTime=2-00:00:00 MinNodes=0"
    assert timelimit.parse_partition_limit(recorded) == 2880
    assert timelimit.parse_partition_limit("PartitionName=x MaxTime=UNLIMITED") is None
    with pytest.raises(ValueError, match="MaxTime"):
        timelimit.parse_partition_limit("PartitionName=x")


def test_reservations_are_read_as_slurm_22_05_prints_them():
    recorded = (
        f"ReservationName=maint StartTime={START} EndTime={START + HOUR} Duration=01:00:00 Nodes=node[1-2] "
        "NodeCnt=2 CoreCnt=16 Features=(null) PartitionName=(null) Flags=MAINT,SPEC_NODES TRES=cpu=16 "
        "Users=root Groups=(null) Accounts=(null) Licenses=(null) State=INACTIVE Watts=n/a\n"
        f"ReservationName=matlab StartTime={START} EndTime={START + HOUR} Nodes=(null) Flags=ANY_NODES\n"
    )
    flags = frozenset({"MAINT", "SPEC_NODES"})
    assert timelimit.parse_reservations(recorded) == [
        Reservation("maint", START, START + HOUR, "node[1-2]", flags)
    ]
    assert timelimit.parse_reservations("No reservations in the system\n") == []


@pytest.mark.parametrize(
    ("asked", "most", "job", "partition", "words"),
    [
        (180, 720, None, None, ["not running"]),
        (180, 720, Job("COMPLETING", START, 120, "gpu", "node1", ""), None, ["not running"]),
        (180, 0, JOB, None, ["cannot be extended"]),
        (721, 720, JOB, None, ["12 h in all", "12 h 1 min was asked"]),
        (720, 720, JOB, 240, ["partition gpu", "4 h in all", "12 h was asked"]),
        (720, 720, JOB, 720, []),
        (720, 720, JOB, None, []),
    ],
)
def test_refusals_say_what_was_asked_and_what_is_allowed(asked, most, job, partition, words):
    said = timelimit.refusal(asked, most, job, partition)
    assert bool(said) == bool(words)
    for word in words:
        assert word in said


def reservation(name, start, end, *flags):
    return Reservation(name, START + start, START + end, "node1", frozenset(flags))


@pytest.mark.parametrize(
    ("own", "found", "word"),
    [
        ("", [], ""),
        ("", [(reservation("maint", 4 * HOUR, 5 * HOUR), True)], "maint"),
        ("", [(reservation("maint", 4 * HOUR, 5 * HOUR), False)], ""),
        ("", [(reservation("later", 13 * HOUR, 14 * HOUR), True)], ""),
        ("", [(reservation("over", -HOUR, 0), True)], ""),
        ("class", [(reservation("class", -HOUR, 24 * HOUR), True)], ""),
        ("class", [(reservation("class", -HOUR, 3 * HOUR), True)], "its reservation class ends"),
        ("class", [(reservation("class", -HOUR, 3 * HOUR, "FLEX"), True)], ""),
    ],
)
def test_a_reservation_of_its_nodes_stands_in_the_way(own, found, word):
    job = Job("RUNNING", START, 120, "gpu", "node1", own)
    said = timelimit.obstacle(720, job, found, START + HOUR)
    assert word in said
    assert bool(said) == bool(word)


@pytest.mark.parametrize(
    ("own", "quality", "account", "partition", "word"),
    [
        (None, None, None, "", ""),
        (None, 480, None, "", "QOS normal may last 8 h"),
        (None, None, 480, "", "account research may last 8 h"),
        (None, None, 480, "gpu", "account research may last 8 h"),
        (None, None, 480, "cpu", ""),
        (None, 720, 480, "", ""),  # the QOS counts before the account
        (480, None, None, "", "QOS of-gpu may last 8 h"),
        (480, 720, None, "", "QOS of-gpu may last 8 h"),  # the partition's before the job's
        (720, 480, 480, "", ""),
        (480, "over 720", None, "", ""),
        (720, "over 480", None, "", "QOS normal may last 8 h"),
    ],
)
def test_the_times_of_qos_and_account_hold_for_extensions_too(own, quality, account, partition, word):
    over = isinstance(quality, str)
    flags = frozenset({"overpartqos"} if over else ())
    time_of_qos = int(quality.split()[1]) if over else quality
    qualities = [Quality("normal", flags, time_of_qos), Quality("of-gpu", max_time=own)]
    known = Accounting("carme", frozenset({"limits"}), {quality.name: quality for quality in qualities})
    member = Membership("research", (Association("research", partition, max_time=account),))
    said = timelimit.accounting_refusal(720, JOB, "of-gpu", known, member)
    assert word in said
    assert bool(said) == bool(word)


class Slurm:
    """A controller that can be made to say anything: the real one is in the integration test."""

    def __init__(self, job=JOB, *, partition=2880, fails=None):
        self.job, self.partition, self.fails, self.set = job, partition, fails, []

    async def running(self, _job_id):
        return self.job

    async def partition_bounds(self, _partition):
        return self.partition, ""

    async def reservations(self):
        return []

    async def accounting(self):
        return Accounting()

    async def set_time_limit(self, job_id, minutes):
        if self.fails:
            raise self.fails
        self.set.append((job_id, minutes))


async def test_a_limit_is_set_once_and_never_made_shorter():
    slurm = Slurm()
    assert await extend(slurm, 7, "rosa", 180, 720)
    assert slurm.set == [(7, 180)]
    slurm.job = Job("RUNNING", START, 180, "gpu", "node1", "")
    assert not await extend(slurm, 7, "rosa", 180, 720)
    assert not await extend(slurm, 7, "rosa", 60, 720)
    assert slurm.set == [(7, 180)]
    slurm.job = Job("RUNNING", START, None, "gpu", "node1", "")
    assert not await extend(slurm, 7, "rosa", 180, 720)


@pytest.mark.parametrize("error", [SlurmUnavailable("Slurm is away."), SlurmError("Slurm said no.")])
async def test_what_slurm_does_not_do_is_a_sentence(error):
    with pytest.raises(NotExtended, match="stays as it is"):
        await extend(Slurm(fails=error), 7, "rosa", 180, 720)


async def test_a_refusal_changes_nothing():
    slurm = Slurm()
    with pytest.raises(NotExtended, match="12 h in all"):
        await extend(slurm, 7, "rosa", 10_000, 720)
    assert slurm.set == []


@pytest.mark.parametrize("value", ["180", 180])
def test_a_limit_is_read_from_form_and_api(value):
    assert parse_limit(value) == 180


@pytest.mark.parametrize(
    "value", ["", "x", "-1", "0", "1.5", "٣", "9" * 30, True, None, 0, -5, 1.5, 10**9, [180]]
)
def test_anything_but_whole_minutes_is_refused(value):
    with pytest.raises(ValueError, match="whole number"):
        parse_limit(value)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"180", b"{}", b'{"limit": "180"}', b'{"limit": 180, "job": 1}', b"\xff", b" " * 300],
)
def test_the_api_takes_one_number_and_nothing_else(body):
    with pytest.raises(ValueError, match=r"."):
        parse_body(body)


def test_the_clock_names_the_day_only_when_it_is_another():
    midnight = time.mktime((2026, 11, 23, 0, 0, 0, 0, 0, -1))
    assert " on " not in timelimit.clock(midnight, midnight)
    assert " on " not in timelimit.clock(midnight + 86399, midnight)
    assert " on 22 Nov" in timelimit.clock(midnight - 1, midnight)
    assert " on 23 Nov" in timelimit.clock(midnight, midnight - 1)
