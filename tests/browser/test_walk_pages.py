"""A student, a researcher and an admin walk through every page of theirs, on the demo site, by keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser import axe, keyboard
from tests.support import Site

# What everybody has, and what an admin has.
PAGES = {
    "/hub/home": "My session",
    "/hub/spawn": "Start a session",
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
}


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """What the browser has to say of the pages: nothing."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
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
    assert complaints == []
    look_at_refusals(page, [*ADMIN_PAGES, "/hub/no-such-page", "/hub/spawn/rosa"])
    assert [re.search(r"status of (\d+)", said)[1] for said in complaints] == ["403"] * 4 + ["404", "404"]
    assert not ines.server()


def test_an_admin(site, person, page, complaints):
    person("adam")
    log_in(site, page, "adam", "/hub/home")
    look_at(page, PAGES | ADMIN_PAGES)
    assert complaints == []
