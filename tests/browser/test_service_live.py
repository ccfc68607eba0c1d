"""live.js in a browser: the page hears by itself, says since when it does not, and hears again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.integration.gate_world import PASSWORDS, code, slapd, wait_for
from tests.integration.service_world import SERVICE, ServiceHub, service_hub

STREAM = f"{SERVICE}api/events"
# The token page has no script of ours: what is heard here, this listener hears.
LISTEN = """async () => {
  const { live } = await import("/hub/carme-static/live.js");
  window.heard = [];
  const note = name => value => window.heard.push([name, value]);
  window.live = live({ sessions: note("sessions"), offline: note("offline") });
}"""
HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceHub]:
    with (
        slapd(tmp_path_factory.mktemp("directory")) as directory,
        service_hub(tmp_path_factory.mktemp("live"), directory) as running,
    ):
        running.until_up()
        yield running
        assert "Traceback" not in running.hub.log


@pytest.fixture
def page(browser, world) -> Iterator[Page]:
    context = browser.new_context(base_url=world.url)
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda said: page.wrong.append(said.text) if "Security Policy" in said.text else None)
    page.streams = []  # what was asked, and what came of it
    page.on("response", lambda answer: STREAM in answer.url and page.streams.append(answer.status))
    page.on("requestfailed", lambda asked: STREAM in asked.url and page.streams.append("closed"))
    yield page
    assert page.wrong == []
    context.close()


def sign_in(world: ServiceHub, page: Page, username: str, where: str = "/hub/token") -> None:
    page.goto(f"/hub/login?next={where}")
    page.get_by_label("User name").fill(username)
    page.get_by_label("Password", exact=True).fill(PASSWORDS[username])
    page.locator("[name=otp]").fill(code(world.hub.enrol(username)))
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**{where}")


def until_heard(page: Page, condition: str) -> None:
    # Not wait_for_function(), which the pages' policy stops.
    heard = f"window.heard.some(([name, value]) => {condition})"
    wait_for(lambda: page.evaluate(heard), f"the page to hear {condition}")


def test_a_page_of_the_hub_hears_without_a_visit_to_the_service(world, page):
    sign_in(world, page, "alice")
    page.evaluate(LISTEN)
    until_heard(page, "name === 'sessions' && value.length === 0")
    # Through the hub's OAuth and back, once; the page stayed where it was.
    assert page.streams == [302, 200]
    assert page.url.endswith("/hub/token")
    page.goto(f"{SERVICE}about")
    page.streams.clear()
    page.evaluate(LISTEN)
    until_heard(page, "name === 'sessions'")
    assert page.streams == [200]


def test_a_page_says_since_when_it_hears_nothing_and_hears_again(world, page):
    sign_in(world, page, "alice")
    page.evaluate(LISTEN)
    until_heard(page, "name === 'sessions'")
    page.evaluate("window.heard.length = 0")
    os.kill(world.service(), signal.SIGKILL)
    until_heard(page, "name === 'offline' && value instanceof Date")
    until_heard(page, "name === 'offline' && value === null")
    until_heard(page, "name === 'sessions'")


def test_a_tab_that_nobody_sees_lets_go_of_its_connection(world, page):
    page.clock.install()
    sign_in(world, page, "alice")
    page.evaluate(LISTEN)
    until_heard(page, "name === 'sessions'")
    page.evaluate(HIDE, True)
    page.clock.fast_forward(10_000)
    assert "closed" not in page.streams
    page.clock.fast_forward(10_000)
    wait_for(lambda: page.evaluate("1") and "closed" in page.streams, "the end of the connection")
    page.evaluate("window.heard.length = 0")
    page.evaluate(HIDE, False)
    until_heard(page, "name === 'sessions'")
    # It was meant: nobody was told that something is wrong.
    assert page.evaluate("window.heard.every(([name, value]) => name !== 'offline' || value === null)")


def test_who_signed_out_elsewhere_is_not_signed_in_again(world, page):
    sign_in(world, page, "alice")
    page.evaluate(LISTEN)
    until_heard(page, "name === 'sessions'")
    page.context.new_page().goto("/hub/logout")
    until_heard(page, "name === 'offline' && value instanceof Date")
    # To the hub, which shows its login page, and that is the end of it.
    tried = [302, 200, "closed", 302]
    wait_for(lambda: page.evaluate("1") and page.streams == tried, "the next try")
    page.wait_for_timeout(2000)  # longer than until a further one
    assert page.streams == tried
    assert not [one for one in page.context.cookies() if one["name"] == "jupyterhub-hub-login"]


def test_a_page_away_says_so_and_the_way_home_works(world, page):
    sign_in(world, page, "alice")
    os.kill(world.service(), signal.SIGSTOP)
    try:
        page.goto("/hub/home")
        expect(page.get_by_role("navigation").get_by_role("link", name="Home")).to_be_visible()
    finally:
        os.kill(world.service(), signal.SIGCONT)


def test_the_bar_is_one_line_or_folded(world, page):
    sign_in(world, page, "carol", f"{SERVICE}about")
    for width in (390, 600, 800, 990, 1000, 1280):
        page.set_viewport_size({"width": width, "height": 700})
        assert page.locator("nav.navbar").bounding_box()["height"] < 70, width
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("where", ["/hub/token", f"{SERVICE}about"])
def test_the_way_through_the_site_by_keyboard_on_a_phone(world, page, where):
    page.set_viewport_size({"width": 390, "height": 844})
    sign_in(world, page, "carol")
    page.goto(where)
    menu = page.get_by_role("button", name="Toggle navigation")
    menu.focus()
    page.keyboard.press("Enter")
    admin = page.get_by_role("button", name="Admin")
    expect(admin).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    admin.focus()
    page.keyboard.press("Enter")
    for name in ("Sessions", "People", "Use", "Announcements", "Site"):
        expect(page.locator(".dropdown-menu").get_by_role("link", name=name, exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(admin).to_be_focused()


def test_a_student_sees_no_admin_menu(world, page):
    for where in ("/hub/token", f"{SERVICE}about"):
        if where == "/hub/token":
            sign_in(world, page, "bob")
        page.goto(where)
        links = page.locator("#thenavbar .nav-link")
        expect(links.first).to_be_visible()
        texts = [text.strip() for text in links.all_inner_texts()]
        assert texts[:3] == ["Home", "Start", "History"]
        assert "Admin" not in texts
        assert "Account security" in texts
