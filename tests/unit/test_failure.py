import pytest

from carme_hub.spawner import answers, course, failure, node, script
from carme_hub.spawner.answers import Ending
from carme_hub.spawner.reporter import EXIT_NOT_REPORTED

FATAL = 'INFO: x\nFATAL:   While checking image: could not open image "/srv/images/base.sif"\nbye\n'


@pytest.mark.parametrize(
    ("ending", "log", "words"),
    [
        (Ending("OUT_OF_MEMORY"), "", "more memory than its limit of 2 GiB on each node"),
        (Ending("TIMEOUT"), "", "time limit of 2 h was over"),
        (Ending("NODE_FAIL", "NodeDown"), "", "compute node failed"),
        (Ending("CANCELLED"), "", "was cancelled"),
        (Ending("PREEMPTED"), "", "higher priority"),
        (Ending("FAILED", "NonZeroExitCode", script.EXIT_LOG), "", "home folder /home/rosa"),
        (Ending("FAILED", "", node.EXIT_IMAGE), FATAL, "the image /srv/images/base.sif cannot be read"),
        (Ending("FAILED", "", node.EXIT_SCRATCH), "", "no room"),
        (Ending("FAILED", "", script.EXIT_HOME_FULL), "", "home folder /home/rosa is full"),
        (
            Ending("FAILED", "", node.EXIT_MOUNT),
            "carme: the mount data is missing on node2: /d has to be on nfs, but nothing is mounted there\n",
            "mount data is missing on node2: /d has to be on nfs, but nothing is mounted there. Please",
        ),
        (Ending("FAILED", "", node.EXIT_MOUNT), "", "a mount is missing on its node"),
        (Ending("FAILED", "", node.EXIT_APPTAINER), "", "no Apptainer"),
        (Ending("FAILED", "", EXIT_NOT_REPORTED), "", "could not reach the hub"),
        (Ending("FAILED", "NonZeroExitCode", 255), FATAL, "could not open image"),
        (Ending("FAILED", "NonZeroExitCode", 1), "Traceback", "exit code 1."),
        (Ending("FAILED", "RaisedSignal:9", 0, 9), "", "signal 9"),
        (Ending("COMPLETED"), "", "stopped by itself"),
        (Ending("SOMETHING_NEW", "Odd", 3), "", "exit code 3 (Odd)"),
        (None, "", "does not know its job"),
    ],
)
def test_every_end_has_its_sentence(ask, ending, log, words):
    assert words in failure.sentence(ending, ask({}), "/home/rosa", log)


@pytest.mark.parametrize(
    ("code", "words"), [(course.EXIT_MATERIAL, "/srv/courses/ml101"), (course.EXIT_COPY, "/mia/courses")]
)
def test_course_material(ask, student, code, words):
    assert words in failure.sentence(Ending("FAILED", "", code), ask({}, student), "/home/mia")


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("[I] No kernels for 7215 seconds; shutting down.\n", "not used for 2 h"),
        ("[I] No kernels for 12 seconds; shutting down.\n", "not used for 1 min"),
        ("[I] No activity for 3600 seconds; shutting down.\n", "not used for 1 h"),
        ("[I] Shutting down on /api/shutdown request.\n", "shut down from inside"),
        ("[I] Shutting down 2 kernels\n", "its server stopped by itself"),
        ("", "its server stopped by itself"),
    ],
)
def test_c15_a_server_that_ended_itself_says_why(ask, log, words):
    assert words in failure.sentence(Ending("COMPLETED"), ask({}), "/home/rosa", log, ran=True)
    assert "shut" not in failure.sentence(Ending("TIMEOUT"), ask({}), "/home/rosa", log, ran=True)


JOB = "JobId=7 UserId=rosa(1000) JobState={} Reason=None ExitCode=0:0 TimeLimit={} NumNodes={} {}TRES={}"
COUNTED = "7\x1f{}\x1f0:0\x1fNone\x1f{}\x1f{}\x1f{}\n"


