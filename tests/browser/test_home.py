"""The dashboard: it shows what is, keeps up with it, and does without scripts, the service, or a mouse."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import axe
from tests.browser.test_walk import PATIENCE, log_in
from tests.support import until

SEED = """
import sys
from carme_hub.records import announcements, maintenance, notices, open_records
engine = open_records("sqlite:////var/lib/carme-hub/carme.sqlite")
"""


def records(site, code: str) -> str:
    """Run Python with the site's database, inside the site."""
    from tests.support import ROOT  # noqa: PLC0415

    return site.run(str(ROOT / ".venv/bin/python"), "-c", f"{SEED}\n{code}").strip()


def card(page: Page, name: str = "") -> Locator:
    return page.locator(f'[data-session="{name}"]')


def badge(page: Page, name: str = "") -> Locator:
    return card(page, name).locator(".badge")


@pytest.fixture
def rosa(person):
    """Rosa, without the session called "work" before and after, and without messages."""
    one = person("rosa")
    remove(one)
    one.api("DELETE", "/users/rosa/server")
    yield one
    remove(one)


def remove(one):
    def gone():
        answer = one.api("DELETE", f"/users/{one.username}/servers/work", json={"remove": True})
        return answer.status_code in {404, 204}

    until(gone, "the end of the session called work")


def test_a_session_started_elsewhere_appears_is_opened_and_stopped_by_keyboard(site, rosa, page: Page):
    log_in(site, page, "rosa")
    rosa.start(profile="cpu", time="0:30:00")
    # Nobody has touched the page.
    expect(badge(page)).to_contain_text("Running", timeout=PATIENCE)
    # In the reader's time from the first moment on, though the hub draws it in its own.
    assert "UTC" not in card(page).locator("[data-clock]").inner_text()
    expect(card(page)).to_contain_text("CPU session")
    expect(card(page)).to_contain_text("1 core")
    expect(card(page).get_by_role("progressbar", name="Time used")).to_be_visible()
    expect(card(page).get_by_role("link", name="JupyterLab")).to_have_attribute("href", "/user/rosa/lab")
    expect(card(page).get_by_role("link", name="Code-Server")).to_have_attribute(
        "href", "/user/rosa/code-server/"
    )
    expect(page.locator("[data-said]")).to_contain_text("Running")

    details = card(page).locator("summary", has_text="Details")
    details.focus()
    page.keyboard.press("Enter")
    expect(card(page).get_by_text("End of its log")).to_be_visible()
    expect(card(page).locator("[data-detail=log]")).to_contain_text("ServerApp")
    expect(card(page).get_by_role("progressbar", name="Cores")).to_be_visible()
    (job,) = site.jobs("rosa")
    expect(card(page).locator("dl")).to_contain_text(job)
    card(page).locator("summary", has_text="script").click()
    expect(card(page).locator("[data-detail=script]")).to_contain_text("#SBATCH")

    stop = card(page).get_by_role("button", name="Stop")
    stop.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("What is not saved in it is lost")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert site.jobs("rosa")
    stop.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Stop it")).to_be_focused()
    page.keyboard.press("Enter")
    expect(badge(page)).to_contain_text("Not running", timeout=PATIENCE)
    until(lambda: not site.jobs("rosa"), "the job's end")

    # The same once more, with one click.
    card(page).get_by_role("button", name="Start again").click()
    page.wait_for_url(re.compile("/(spawn-pending|user)/rosa"))
    until(lambda: rosa.server().get("ready"), "the same session again")
    assert rosa.server()["user_options"] == {
        "profile": "cpu",
        "image": "base",
        "nodes": 1,
        "gpus": 0,
        "tasks": 1,
        "time": 30,
    }


