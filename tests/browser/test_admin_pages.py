"""An admin's day on the demo site, by keyboard: find, write, stop, announce, close, check."""

from __future__ import annotations

import contextlib
import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser import axe, keyboard
from tests.browser.test_walk_pages import complaints, log_in  # noqa: F401 - a fixture
from tests.support import until

PAGES = "/services/carme/admin"
AUCKLAND = "Pacific/Auckland"  # half a day from UTC, with another summer


@pytest.fixture
def clean(site):
    """Nothing is announced and nothing closed, before and after."""
    script = (
        "from carme_hub.records import announcements as a, maintenance as m, open_records\n"
        "e = open_records('sqlite:////var/lib/carme-hub/carme.sqlite')\n"
        "[a.remove(e, one.id) for one in a.all(e)]\n"
        "m.set(e, m.Maintenance())\n"
    )

    def tidy() -> None:
        site.run("python", "-c", script)

    tidy()
    yield
    tidy()


def heading(page: Page, text: str):
    return expect(page.get_by_role("heading", level=1)).to_contain_text(text)


def told(page: Page):
    return expect(page.get_by_role("status").filter(has_text=re.compile(r"\w")).first)


def test_an_admin_finds_writes_and_stops(site, person, page, complaints):  # noqa: F811
    rosa, ravi = person("rosa"), person("ravi")
    rosa.start(profile="cpu")
    ravi.start(profile="cpu")
    log_in(site, page, "adam", "/hub/home")
    page.goto("/hub/admin/sessions")
    heading(page, "Sessions")
    axe.assert_good(page)
    expect(page.get_by_role("row").filter(has_text="ravi")).to_contain_text("Running")

    keyboard.fill(page, page.get_by_label("Person"), "ros")
    page.keyboard.press("Enter")
    expect(page.get_by_role("row").filter(has_text="rosa")).to_have_count(1)
    expect(page.get_by_role("row").filter(has_text="ravi")).to_have_count(0)
    keyboard.press(page, page.get_by_role("link", name="Time left"))
    expect(page.get_by_role("columnheader", name="Time left")).to_have_attribute("aria-sort", "ascending")

    keyboard.reach(page, page.get_by_label("The one session that fits"))
    page.keyboard.press("Space")
    keyboard.press(page, page.get_by_role("button", name="Write to owners"))
    heading(page, "Write to one person")
    axe.assert_good(page)
    keyboard.fill(page, page.get_by_label("Subject"), "Please save <b>now</b>")
    keyboard.press(page, page.get_by_role("button", name="Send"))
    told(page).to_contain_text("Sent to rosa")

    keyboard.reach(page, page.get_by_label("Choose CPU session of rosa"))
    page.keyboard.press("Space")
    keyboard.press(page, page.get_by_role("button", name="Stop …"))
    heading(page, "Stop one session?")
    axe.assert_good(page)
    assert rosa.server()
    keyboard.press(page, page.get_by_role("button", name="Stop it"))
    told(page).to_contain_text("1 session is being stopped")
    until(lambda: not rosa.server(), "the end of rosa's session")
    # The list stays fresh by itself.
    expect(page.get_by_text("No session fits these filters.")).to_be_visible()
    assert ravi.server()["ready"]

    page.goto(f"{PAGES}/people/rosa")
    expect(page.get_by_text("Earlier sessions")).to_be_visible()
    axe.assert_good(page)
    keyboard.press(page, page.get_by_role("link", name="Sign-in and devices"))
    heading(page, "rosa")
    keyboard.press(page, page.get_by_role("link", name="Sessions, limits and use"))
    heading(page, "rosa")
    for by in ("user", "group", "profile", "image"):
        page.goto(f"{PAGES}/use?by={by}&period=week")
        heading(page, "Use")
        axe.assert_good(page)
    assert complaints == []


