"""A student, a researcher and an admin walk through every page of theirs, on the demo site, by keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser import axe, keyboard
from tests.browser.conftest import listen
from tests.support import Site, until

# What everybody has, and what an admin has.
PAGES = {
    "/hub/home": "My session",
    "/hub/spawn": "Start a session",
    "/hub/history": "History",
    "/services/carme/messages": "Messages",
    "/hub/token": "Tokens",
    "/hub/account": "Account security",
    "/hub/account/device": "Add a device",
    "/hub/account/recovery": "New recovery codes",
    "/hub/account/password": "Change password",
}
ADMIN_PAGES = {
    "/hub/admin": "",
    "/hub/admin/people": "People",
    "/hub/admin/people/rosa": "rosa",
    "/hub/admin/audit": "Audit log",
    "/hub/admin/sessions": "Sessions",
    "/hub/admin/use": "Use",
    "/hub/admin/announcements": "Announcements",
    "/services/carme/admin/maintenance": "Maintenance",
    "/services/carme/admin/people/rosa": "rosa",
    "/hub/admin/site": "",
}


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """What the browser has to say of the pages: nothing."""
    said: list[str] = []
    listen(page, said)
    return said


def log_in(site: Site, page: Page, username: str, where: str) -> None:
    """Log in without a mouse."""
    for _ in range(4):
        page.goto(f"/hub/login?next={where}")
        axe.assert_good(page)
        keyboard.fill(page, page.get_by_label("User name"), username)
        keyboard.fill(page, page.get_by_label("Password"), site.accounts[username]["password"])
        keyboard.fill(page, page.get_by_label("One-time code"), site.codes[username].next())
        with page.expect_navigation():
            page.keyboard.press("Enter")
        if "/hub/login" not in page.url:
            break
    if "/hub/account/notices" in page.url:
        axe.assert_good(page)
        keyboard.press(page, page.get_by_role("button", name="Continue"))
    page.wait_for_url(f"**{where}*")


def look_at(page: Page, pages: dict[str, str]) -> None:
    """Open pages, and look whether they are what they should be, and good for everybody."""
    for path, heading in pages.items():
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 200, path
        if heading:
            expect(page.get_by_role("heading", level=1)).to_contain_text(heading)
        axe.assert_good(page)


def look_at_refusals(page: Page, paths: list[str]) -> None:
    """Open pages that are not for this person: friendly pages that say so."""
    for path in paths:
        answer = page.goto(path)
        assert answer is not None
        assert answer.status in {403, 404}, path
        axe.assert_good(page)


def test_a_student(site, person, page, complaints):
    ines = person("ines")
    log_in(site, page, "ines", "/hub/home")
    keyboard.press(page, page.get_by_role("link", name="Start a session"))
    page.wait_for_url("**/hub/spawn/**")
    look_at(page, PAGES)
    for path, entry in {"/hub/home": "Home", "/hub/history": "History", "/hub/token": "Tokens"}.items():
        page.goto(path)
        expect(page.locator(".navbar [aria-current=page]")).to_have_text(entry)
    assert complaints == []
    look_at_refusals(page, [*ADMIN_PAGES, "/hub/no-such-page", "/hub/spawn/rosa"])
    assert [re.search(r"status of (\d+)", said)[1] for said in complaints] == ["403"] * len(ADMIN_PAGES) + [
        "404",
        "404",
    ]
    assert not ines.server()


def test_an_admin(site, person, page, complaints):
    person("adam")
    person("rosa")  # whose page there is as soon as she has signed in once
    log_in(site, page, "adam", "/hub/home")
    look_at(page, PAGES | ADMIN_PAGES)
    assert complaints == []


def start_without_a_mouse(page: Page) -> None:
    """From the home page to a GPU session that was asked for."""
    keyboard.press(page, page.get_by_role("link", name="Start a session"))
    page.wait_for_url("**/hub/spawn/**")
    card = page.locator("details", has=page.locator("[name=profile][value=gpu]")).first
    if not card.evaluate("card => card.open"):
        keyboard.press(page, card.locator("summary").first)
    keyboard.fill(page, card.get_by_label("GPUs per node"), "9")
    keyboard.fill(page, card.get_by_label("Nodes"), "1")
    keyboard.fill(page, card.get_by_label("Time limit"), "0:30:00")
    start = card.get_by_role("button", name="Start", exact=True)
    keyboard.press(page, start)
    # The page comes back filled in, with the sentence at the field.
    expect(card.get_by_label("GPUs per node")).to_be_focused()
    expect(card.locator("[data-error=gpus]")).to_contain_text("9 asked")
    keyboard.fill(page, card.get_by_label("GPUs per node"), "2")
    axe.assert_good(page)
    keyboard.press(page, start)
    page.wait_for_url("**/hub/spawn-pending/rosa*")


def test_a_researcher_starts_waits_works_and_stops_without_a_mouse(site, person, page, complaints):
    rosa = person("rosa")
    log_in(site, page, "rosa", "/hub/home")
    # Nothing starts in a partition that is down: the session waits, for as long as it is looked at.
    site.run("scontrol", "update", "PartitionName=gpu", "State=DOWN")
    try:
        start_without_a_mouse(page)
        expect(page.get_by_text("partition", exact=False).first).to_be_visible()
        axe.assert_good(page)
        keyboard.press(page, page.get_by_role("link", name="Home").last)
        page.wait_for_url("**/hub/home")
        session = page.locator("[data-session='']")
        expect(session.get_by_text("Waiting")).to_be_visible()
        axe.assert_good(page)
        keyboard.press(page, session.get_by_role("link", name="See how far it is"))
    finally:
        site.run("scontrol", "update", "PartitionName=gpu", "State=UP")
    page.wait_for_url("**/user/rosa/lab**")

    page.goto("/hub/home")
    keyboard.press(page, session.get_by_text("Details", exact=True))
    expect(session.get_by_role("heading", name="End of its log")).to_be_visible()
    keyboard.press(page, session.get_by_text("The script that was submitted"))
    expect(session.get_by_text("#SBATCH").first).to_be_visible()
    axe.assert_good(page)
    left = session.locator("[data-clock]").inner_text()
    keyboard.press(page, session.get_by_role("button", name="30 min", exact=True))
    expect(session.locator("[data-clock]")).not_to_have_text(left)
    keyboard.press(page, session.get_by_role("button", name="Stop"))
    axe.assert_good(page)
    # Whoever is asked can say no.
    page.keyboard.press("Escape")
    expect(session.get_by_text("Running", exact=True)).to_be_visible()
    keyboard.press(page, session.get_by_role("button", name="Stop"))
    page.keyboard.press("Enter")
    until(lambda: not rosa.server() and not site.jobs("rosa"), "the end of the session")
    expect(session.get_by_text("Not running", exact=True)).to_be_visible()
    axe.assert_good(page)

    page.goto("/hub/history")
    expect(page.get_by_role("row").nth(1)).to_contain_text("GPU session")
    keyboard.reach(page, page.get_by_label("Profile"))
    page.keyboard.type("CPU")
    keyboard.fill(page, page.get_by_label("Text"), "no such session")
    page.keyboard.press("Enter")
    page.wait_for_url("**text=no*")
    axe.assert_good(page)
    # That nine GPUs are too many, the estimate says by its status, and Chromium writes that to the console.
    assert [said for said in complaints if "status of 400" not in said] == []
