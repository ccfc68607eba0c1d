"""While the site takes no new sessions: who is refused on which path, and who is let in."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from carme_hub.spawner import closed
from carme_hub.spawner.errors import SessionError
from tests.unit import test_spawner as world

make, slurm = world.make, world.slurm
SENTENCE = "The cluster is down until nine."


@pytest.fixture
def one(make, monkeypatch):
    """Rosa's session, on a site that says `SENTENCE`."""
    monkeypatch.setattr(closed, "_ASKED", [])
    monkeypatch.setattr(closed, "get_scopes_for", lambda user: user.scopes)
    made = make()
    made.user.admin, made.user.scopes = False, {"admin:servers!group=class", "servers!user=rosa"}
    return made


@dataclass
class Says:
    """What the site's database would say."""

    said: str

    async def sentence(self):
        return self.said

    def notice(self):
        return self.said or None


@pytest.fixture
def shut(one):
    closed.ask(Says(SENTENCE))
    return one


async def test_a_start_by_program_is_refused_before_anything_is_submitted(shut, slurm):
    shut.user_options = {"gpus": 1}
    error = await world.refusal(shut.start())
    assert (error.status_code, error.jupyterhub_message, error.reason) == (503, SENTENCE, "closed")
    assert not slurm.submitted
    assert shut.child is None


async def test_a_form_is_refused_and_comes_back_as_it_was_filled_in(shut, monkeypatch):
    with pytest.raises(SessionError, match="down until nine"):
        await shut.run_options_from_form({"profile": ["gpu"], "gpus": ["2"]})
    monkeypatch.setattr(closed, "_ASKED", [])
    assert (await shut.form()).profiles[0].values["gpus"] == "2"


async def test_the_start_page_has_no_fields(shut):
    form = await shut.form()
    assert form.closed
    assert (form.profiles, form.courses) == ((), ())
    shut.user.admin = True
    form = await shut.form()
    assert form.profiles
    assert not form.closed


@pytest.mark.usefixtures("shut")
def test_all_pages_are_told_at_once():
    assert closed.notice() == SENTENCE
    closed._ASKED[:] = [Says("")]
    assert closed.notice() is None


@pytest.mark.parametrize(
    ("admin", "scopes", "let_in"),
    [
        (True, set(), True),
        (False, {"admin:servers"}, True),
        (False, {"admin:servers!group=class"}, False),
        (False, {"servers"}, False),
        (False, set(), False),
    ],
)
async def test_admins_are_let_in(shut, admin, scopes, let_in):
    shut.user.admin, shut.user.scopes = admin, scopes
    assert (await closed.sentence(shut.user) == "") is let_in


async def test_an_open_site_lets_everybody_in(one):
    closed.ask(Says(""))
    assert await closed.sentence(one.user) == ""
    await closed.check(one.user)