@pytest.mark.parametrize(
    ("limit", "raw", "words"),
    [
        ("00:02:00", "2", "2 min"),
        ("05:00:00", "300", "5 h"),
        ("1-06:00:00", "1800", "1 d 6 h"),
        ("UNLIMITED", "UNLIMITED", "2 h"),
    ],
)
def test_c16_the_time_limit_is_the_jobs_and_not_the_requests(ask, limit, raw, words):
    shown = answers.parse_job(JOB.format("TIMEOUT", limit, 1, "", "cpu=1,mem=1G,node=1"))
    counted = answers.parse_accounting(COUNTED.format("TIMEOUT", raw, "cpu=1,mem=1G,node=1", 1), 7)
    for ending in (shown, counted):
        assert f"its time limit of {words} was over" in failure.sentence(ending, ask({}), "/home/rosa")


@pytest.mark.parametrize(
    ("tres", "nodes", "words"),
    [
        ("cpu=1,mem=3G,node=1,billing=1", 1, "3 GiB"),
        ("cpu=4,mem=3G,node=2", 2, "1.5 GiB"),
        ("billing=2,mem=512M", 1, "512 MiB"),
        ("cpu=1,mem=0.50T,node=1", 1, "512 GiB"),
        ("cpu=1,node=1,gres/gpumem=7G", 1, "2 GiB"),  # that is not its memory; as asked for then
        ("", 1, "2 GiB"),
    ],
)
def test_c16_the_memory_is_the_jobs_and_not_the_requests(ask, tres, nodes, words):
    for name in ("", "Alloc"):  # as older and newer releases call it
        ending = answers.parse_job(JOB.format("OUT_OF_MEMORY", "01:00:00", nodes, name, tres))
        assert f"limit of {words} on each node" in failure.sentence(ending, ask({}), "/home/rosa")
    counted = answers.parse_accounting(COUNTED.format("OUT_OF_MEMORY", "60", tres, nodes), 7)
    assert f"limit of {words} on each node" in failure.sentence(counted, ask({}), "/home/rosa")


def test_c16_what_is_not_on_offer_any_more_has_its_sentence_too():
    for state, words in (
        ("TIMEOUT", "time limit of 2 min"),
        ("OUT_OF_MEMORY", "limit of 1 GiB on each node"),
    ):
        ending = answers.parse_job(JOB.format(state, "00:02:00", 1, "", "cpu=1,mem=1G,node=1"))
        assert words in failure.sentence(ending, None, "/home/rosa", ran=True)
    assert "its time limit was over" in failure.sentence(Ending("TIMEOUT"), None, "/home/rosa")
    assert "exit code 98" in failure.sentence(Ending("FAILED", "", 98), None, "/home/rosa")


def test_c16_what_an_older_accounting_does_not_say_is_as_it_was_asked_for(ask):
    told = answers.parse_accounting("7\x1fTIMEOUT\x1f0:0\x1fNone\n", 7)
    assert "its time limit of 2 h was over" in failure.sentence(told, ask({}), "/home/rosa")


def test_the_log_is_shown_as_plain_text():
    log = "".join(f"line {number}\n" for number in range(50)) + "\x1b[31m<script>alert(1)</script>\x07\n"
    page = failure.as_html("a < b", log)
    assert page.startswith("a &lt; b<details")
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    assert "\x07" not in page
    assert "line 49" in page
    assert "line 10" not in page
    assert "<pre" not in failure.as_html("x", "")


def test_what_a_session_writes_acts_on_no_terminal_and_forges_no_line(ask):
    log = "FATAL: \x1b]0;owned\x07\x1b[2Jadmin: all is well\r[I 2026 JupyterHub] \u202eforged\x9b2J\n"
    said = failure.sentence(Ending("FAILED", exit_code=255), ask(), "/home/rosa", log)
    assert "admin: all is well" in said
    assert said.isprintable()
