"""What Slurm's commands print, read into values: the corners; recorded answers are in test_recorded.py."""

import pytest

from carme_hub.spawner import answers
from carme_hub.spawner.answers import Ending, QueueEntry

# squeue and scontrol of Slurm 22.05.8, recorded on the demo cluster.
QUEUE = (
    "5\x1fRUNNING\x1fNone\x1fnode1\x1f1795335594\x1f1795342794\x1fgpu\x1f4294901755\x1f20004\n"
    "6\x1fPENDING\x1fResources\x1fn/a\x1fN/A\x1fN/A\x1fgpu\x1f4294901754\x1f20004\n"
    "7\x1fPENDING\x1fReqNodeNotAvail, UnavailableNodes:node1\x1fn/a\x1f1795342794\x1fN/A\x1fcpu\x1f42949"
    "\x1f20005\n"
    "slurm_load_jobs: a warning\n"
    "8_[1-3]\x1fPENDING\x1fPriority\x1fn/a\x1fN/A\x1fN/A\x1fgpu\x1f4294901752\x1f20004\n"
)
JOB = (
    "JobId=2 JobName=carme-cpu UserId=rosa(20004) GroupId=rosa(20004) MCS_label=N/A Priority=4294901758 "
    "Nice=0 Account=research QOS=normal JobState=FAILED Reason=NonZeroExitCode Requeue=0 Restarts=0 "
    "BatchFlag=1 Reboot=0 ExitCode=127:0 RunTime=00:00:00 TimeLimit=02:00:00"
)


def line(number, partition, priority, state="PENDING", reason="Priority"):
    return f"{number}\x1f{state}\x1f{reason}\x1fn/a\x1fN/A\x1fN/A\x1f{partition}\x1f{priority}\x1f20004"


def test_the_queue_is_read():
    found, whole = answers.parse_queue(QUEUE, {5, 6, 7, 8, 9})
    assert not whole
    assert found == {
        5: QueueEntry(5, "RUNNING", "", "node1", 1795335594, 1795342794, owner=20004),
        6: QueueEntry(6, "PENDING", "Resources", place=1, owner=20004),
        7: QueueEntry(
            7, "PENDING", "ReqNodeNotAvail, UnavailableNodes:node1", "", 1795342794, place=1, owner=20005
        ),
    }


def test_only_the_wanted_jobs_are_returned():
    assert set(answers.parse_queue(QUEUE, {6})[0]) == {6}


def test_the_place_in_the_queue_is_by_priority_and_then_by_age():
    text = "\n".join(
        [
            line(14, "gpu", 50),
            line(11, "gpu", 50),
            line(12, "gpu", 900),
            line(13, "cpu", 9000),
            line(10, "gpu", 9999, state="RUNNING", reason="None"),
            line(9, "gpu", 0, reason="JobHeldUser"),
            line(8, "gpu", 9999, reason="Dependency"),
            line(15, "cpu,gpu", 70),
        ]
    )
    found, _ = answers.parse_queue(text, range(20))
    assert {number: entry.place for number, entry in found.items()} == {
        12: 1,
        15: 2,  # second in both of its partitions
        11: 3,
        14: 4,
        13: 1,
        10: None,
        9: None,
        8: None,
    }


def test_a_forged_line_needs_what_no_field_can_hold():
    # %j and %k are the owner's own words, with line ends and separators if they like.
    assert not {"%j", "%k", "%o", "%Z", "%w"} & set(answers.QUEUE.values())


def test_a_job_is_read():
    assert answers.parse_job(JOB) == Ending("FAILED", "NonZeroExitCode", 127, 0)
    assert answers.parse_job(JOB, 20004) == answers.parse_job(JOB)
    assert answers.parse_job(JOB, 20005) is None, "somebody else's"
    assert answers.parse_job("slurm_load_jobs error: Invalid job id specified") is None


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        (
            "9\x1fCANCELLED by 20004\x1f0:15\x1fNone\n9.batch\x1fCANCELLED\x1f0:15\x1f\n",
            Ending("CANCELLED", "", 0, 15),
        ),
        (
            "9\x1fFAILED\x1f1:0\x1fNone\n9.batch\x1fOUT_OF_MEMORY\x1f0:125\x1f\n",
            Ending("OUT_OF_MEMORY", "", 1, 0),
        ),
        ("99\x1fFAILED\x1f1:0\x1fNone\n", None),
        ("", None),
    ],
)
def test_accounting_is_read(text, ending):
    assert answers.parse_accounting(text, 9) == ending


def test_an_answer_with_a_line_that_is_not_squeues_is_not_whole():
    line = answers.SEPARATOR.join(("7", "RUNNING", "None", "node1", "N/A", "N/A", "cpu", "1", "20004"))
    assert answers.parse_queue("", {7}) == ({}, True)
    assert answers.parse_queue(f"{line}\n\n{line}\n", ())[1]
    for broken in ("xyz", line[:20], f"{line}\nslurm_load_jobs error: Unable to contact", f"x{line}"):
        assert not answers.parse_queue(broken, ())[1]
        assert not answers.parse_queue(f"{broken}\n{line}", ())[1]
