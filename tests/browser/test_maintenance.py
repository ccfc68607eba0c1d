"""What everybody has to read stands on every page: maintenance, and what is important."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser import axe
from tests.browser.test_home import records
from tests.browser.test_walk import log_in
from tests.support import until

HUB_PAGES = ["/hub/home", "/hub/spawn", "/hub/account", "/hub/token", "/hub/login", "/hub/no-such-page"]
SERVICE_PAGES = ["/hub/history", "/services/carme/messages", "/services/carme/cluster"]
TEXT = "New <b>disks</b> until noon."


@pytest.fixture
def maintenance(site):
    records(site, f"maintenance.set(engine, maintenance.Maintenance(on=True, text={TEXT!r}))")
    yield
    records(site, "maintenance.set(engine, maintenance.Maintenance())")


def banner(page: Page):
    return page.locator("[data-maintenance]")


@pytest.mark.usefixtures("maintenance")
def test_maintenance_is_told_on_every_page_and_takes_the_form_away(site, person, page: Page):
    noah = person("noah")
    log_in(site, page, "noah")
    page.goto("/hub/home")
    expect(banner(page)).to_be_visible()
    for path in HUB_PAGES + SERVICE_PAGES:

        def told(path=path):
            page.goto(path)
            return banner(page).is_visible()

        until(told, f"maintenance on {path}")
        expect(banner(page)).to_contain_text(TEXT)
        expect(banner(page)).to_contain_text("Maintenance")
    page.goto("/hub/spawn")
    expect(page.get_by_text("No session can be started during maintenance")).to_be_visible()
    assert page.locator("form[data-form], [data-estimate]").count() == 0
    axe.assert_good(page)
    assert "in maintenance" in noah.ask(profile="ml101").json()["message"]


@pytest.mark.usefixtures("maintenance")
def test_admins_see_that_it_is_on_and_can_start(site, page: Page):
    log_in(site, page, "adam")
    page.goto("/hub/spawn")
    expect(banner(page)).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Start")).first).to_be_visible()


def test_what_is_important_is_on_every_page_until_it_is_read(site, page: Page):
    hostile = "<img src=x onerror=alert(1)> **really**"
    made = records(
        site,
        f"print(announcements.add(engine, announcements.Announcement(title='<i>Disks</i>', text={hostile!r}, "
        "level='danger')))\n"
        "notices.add(engine, notices.Notice(user='noah', kind='message', level='danger', "
        "title='Quota <i>now</i>', text='Remove files.'))",
    )
    page.on("dialog", lambda _: pytest.fail("a script ran"))
    try:
        log_in(site, page, "noah")
        for path in ["/hub/home", "/hub/account", "/hub/history"]:
            page.goto(path)
            urgent = page.locator("[data-urgent]")
            expect(urgent.get_by_text("<i>Disks</i>")).to_be_visible()
            expect(urgent.get_by_text("Quota <i>now</i>")).to_be_visible()
            assert urgent.locator("img, script, a").count() == 0
        axe.assert_good(page)
        quota = urgent.locator(".alert", has_text="Quota").first
        quota.get_by_role("button", name="Mark as read").click()
        expect(urgent.get_by_text("Quota")).to_have_count(0)
        until(lambda: "Quota" not in _unread(site), "the message to be read")
        page.goto("/hub/account")
        expect(urgent.get_by_text("<i>Disks</i>")).to_be_visible()
        expect(urgent.get_by_text("Quota")).to_have_count(0)
    finally:
        records(site, f"announcements.remove(engine, {made}); notices.mark_read(engine, 'noah')")


def _unread(site) -> str:
    return records(site, "print([one.title for one in notices.unread(engine, 'noah')])")


def test_a_page_that_is_not_for_one_says_so_in_words(site, page: Page):
    log_in(site, page, "noah")
    for path in [
        "/hub/admin",
        "/hub/admin/people",
        "/services/carme/admin/sessions",
        "/services/carme/admin/site",
    ]:
        answer = page.goto(path)
        assert answer is not None
        assert answer.status in {403, 404}
        words = page.locator("main").inner_text()
        assert "scope" not in words, f"{path}: {words}"
        assert "admin:" not in words, f"{path}: {words}"