@pytest.mark.usefixtures("clean")
def test_what_an_admin_announces_is_read_at_home(site, person, browser):
    person("adam")
    context = browser.new_context(base_url=site.hub_url, timezone_id=AUCKLAND)
    page = context.new_page()
    log_in(site, page, "adam", "/hub/home")
    page.goto("/hub/admin/announcements")
    axe.assert_good(page)
    keyboard.fill(page, page.get_by_label("Title"), "New disks")
    keyboard.fill(page, page.get_by_label("Text"), "They are **fast**.")
    page.get_by_label(re.compile("Until")).fill("2040-01-01T12:00")
    expect(page.get_by_text(f"({AUCKLAND})").first).to_be_visible()
    keyboard.press(page, page.get_by_role("button", name="Preview"))
    expect(page.get_by_text("This is what people will see")).to_be_visible()
    expect(page.get_by_label(re.compile("Until"))).to_have_value("2040-01-01T12:00")
    axe.assert_good(page)
    keyboard.press(page, page.get_by_role("button", name="Announce", exact=True))
    told(page).to_contain_text("It is announced")
    # Noon in Auckland, in summer.
    expect(page.locator("article time").last).to_have_attribute("datetime", "2039-12-31T23:00:00Z")
    axe.assert_good(page)
    page.goto("/hub/home")
    expect(page.get_by_role("heading", name="New disks")).to_be_visible()
    page.goto(f"{PAGES}/announcements")
    keyboard.press(page, page.get_by_role("link", name="Change New disks"))
    heading(page, "Change an announcement")
    axe.assert_good(page)
    keyboard.press(page, page.get_by_role("button", name="Remove"))
    keyboard.press(page, page.get_by_role("dialog").get_by_role("button", name="Remove"))
    told(page).to_contain_text("It is removed")
    context.close()


@pytest.mark.usefixtures("clean")
def test_while_maintenance_is_on_nobody_but_admins_starts(site, person, page):
    noah = person("noah")
    log_in(site, page, "adam", "/hub/home")
    page.goto(f"{PAGES}/maintenance")
    axe.assert_good(page)
    keyboard.fill(page, page.get_by_label("What people read"), "New disks until noon.")
    keyboard.press(page, page.get_by_role("button", name="Switch maintenance on"))
    told(page).to_contain_text("Maintenance is on")
    expect(page.get_by_text("switched on by adam")).to_be_visible()
    axe.assert_good(page)
    until(lambda: "New disks until noon." in noah.ask(profile="ml101").text, "the refusal")
    assert "in maintenance" in noah.ask(profile="ml101").text
    keyboard.press(page, page.get_by_role("button", name="Switch maintenance off"))
    told(page).to_contain_text("Maintenance is off")


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_the_site_is_checked_on_a_click(site, person, browser, scripts):
    person("adam")
    context = browser.new_context(base_url=site.hub_url, java_script_enabled=scripts)
    page = context.new_page()
    page.goto("/hub/login?next=%2Fhub%2Fadmin%2Fsite")
    page.get_by_label("User name").fill("adam")
    page.get_by_label("Password").fill(site.accounts["adam"]["password"])
    page.get_by_label("One-time code").fill(site.codes["adam"].next())
    page.get_by_role("button", name="Sign in").click()
    if "notices" in page.url:
        page.get_by_role("button", name="Continue").click()
    page.wait_for_url(f"**{PAGES}/site")
    heading(page, "Site")
    until(lambda: page.reload() and _may_check(page), "a moment to check", 60)
    page.get_by_role("button", name=re.compile("Check")).click()
    expect(page.get_by_role("heading", name="The site is being checked")).to_be_visible()
    expect(page.get_by_role("heading", name=re.compile("It works, with"))).to_be_visible(timeout=90_000)
    expect(page.get_by_text("JupyterHub.public_url names no https address")).to_be_visible()
    part = page.locator("section.card").filter(has=page.get_by_role("heading", name="Nodes"))
    part.locator("summary").click()
    expect(part.get_by_role("row").filter(has_text="Image base on node").first).to_contain_text("in order")
    if scripts:
        axe.assert_good(page)
        # What is open stays open when the page looks again.
        with page.expect_response(lambda answer: answer.url.endswith("/admin/site"), timeout=30_000):
            pass
        expect(part.get_by_role("row").filter(has_text="Image base on node").first).to_be_visible()
    context.close()


def _may_check(page: Page) -> bool:
    with contextlib.suppress(Exception):
        return page.get_by_role("button", name=re.compile("Check")).count() == 1
    return False
