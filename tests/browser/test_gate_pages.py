"""The gate's own pages in a real browser, under the site's Content-Security-Policy, mostly by keyboard."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Error, expect

from tests.browser import axe
from tests.browser.conftest import RESULTS, listen
from tests.integration.gate_world import PASSWORDS, gate_config, hub, slapd
from tests.support import Codes, until

CONFIG = """
c.JupyterHub.default_url = "/hub/token"  # these people have no accounts on this machine to start anything
"""
TABLET = "Tablet <at> home"
PHONE = {"width": 360, "height": 740}


class UnhurriedCodes(Codes):
    """Codes that stay valid for as long as it takes to type them."""

    def next(self) -> str:
        until(lambda: time.time() % 30 < 20, "the next time step", 30)
        return super().next()


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    with (
        slapd(folder / "slapd") as directory,
        hub(folder / "hub", gate_config(directory) + CONFIG) as running,
    ):
        yield running


@pytest.fixture
def visit(browser, gate, request):
    """Make pages of new, unknown visitors; complaints of their browsers are the test's failures."""
    complaints, contexts = [], []

    def new(**options):
        context = browser.new_context(base_url=gate.url, accept_downloads=True, **options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        listen(page, complaints)
        return page

    yield new
    RESULTS.mkdir(exist_ok=True)
    for number, context in enumerate(contexts):
        for page in context.pages:
            with contextlib.suppress(Error):
                page.screenshot(path=RESULTS / f"{request.node.name}-{number}.png", full_page=True)
        context.close()
    # What is refused is told by its status, and Chromium writes that to the console.
    assert [text for text in complaints if not re.search(r"status of 40[03]", text)] == []


def type_form(page, *texts):
    """Fill in a form by keyboard, from the field that has the focus on, and send it."""
    page.wait_for_function("document.activeElement.matches('input')")  # a moment after the page has come
    for number, text in enumerate(texts):
        if number:
            page.keyboard.press("Tab")
        page.keyboard.type(text)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def focused(page):
    return page.evaluate("document.activeElement.name")


def sign_in(page, username, otp):
    page.goto("/hub/login?next=/hub/token")
    type_form(page, username, PASSWORDS[username], otp)


def shoot(page, name):
    """Look at a page with axe; keep a picture, in both themes and on a phone, for whoever wants to look."""
    axe.assert_good(page)
    folder = Path(RESULTS) / "gate"
    folder.mkdir(parents=True, exist_ok=True)
    size = page.viewport_size
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for width, viewport in (("wide", size), ("phone", PHONE)):
            page.set_viewport_size(viewport)
            page.screenshot(path=folder / f"{name}-{width}-{theme}.png", full_page=True)
    page.set_viewport_size(size)
    page.emulate_media(color_scheme="light")


def secret_on(page, gate):
    secret = page.get_by_label("Or type this secret into the app").input_value().replace(" ", "")
    gate.issued.append(secret)
    return secret


def codes_on(page):
    return page.locator("#recovery_codes li").all_inner_texts()


def enrol(page, gate):
    """From a token to recovery codes; returns what makes the device's codes, and those."""
    token = gate.store.enrolments.new_token("erin", 1)
    page.goto("/hub/enrol")
    assert focused(page) == "username"
    shoot(page, "enrol")
    type_form(page, "erin", PASSWORDS["erin"], "not the token", "Phone")
    expect(page.get_by_role("alert").first).to_contain_text("Name, password or token was not right")
    assert focused(page) == "password"
    shoot(page, "enrol-refused")
    type_form(page, PASSWORDS["erin"], token, "Phone")
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    phone = UnhurriedCodes(secret_on(page, gate))
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    shoot(page, "enrol-secret")
    page.get_by_label("The code that the app shows now").focus()
    type_form(page, "000000")
    expect(page.get_by_role("alert").first).to_contain_text("That code does not fit")
    assert focused(page) == "otp"
    shoot(page, "enrol-wrong-code")
    type_form(page, phone.next())
    expect(page.get_by_role("heading", name="Your recovery codes")).to_be_visible()
    return phone, codes_on(page)


def keep(page, codes):
    """Download and print recovery codes, and go on."""
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "recovery-codes.txt"
    assert set(codes) <= set(Path(download.value.path()).read_text().splitlines())
    page.get_by_role("button", name="Print").click()
    assert page.evaluate("window.printed")
    shoot(page, "recovery-codes")
    page.emulate_media(media="print")
    expect(page.get_by_role("link", name="Download")).to_be_hidden()
    expect(page.locator("#recovery_codes")).to_be_visible()
    expect(page.locator("nav")).to_be_hidden()
    page.emulate_media(media="screen")
    page.get_by_role("link", name="I have kept them").press("Enter")


def add_tablet(page, gate, phone):
    """Add a second device; returns what makes its codes."""
    page.get_by_role("link", name="Add a device").press("Enter")
    page.wait_for_url("**/account/device")
    assert focused(page) == "name"
    shoot(page, "add-device")
    type_form(page, TABLET, PASSWORDS["erin"], "000000")
    expect(page.get_by_role("alert").first).to_contain_text("Password or code was not right")
    assert focused(page) == "password"
    shoot(page, "add-device-refused")
    page.get_by_label("Name of the device").focus()
    type_form(page, TABLET, PASSWORDS["erin"], phone.next())
    tablet = UnhurriedCodes(secret_on(page, gate))
    shoot(page, "add-device-secret")
    page.get_by_label("The code that the app shows now").focus()
    type_form(page, tablet.next())
    expect(page.get_by_role("status")).to_contain_text("The device was added")
    expect(page.get_by_role("link", name=f"Remove {TABLET}")).to_be_visible()
    shoot(page, "account")
    return tablet


def test_the_whole_way_by_keyboard(gate, visit):
    page = visit()
    page.add_init_script("window.print = () => { window.printed = true; }")
    phone, codes = enrol(page, gate)
    keep(page, codes)

    page.wait_for_url("**/hub/login?enrolled=1")
    type_form(page, "erin", PASSWORDS["erin"], phone.next())
    expect(page.get_by_role("heading", name="Changes to your account")).to_be_visible()
    expect(page.get_by_text("The device “Phone” was set up.")).to_be_visible()
    shoot(page, "notices")
    page.keyboard.press("Enter")
    page.wait_for_url("**/hub/token")

    page.get_by_role("link", name="Account security").press("Enter")
    expect(page.get_by_role("heading", name="Account security")).to_be_visible()
    expect(page.get_by_text("The only device cannot be removed.")).to_be_visible()
    expect(page.locator("time[data-local][title$=UTC]").first).to_be_visible()
    shoot(page, "account-one-device")
    tablet = add_tablet(page, gate, phone)

    page.get_by_role("link", name="Remove Phone").press("Enter")
    expect(page.get_by_text("Codes of Phone will not be taken any more.")).to_be_visible()
    assert focused(page) == "password"
    shoot(page, "remove-device")
    type_form(page, PASSWORDS["erin"], tablet.next())
    expect(page.get_by_role("status")).to_contain_text("The device was removed")
    expect(page.get_by_role("link", name="Remove")).to_have_count(0)

    page.get_by_role("link", name="Make new recovery codes").press("Enter")
    page.wait_for_url("**/account/recovery")
    shoot(page, "new-recovery-codes")
    type_form(page, PASSWORDS["erin"], tablet.next())
    new = codes_on(page)
    assert len({*new} - {*codes}) == 10
    page.get_by_role("link", name="I have kept them").press("Enter")
    expect(page.get_by_text("10 are left.")).to_be_visible()

    other = visit(viewport=PHONE)
    sign_in(other, "erin", codes[0])
    expect(other.get_by_role("alert").first).to_contain_text("was not right")
    sign_in(other, "erin", new[0].replace("-", ""))
    for told in (
        "A recovery code was used; 9 left.",
        "New recovery codes were made.",
        "was removed",
        "was added",
    ):
        expect(other.get_by_text(told)).to_be_visible()
    shoot(other, "notices-many")
    other.get_by_role("button", name="Continue").press("Enter")
    other.wait_for_url("**/hub/token")
    other.goto("/hub/account/notices?next=/hub/token")
    other.wait_for_url("**/hub/token")


def test_a_password_is_changed_by_keyboard(gate, visit):
    page = visit()
    codes = UnhurriedCodes(gate.enrol("alice"))
    sign_in(page, "alice", codes.next())
    if "notices" in page.url:
        page.keyboard.press("Enter")
    page.wait_for_url("**/hub/token")
    page.goto("/hub/account/password")
    assert focused(page) == "password"
    shoot(page, "password")
    type_form(page, PASSWORDS["alice"], "123456", "Another-1-word", "Another-1-w0rd")
    expect(page.get_by_role("alert").first).to_contain_text("not the same")
    assert focused(page) == "new_again"
    expect(page.get_by_label("New password, again")).to_have_attribute("aria-invalid", "true")
    shoot(page, "password-refused")
    page.get_by_label("Present password").focus()
    type_form(page, PASSWORDS["alice"], codes.next(), "Another-1-word", "Another-1-word")
    expect(page.get_by_role("status")).to_contain_text("Your password was changed")
    page.goto("/hub/account/password")
    type_form(page, "Another-1-word", codes.next(), PASSWORDS["alice"], PASSWORDS["alice"])
    expect(page.get_by_role("status")).to_contain_text("Your password was changed")


def test_the_pages_work_without_scripts(gate, visit):
    page = visit(java_script_enabled=False)
    token = gate.store.enrolments.new_token("bob", 1)
    page.goto("/hub/enrol")
    page.get_by_label("User name").fill("bob")
    page.get_by_label("Password").fill(PASSWORDS["bob"])
    page.get_by_label("Enrolment token").fill(token)
    page.get_by_role("button", name="Continue").click()
    codes = UnhurriedCodes(secret_on(page, gate))
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    page.get_by_label("The code that the app shows now").fill(codes.next())
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("button", name="Print")).to_have_count(0)
    with page.expect_download():
        page.get_by_role("link", name="Download").click()
    page.get_by_role("link", name="I have kept them").click()
    page.get_by_label("User name").fill("bob")
    page.get_by_label("Password").fill(PASSWORDS["bob"])
    page.get_by_label("One-time code").fill(codes.next())
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Continue").click()
    page.goto("/hub/account")
    expect(page.get_by_text(re.compile(r"added \d+ \w+ \d{4}, \d\d:\d\d UTC"))).to_be_visible()
