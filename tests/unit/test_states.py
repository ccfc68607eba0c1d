"""Every state of a job in Slurm, as people read it: nothing is folded away."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from carme_hub.service import admin_list, history_filter
from carme_hub.spawner import brief, progress
from carme_hub.spawner.answers import PHASES, Phase
from carme_hub.spawner.watcher import View

RUNNING = [state for state, phase in PHASES.items() if phase is Phase.RUNNING]
PENDING = [state for state, phase in PHASES.items() if phase is Phase.PENDING]


def spawner(*, reported: bool = True):
    child = SimpleNamespace(job_id="7", reported=reported)
    return SimpleNamespace(_spawn_pending=not reported, _stop_pending=False, _server=object(), child=child)


@pytest.mark.parametrize("state", PHASES)
def test_c17_what_a_session_is_said_to_do(state):
    said = brief.state_of(spawner(), View(PHASES[state], state, node="node1"))
    if PHASES[state] in {Phase.ENDING, Phase.ENDED}:
        assert said == brief.STOPPING
    elif state in {"SUSPENDED", "STOPPED"}:
        assert said == brief.SUSPENDED
    else:
        assert said == brief.RUNNING
    assert said in admin_list.STATES


@pytest.mark.parametrize("state", RUNNING)
def test_c17_a_start_that_is_paused_says_so(state):
    said = progress.event("7", View(Phase.RUNNING, state, node="node1"))
    paused = progress.PAUSED.get(state)
    assert (said["text"] == paused.text) if paused else ("suspended" not in said["text"])
    assert bool(said["advice"]) is bool(paused)
    assert said["slurm_state"] == state


@pytest.mark.parametrize("state", PENDING)
def test_c17_a_start_that_is_held_or_put_back_says_so(state):
    said = progress.event("7", View(Phase.PENDING, state, "Priority"))
    held = state in {"REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
    assert said["hopeless"] is held
    assert ("holds it there" in said["text"]) is held
    assert ("back into the queue" in said["text"]) is (held or state in {"REQUEUED", "REQUEUE_FED"})
    assert said["text"]


def test_c17_every_state_of_a_job_has_its_place_in_the_history():
    named = {state for states in history_filter.STATES.values() for state in states}
    assert named == set(PHASES)
