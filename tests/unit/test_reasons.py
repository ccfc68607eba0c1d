"""Slurm's reasons for a waiting job: all that three releases know, and what none of them knows."""

from pathlib import Path

import pytest

from carme_hub.spawner.reasons import LONGEST, explain

FIXTURES = Path(__file__).parents[1] / "fixtures"
# What the libraries of 22.05.8, 24.11.5 and 26.05.5 answer (job_state_reason_string), and what their
# man squeue lists under JOB REASON CODES.
RELEASES = {path.parent.name: path.read_text().split() for path in FIXTURES.glob("slurm-*/reasons.txt")}
EVERY = sorted({word for words in RELEASES.values() for word in words})
# Those that are no words of Slurm's any more.
UNKNOWN = "which this page cannot explain"


def test_the_reasons_of_three_releases_are_here():
    assert set(RELEASES) == {"slurm-22.05", "slurm-24.11", "slurm-26.05"}
    assert {"MpiPortsBusy", "PowerReserved", "QOSMaxGRESPerUser", "WaitingForScheduling"} <= set(EVERY)


@pytest.mark.parametrize("word", EVERY)
def test_every_reason_is_explained_and_says_what_to_do(word):
    reason = explain(word)
    assert UNKNOWN not in reason.text
    assert word not in reason.text or word in {"Resources", "Priority"}
    for sentence in (reason.text, reason.advice):
        assert sentence[0].isupper()
        assert sentence.endswith(".")


def test_no_reason_and_none_are_the_same():
    assert explain("") == explain("None") == explain("(null)")
    assert not explain("").hopeless


@pytest.mark.parametrize(
    ("word", "text", "advice", "hopeless"),
    [
        ("Resources", "next in line", "wait", False),
        ("Priority", "higher priority", "shorter time limit", False),
        ("QOSMaxGRESPerUser", "more GPUs than its QOS", "stop one that you do not need", False),
        ("QOSMaxJobsPerUserLimit", "as many running jobs", "stop one", False),
        ("AssocGrpGRES", "all other jobs of your account", "asks for less", False),
        ("AssocGrpGRESMinutes", "GPU hours", "administrators", True),
        ("AssocGrpCPURunMinutesLimit", "your account's running jobs", "shorter time limit", False),
        ("MaxGRESRunMinsPerUser", "your running jobs", "shorter time limit", False),
        ("MaxCpuPerAccount", "your account's other jobs", "asks for less", False),
        ("QOSMaxMemoryPerNode", "more memory on one node", "less memory", True),
        ("QOSMinGRES", "too little (GPUs)", "another QOS", True),
        ("QOSMaxWallDurationPerJobLimit", "time limit is longer", "less time", True),
        ("PartitionTimeLimit", "longer", "less time", True),
        ("PartitionDown", "nothing start", "open it again", False),
        ("JobHeldAdmin", "on hold", "administrators why", True),
        ("JobHeldUser", "on hold", "scontrol release", True),
        ("ReqNodeNotAvail, UnavailableNodes:node[1-3]", "(node[1-3])", "shorter time limit", False),
        ("ReqNodeNotAvail,_UnavailableNodes:node1", "(node1)", "shorter time limit", False),
        ("ReqNodeNotAvail, Reserved for maintenance", "maintenance", "time limit that ends before", False),
        ("ReqNodeNotAvail,_May_be_reserved_for_other_job", "set aside", "shorter", False),
        ("launch_failed_requeued_held", "could not start it", "administrators", True),
        ("job requeued in held state", "on hold", "administrators", True),
        ("RaisedSignal:9(Killed)", "signal", "anew", True),
        (
            "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions",
            "down",
            "free again",
            False,
        ),
    ],
)
def test_a_reason_means_something_for_the_person(word, text, advice, hopeless):
    reason = explain(word)
    assert text in reason.text
    assert advice in reason.advice
    assert reason.hopeless is hopeless


def test_an_unknown_reason_is_shown_as_it_is_and_said_to_be_unknown():
    reason = explain("OnlyOnTuesdays, except in May")
    assert "OnlyOnTuesdays, except in May" in reason.text
    assert UNKNOWN in reason.text
    assert "administrators" in reason.advice
    assert not reason.hopeless


@pytest.mark.parametrize("word", ["x" * 11000, "ReqNodeNotAvail, UnavailableNodes:" + "n1," * 5000])
def test_a_reason_is_never_longer_than_a_page_holds(word):
    assert len(explain(word).text) < LONGEST + 200


def test_control_characters_stay_out():
    text = explain("a\x1b[31mb\x00\u202ec").text
    assert text.isprintable()
