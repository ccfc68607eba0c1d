"""An admin helps somebody who has lost a phone, in a real browser, on a hub of its own."""

from __future__ import annotations

import contextlib

import pyotp
import pytest
from playwright.sync_api import Error, Page, expect

from carme_hub.authenticator import throttle
from carme_hub.authenticator.audit import Event
from tests.browser import axe
from tests.browser.conftest import PATIENCE, RESULTS, listen
from tests.integration.gate_world import PASSWORDS, code, gate_config, hub, slapd

LONG_NAME = "n" * 32


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    with slapd(folder) as directory, hub(folder / "hub", gate_config(directory)) as running:
        yield running


@pytest.fixture
def world(gate):
    """Somebody in every state, and much to read."""
    secret = gate.enrol("alice")
    gate.store.add_totp("alice", pyotp.random_base32(), "W" * 64)
    for _ in range(throttle.CODE.most):
        gate.store.attempts.fail(throttle.CODE, "alice")
    gate.store.enrolments.new_token(LONG_NAME, 1)
    for address in ("2001:db8:1234:5678:9abc:def0:1234:5678", "192.0.2.7"):
        gate.store.audit.write(Event("login", "refused", "code", account="alice", address=address))
    gate.store.audit.write(Event("device-added", account=LONG_NAME, detail="<b>" + "W" * 61))
    return secret


@pytest.fixture(params=[True, False], ids=["with scripts", "without scripts"])
def admin(request, browser, gate):
    """Carol's browser, logged in; and what its pages complained of."""
    context = browser.new_context(base_url=gate.url, java_script_enabled=request.param)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    said: list[str] = []
    listen(page, said)
    page.goto("/hub/login?next=%2Fhub%2Fadmin%2Fpeople")
    page.get_by_label("User name").fill("carol")
    page.get_by_label("Password").fill(PASSWORDS["carol"])
    page.get_by_label("One-time code").fill(code(gate.enrol("carol")))
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_load_state()
    page.goto("/hub/admin/people")
    yield page, said
    RESULTS.mkdir(exist_ok=True)
    with contextlib.suppress(Error):
        page.screenshot(path=RESULTS / f"{request.node.name}.png")
    context.close()


def confirm(gate, page: Page, action: str, otp: str | None = None) -> None:
    """Choose an action, type one's own code, send it."""
    page.get_by_label(action, exact=True).check()
    secret = pyotp.random_base32()
    gate.store.add_totp("carol", secret, "One more")
    page.get_by_label("Your own password").fill(PASSWORDS["carol"])
    page.get_by_label("One-time code").fill(code(secret) if otp is None else otp)
    page.get_by_role("button", name="Confirm").click()


def test_rule_10_a_lost_phone(gate, world, admin):
    page, said = admin
    page.get_by_label("Names that begin with").fill("al")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name="alice").click()
    expect(page.get_by_text("locked", exact=True)).to_be_visible()

    confirm(gate, page, "Reset", "000000")
    expect(page.get_by_role("alert")).to_contain_text("Your own password or code was not right")
    expect(page.get_by_label("Reset", exact=True)).to_be_checked()
    assert len(gate.store.devices("alice")) == 2
    said.clear()  # the 403

    confirm(gate, page, "Unlock")
    expect(page.get_by_role("status")).to_contain_text("alice can sign in again")
    assert gate.login("alice", code(world)).status_code == 302

    confirm(gate, page, "Reset")
    expect(page.get_by_role("status")).to_contain_text("2 devices removed")
    expect(page.get_by_text("None: alice cannot sign in.")).to_be_visible()

    page.get_by_label("Valid for").fill("5")
    confirm(gate, page, "Make an enrolment token")
    token = page.get_by_label("Enrolment token for alice").input_value()
    assert gate.store.enrolments.token_is_valid("alice", token)

    page.get_by_role("link", name="Show all").click()
    expect(page.get_by_role("row").nth(1)).to_contain_text("Enrolment token made")
    expect(page.get_by_role("row").nth(1)).to_contain_text("by carol")
    assert token not in page.content()
    assert said == []


@pytest.mark.parametrize("admin", [True], indirect=True, ids=[""])
@pytest.mark.usefixtures("world")
def test_every_page_is_good_for_everybody_and_every_field_has_a_name(admin):
    page, said = admin
    for path in (
        "people",
        "people?name=nobody",
        "people/alice",
        f"people/{LONG_NAME}",
        "people/carol",
        "audit",
    ):
        page.goto(f"/hub/admin/{path}")
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        axe.assert_good(page)
        page.set_viewport_size(axe.PHONE)
        cut_off = "[...document.querySelectorAll('.card')].filter(c => c.scrollWidth > c.clientWidth).length"
        assert page.evaluate(cut_off) == 0, path
        for field in page.locator(".container input:not([type=hidden]):not([hidden])").all():
            assert field.evaluate("field => field.labels.length") == 1, field
    assert said == []
