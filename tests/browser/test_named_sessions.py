"""Several sessions at once: a name on the start page, another session from the home page, and their end."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_walk import log_in, profile
from tests.support import until


@pytest.fixture
def rosa(person):
    """Rosa, without a session called "work" before and after."""
    one = person("rosa")
    remove(one)
    yield one
    remove(one)


def remove(one):
    """End and remove the session called "work"."""

    def gone():
        answer = one.api("DELETE", f"/users/{one.username}/servers/work", json={"remove": True})
        return answer.status_code in {404, 204}

    until(gone, "the end of the session called work")
    until(lambda: not one.site.jobs(one.username) or one.server(), "the end of its job")


def test_a_session_with_a_name_is_started_without_scripts(site, rosa, browser):
    context = browser.new_context(base_url=site.hub_url, java_script_enabled=False)
    page = context.new_page()
    log_in(site, page, "rosa")
    page.goto("/hub/spawn")
    page.get_by_text("Several sessions at once").click()
    page.get_by_label("Session name").fill("work")
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url("**/hub/spawn/rosa/work")
    expect(page.get_by_text("named work")).to_be_visible()
    expect(page.get_by_label("Session name")).to_have_count(0)
    form = profile(page, "cpu")
    form.get_by_label("Time limit").fill("0:20:00")
    form.get_by_role("button", name="Start").click()
    page.wait_for_url(re.compile("/(spawn-pending|user)/rosa/work"))
    assert "work" in rosa.api("GET", "/users/rosa").json()["servers"]
    context.close()


def test_another_session_is_started_from_the_home_page_and_removed_when_it_has_ended(site, rosa, page: Page):
    rosa.ask(profile="cpu", time="0:20:00")
    log_in(site, page, "rosa")
    page.get_by_text("Start another session").click()
    page.get_by_label("Session name").fill("work")
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url("**/hub/spawn/rosa/work")
    form = profile(page, "cpu")
    form.get_by_label("Time limit").fill("0:20:00")
    form.get_by_role("button", name="Start").click()
    until(
        lambda: rosa.api("GET", "/users/rosa").json()["servers"].get("work", {}).get("ready"),
        "the session called work",
    )
    page.wait_for_url("**/user/rosa/work/**")
    assert set(rosa.api("GET", "/users/rosa").json()["servers"]) == {"", "work"}

    # It ends by itself: the page says why, and offers both ways on.
    job = max(site.jobs("rosa"), key=int)
    site.run("scancel", job)
    card = page.locator("[data-session=work]")

    def told():
        page.goto("/hub/home")
        return card.get_by_text("its job was cancelled").count()

    until(told, "the home page to say why the session ended")
    expect(card.get_by_role("button", name="Stop")).to_be_hidden()
    expect(card.get_by_role("button", name="Start again")).to_be_visible()
    expect(card.get_by_role("link", name="Change and start")).to_have_attribute(
        "href", re.compile(r"^/hub/spawn/rosa/work\?opt-profile=cpu&")
    )
    card.get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Remove it").click()
    expect(card).to_have_count(0)
    page.reload()
    expect(card).to_have_count(0)
    assert set(rosa.api("GET", "/users/rosa").json()["servers"]) == {""}


@pytest.mark.parametrize("name", ["../admin", "Work", "a--b", "1a", "x" * 31, '"><script>', "//evil.example"])
def test_a_name_that_cannot_be_one_leads_nowhere(site, person, name):
    rosa = person("rosa")
    page = rosa.http.get(f"{site.hub_url}/hub/carme/session", params={"name": name}, timeout=30)
    assert page.status_code == 400
    assert "at most 30 characters" in page.text
    assert '"><script>' not in page.text
    assert page.url.startswith(f"{site.hub_url}/hub/carme/session")
