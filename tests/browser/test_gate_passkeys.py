"""A passkey in a real browser, from its making to its removal; Chromium plays the device that keeps it."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Page, expect

from tests.integration.gate_world import PASSWORDS, code, gate_config, hub, slapd

PATIENCE = 30_000  # milliseconds
DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
}
USE = re.compile("Use a passkey")
MAKE = re.compile("Make the passkey")


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("passkeys")
    # The one name that browsers take without HTTPS. The port is known where the file is read.
    origin = 'c.CarmeAuthenticator.passkey_origin = c.JupyterHub.bind_url.replace("127.0.0.1", "localhost")\n'
    csp = "import carme_hub\ncarme_hub.configure(c, service=None)\nc.JupyterHub.spawner_class = 'simple'\n"
    with (
        slapd(folder / "directory") as directory,
        hub(folder / "hub", csp + gate_config(directory) + origin) as running,
    ):
        running.address = running.url.replace("127.0.0.1", "localhost")
        yield running


@pytest.fixture
def page(browser, gate):
    """An empty page that tells of what its policy stopped; and a device that is asked for passkeys."""
    context = browser.new_context(base_url=gate.address)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda said: page.wrong.append(said.text) if "Security Policy" in said.text else None)
    page.tools = context.new_cdp_session(page)
    page.tools.send("WebAuthn.enable")
    page.device = page.tools.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})["authenticatorId"]
    page.ready = lambda is_ready: page.tools.send(
        "WebAuthn.setAutomaticPresenceSimulation", {"authenticatorId": page.device, "enabled": is_ready}
    )
    page.ready(True)
    yield page
    assert page.wrong == []
    context.close()


def new_device(gate) -> str:
    """Give Alice a device, and nothing to be told of at her next login; returns its secret."""
    secret = gate.enrol("alice")
    for notice in gate.store.audit.notices("alice"):
        gate.store.audit.seen("alice", notice.id)
    return secret


def fill_in(page: Page, username: str = "alice") -> None:
    page.goto("/hub/login?next=/hub/account")
    page.get_by_label("User name").fill(username)
    page.get_by_label("Password", exact=True).fill(PASSWORDS[username])


def log_in(page: Page, otp: str) -> None:
    fill_in(page)
    page.locator("[name=otp]").fill(otp)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/hub/account")


def add(page: Page, otp: str, name: str) -> None:
    page.goto("/hub/account/passkey")
    page.locator("[name=name]").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORDS["alice"])
    page.locator("[name=otp]").fill(otp)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("cannot make a passkey")).to_be_hidden()
    page.get_by_role("button", name=MAKE).click()


def test_from_the_first_login_to_the_passkeys_end(gate, page):
    secret = new_device(gate)
    log_in(page, code(secret, -1))
    page.get_by_role("link", name="Add a passkey").click()
    page.wait_for_url("**/hub/account/passkey")
    add(page, code(secret), "My <laptop>")
    page.wait_for_url("**/hub/account?done=device-added")
    expect(page.get_by_text("My <laptop>").first).to_be_visible()
    (kept,) = page.tools.send("WebAuthn.getCredentials", {"authenticatorId": page.device})["credentials"]
    assert (kept["rpId"], kept["isResidentCredential"]) == ("localhost", True)

    page.goto("/hub/logout")
    fill_in(page)
    page.get_by_role("button", name=USE).click()
    page.wait_for_url("**/hub/account/notices*")
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url("**/hub/account")
    assert gate.store.audit.entries("alice")[0].detail == "passkey: My <laptop>"

    page.get_by_role("link", name="Remove My <laptop>").click()
    page.get_by_label("Password", exact=True).fill(PASSWORDS["alice"])
    page.get_by_role("button", name=USE).click()  # it proves its owner once more
    page.wait_for_url("**/hub/account?done=device-removed")
    assert [device.kind for device in gate.store.devices("alice")] == ["totp"]

    page.goto("/hub/logout")
    fill_in(page)
    page.get_by_role("button", name=USE).click()
    expect(page.locator("#login_error")).to_contain_text("was not right")
    assert gate.store.account("alice").code_failures == 1


def test_an_answer_that_went_to_the_token_api_is_used_up(gate, page):
    secret = new_device(gate)
    log_in(page, code(secret, -1))
    add(page, code(secret), "Laptop")
    page.wait_for_url("**/hub/account?done=device-added")
    page.goto("/hub/logout")
    fill_in(page)
    sent = []
    page.route("**/hub/login?*", lambda route: (sent.append(route.request.post_data), route.abort()))
    page.get_by_role("button", name=USE).click()
    page.wait_for_event("requestfailed")
    page.unroute("**/hub/login?*")
    fields = {name: value for name, (value,) in parse_qs(sent[0]).items()}
    assert json.loads(fields["otp"])["type"] == "public-key"
    assert gate.token("alice", fields["otp"]).status_code == 201
    assert gate.token("alice", fields["otp"]).status_code == 403
    gate.store.unlock("alice")
    assert gate.login("alice", fields["otp"]).status_code == 403


def test_what_goes_wrong_is_said_and_can_be_tried_again(gate, page):
    secret = new_device(gate)
    page.goto("/hub/login")
    page.get_by_role("button", name=USE).click()  # without a name
    assert page.evaluate("document.activeElement.name") == "username"
    fill_in(page)
    page.get_by_role("button", name=USE).click()  # the device has none
    expect(page.get_by_role("alert").filter(has_text="No passkey was used")).to_be_visible()
    expect(page.get_by_role("button", name=USE)).to_be_enabled()
    page.route("**/hub/login/challenge", lambda route: route.abort())
    page.get_by_role("button", name=USE).click()
    expect(page.get_by_role("alert").filter(has_text="did not work")).to_be_visible()
    page.unroute("**/hub/login/challenge")

    log_in(page, code(secret, -1))
    add(page, code(secret), "Laptop")
    page.wait_for_url("**/hub/account?done=device-added")
    add(page, code(secret, 1), "The same")
    expect(page.get_by_role("alert").filter(has_text="has a passkey")).to_be_visible()
    assert len(gate.store.devices("alice")) == 2


def test_the_button_is_only_where_it_works(gate, browser):
    """Not without scripts, and not at an address for which no passkey can be made."""
    for address, has_scripts in ((gate.url, True), (gate.address, False), (gate.address, True)):
        context = browser.new_context(base_url=address, java_script_enabled=has_scripts)
        page = context.new_page()
        page.goto("/hub/login")
        button = page.get_by_role("button", name=USE)
        if (address, has_scripts) == (gate.address, True):
            expect(button).to_be_visible()
        else:
            page.wait_for_load_state("networkidle")
            expect(button).to_be_hidden()
        context.close()
