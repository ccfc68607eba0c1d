import pytest

from carme_hub.spawner import course, failure, node, script
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