def test_a_session_that_waits_says_why_and_one_that_ends_says_how(site, rosa, page: Page):
    log_in(site, page, "rosa")
    site.run("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        rosa.api("POST", "/users/rosa/servers/work", json={"profile": "cpu", "time": "0:20:00"})
        expect(badge(page, "work")).to_contain_text("Waiting", timeout=PATIENCE)
        expect(card(page, "work").locator("[data-waiting]")).to_contain_text("administrators")
        expect(card(page, "work").get_by_role("button", name="Cancel")).to_be_visible()
    finally:
        site.run("scontrol", "update", "PartitionName=cpu", "State=UP")
    expect(badge(page, "work")).to_contain_text("Running", timeout=PATIENCE)
    site.run("scancel", site.jobs("rosa")[0])
    expect(card(page, "work").get_by_text("its job was cancelled")).to_be_visible(timeout=PATIENCE)
    expect(card(page, "work").get_by_role("button", name="Start again")).to_be_visible()
    # The same as a message.
    messages = page.locator("[data-messages]")
    expect(messages.get_by_text("work has ended")).to_be_visible(timeout=PATIENCE)
    expect(messages.locator("[data-count]")).to_be_visible()
    messages.get_by_role("button", name="Mark all as read").click()
    expect(messages.get_by_text("Nothing new")).to_be_visible()
    page.reload()
    expect(messages.get_by_text("Nothing new")).to_be_visible()


def test_news_and_maintenance_come_and_go_and_run_no_script(site, page: Page):
    log_in(site, page, "rosa")
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>[x](javascript:alert(3)) **really**"
    number = records(
        site,
        f"one = announcements.Announcement(title='<b>Moving</b>', text={hostile!r})\n"
        "print(announcements.add(engine, one))\n"
        "maintenance.set(engine, maintenance.Maintenance(on=True, text='We <i>move</i> the cluster.'))",
    )
    page.on("dialog", lambda _: pytest.fail("a script ran"))
    try:
        page.reload()
        news = page.locator("[data-news]")
        expect(news.get_by_text("<b>Moving</b>")).to_be_visible(timeout=PATIENCE)
        expect(news.locator("strong", has_text="really")).to_be_visible()
        expect(news.locator("img, script, a")).to_have_count(0)
        expect(page.locator("[data-maintenance]")).to_contain_text("We <i>move</i> the cluster.")
        assert axe.faults(page) == []
    finally:
        records(
            site,
            f"announcements.remove(engine, {number}); maintenance.set(engine, maintenance.Maintenance())",
        )
    page.reload()
    expect(page.locator("[data-maintenance]")).to_be_hidden(timeout=PATIENCE)


def test_the_page_fits_a_phone_and_keeps_nobody_out(site, rosa, page: Page):
    rosa.start(profile="cpu", time="0:30:00")
    log_in(site, page, "rosa")
    card(page).locator("summary", has_text="Details").click()
    expect(card(page).locator("[data-detail=log]")).to_contain_text("ServerApp")
    assert axe.faults(page) == []
    page.goto("/hub/history")
    expect(page.get_by_role("heading", name="History")).to_be_visible()
    assert axe.faults(page) == []
    page.goto("/services/carme/messages")
    assert axe.faults(page) == []


def test_everything_is_there_without_scripts(site, rosa, browser):
    rosa.start(profile="cpu", time="0:30:00")
    context = browser.new_context(base_url=site.hub_url, java_script_enabled=False)
    page = context.new_page()
    log_in(site, page, "rosa")
    expect(card(page)).to_contain_text("Running")
    expect(card(page).get_by_role("link", name="JupyterLab")).to_be_visible()
    page.get_by_role("link", name="History").click()
    page.get_by_label("State").select_option("running")
    page.get_by_role("button", name="Filter").click()
    (job,) = site.jobs("rosa")
    row = page.get_by_role("row", name=re.compile(f"job {job}"))
    expect(row).to_contain_text("Running")
    again = row.get_by_role("link", name="Same again")
    expect(again).to_have_attribute("href", re.compile("^/hub/spawn/rosa\\?opt-profile=cpu"))
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    text = download.value.path().read_text()
    assert f'"slurm",{job},"cpu","base"' in text
    page.get_by_role("link", name="Home").click()
    page.get_by_role("button", name="Stop").click()
    expect(card(page)).not_to_contain_text("Running")
    until(lambda: not site.jobs("rosa"), "the job's end")
    context.close()


def test_the_page_does_without_the_service(site, rosa, page: Page):
    """A service that takes requests and never answers, as one that hangs."""
    rosa.start(profile="cpu", time="0:30:00")
    asked = []
    page.route("**/services/carme/**", lambda route: asked.append(route))  # noqa: PLW0108  never answered
    log_in(site, page, "rosa")
    expect(badge(page)).to_contain_text("Running")
    until(lambda: page.evaluate("1") and asked, "the page to ask the service")
    expect(page.locator("[data-news]")).to_be_hidden()
    card(page).get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Stop it").click()
    expect(badge(page)).to_contain_text("Not running", timeout=PATIENCE)
    assert not rosa.server()
