"""Waiting for a session, and its failure, as people meet them: live, by keyboard, without scripts."""

from __future__ import annotations

import contextlib
import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import assert_good
from tests.browser.keyboard import press, reach
from tests.browser.test_walk import profile
from tests.support import until

WAIT = 90_000  # milliseconds
CONFIG = "/srv/home/rosa/.jupyter/jupyter_server_config.py"
# A notification that can be looked at, in a browser whose tab is in the background until the test says so.
STAGE = """
window.told = []; window.asked = 0;
window.Notification = class {
    static permission = "default";
    static async requestPermission() { window.asked += 1; return (Notification.permission = "granted"); }
    constructor(title, options) { window.told.push([title, options.body]); }
    addEventListener() {}
    close() {}
};
window.away = true;
Object.defineProperty(document, "hidden", {get: () => window.away});
"""


@pytest.fixture
def closed(site):
    """The partition "cpu" lets nothing start, until the test opens it."""

    def state(word):
        site.run("scontrol", "update", "partition=cpu", f"state={word}")

    state("down")
    yield lambda: state("up")
    state("up")


@pytest.fixture
def rosa(person):
    """Rosa, without a session called "work" before and after."""
    one = person("rosa")
    remove(one)
    yield one
    remove(one)


@pytest.fixture
def enter(site, browser):
    """Pages of people who have logged in already: a new code for each test would take half a minute."""
    contexts = []

    def page_of(one, **more) -> Page:
        context = browser.new_context(base_url=site.hub_url, viewport={"width": 1280, "height": 900}, **more)
        context.set_default_timeout(WAIT)
        context.add_cookies(
            [
                {"name": cookie.name, "value": cookie.value, "domain": "127.0.0.1", "path": cookie.path}
                for cookie in one.http.cookies
            ]
        )
        contexts.append(context)
        return context.new_page()

    yield page_of
    for context in contexts:
        context.close()


def remove(one):
    def gone():
        answer = one.api("DELETE", f"/users/{one.username}/servers/work", json={"remove": True})
        return answer.status_code in {404, 204}

    until(gone, "the end of the session called work")


def ask_named(one, **options):
    answer = one.api("POST", f"/users/{one.username}/servers/work", json=options)
    assert answer.status_code in {201, 202}, answer.text


@contextlib.contextmanager
def every_session(site, line):
    """Run a line of Python at the start of each of rosa's servers."""
    site.run("bash", "-c", f"mkdir -p ~/.jupyter && echo '{line}' > {CONFIG}", user="rosa")
    try:
        yield
    finally:
        site.run("rm", "-f", CONFIG, user="rosa")


def current(page: Page):
    return page.locator("[aria-current=step]")


def test_the_page_says_why_it_waits_while_that_changes_and_opens_the_session(site, rosa, closed, enter):
    page = enter(rosa)
    rosa.ask(profile="cpu", time="0:20:00")
    page.goto("/hub/spawn-pending/rosa")
    expect(page.get_by_text("The administrators let nothing start")).to_be_visible(timeout=WAIT)
    expect(current(page)).to_contain_text("In the queue")
    expect(page).to_have_title("In the queue · CPU session")
    expect(page.locator("[data-fact=job]")).to_contain_text(site.jobs("rosa")[0])
    expect(page.locator("[data-fact=submitted]")).to_contain_text("second")
    assert_good(page)

    # Held by an administrator: nothing that waiting helps against.
    (job,) = site.jobs("rosa")
    site.run("scontrol", "hold", job)
    expect(page.get_by_text("An administrator has put it on hold")).to_be_visible(timeout=WAIT)
    expect(page.locator("[data-advice].alert")).to_contain_text("Ask the administrators")
    assert_good(page)

    before = int(page.get_by_role("progressbar").get_attribute("aria-valuenow"))
    site.run("scontrol", "release", job)
    closed()
    page.wait_for_url("**/user/rosa/lab**", timeout=WAIT)
    assert before >= 20


def test_who_waits_for_others_sees_place_and_expected_start(site, rosa, enter):
    page = enter(rosa)
    others = [
        site.run(
            *("sbatch", "--parsable", "--partition=cpu", "--exclusive", "--time=30", "--output=/dev/null"),
            *("--wrap", "sleep 900"),
            user="ravi",
        ).strip()
        for _ in range(6)
    ]
    try:
        rosa.ask(profile="cpu", time="0:20:00")
        page.goto("/hub/spawn-pending/rosa")
        expect(page.locator("[data-fact=place]")).to_be_visible(timeout=WAIT)
        expect(page).to_have_title(re.compile("^Place [0-9]+ · CPU session$"))
        expect(page.locator("[data-fact=expected]")).to_contain_text("in ", timeout=WAIT)
        expect(page.get_by_text("The bar follows Slurm's estimate")).to_be_visible()
        assert_good(page)
    finally:
        site.run("scancel", *others)
    page.wait_for_url("**/user/rosa/lab**", timeout=WAIT)


@pytest.mark.usefixtures("closed")
def test_a_named_session_is_cancelled_while_it_waits_and_no_other(site, rosa, enter):
    page = enter(rosa)
    rosa.ask(profile="cpu", time="0:20:00")
    ask_named(rosa, profile="cpu", time="0:30:00")
    jobs = until(lambda: len(found := site.jobs("rosa")) == 2 and found, "both jobs")
    page.goto("/hub/spawn-pending/rosa/work")
    expect(page.get_by_role("heading", name="work")).to_be_visible()
    press(page, page.get_by_role("button", name="Cancel the session"))
    # It asks first; whoever says no keeps the place.
    dialog = page.get_by_role("dialog")
    press(page, dialog.get_by_role("button", name="Keep it"))
    expect(dialog).to_have_count(0)
    press(page, page.get_by_role("button", name="Cancel the session"))
    press(page, dialog.get_by_role("button", name="Cancel the session"))
    page.wait_for_url("**/hub/home")
    until(lambda: site.jobs("rosa") == jobs[:1], "the end of the named session's job only")
    servers = rosa.api("GET", "/users/rosa").json()["servers"]
    assert servers[""]["pending"] == "spawn"

    # Who comes back to the page learns that it is over, and nothing is started by looking.
    answer = page.goto("/hub/spawn-pending/rosa/work")
    assert answer.status == 200
    expect(page.get_by_role("heading", name="This session is not running")).to_be_visible()
    expect(page.get_by_text("30 min")).to_be_visible()
    assert_good(page)
    page.get_by_role("link", name="Change it first").click()
    page.wait_for_url("**/hub/spawn/rosa/work")
    assert site.jobs("rosa") == jobs[:1]


@pytest.mark.usefixtures("closed")
def test_without_scripts_the_page_loads_itself_again_and_cancels(site, rosa, enter):
    page = enter(rosa, java_script_enabled=False)
    rosa.ask(profile="cpu", time="0:20:00")
    page.goto("/hub/spawn-pending/rosa")
    until(
        lambda: page.reload() and page.get_by_text("The administrators let nothing start").count(),
        "the reason",
    )
    assert 'http-equiv="refresh"' in page.content()
    expect(page.locator("[data-fact=submitted]")).to_contain_text("UTC")
    page.get_by_role("button", name="Cancel the session").click()
    page.wait_for_url("**/hub/home")
    until(lambda: not site.jobs("rosa"), "the job's end")


def test_the_browser_tells_when_it_is_ready_if_it_was_asked_to(rosa, closed, enter):
    page = enter(rosa)
    rosa.ask(profile="cpu", time="0:20:00")
    page.add_init_script(STAGE)
    page.goto("/hub/spawn-pending/rosa")
    button = page.get_by_role("button", name="Tell me when it is ready")
    expect(button).to_be_visible()
    assert page.evaluate("window.asked") == 0, "only a click asks"
    press(page, button)
    expect(button).to_be_hidden()
    expect(page.get_by_text("Your browser tells you")).to_be_visible()
    closed()
    expect(page).to_have_title("✓ Ready · CPU session", timeout=WAIT)
    assert page.evaluate("window.told") == [["CPU session", "Your session is ready."]]
    assert "/hub/spawn-pending/" in page.url, "what is behind other windows waits for its reader"
    page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_url("**/user/rosa/lab**")


def test_a_failure_says_why_and_leads_on(site, rosa, enter):
    page = enter(rosa)
    with every_session(
        site, 'print("<b>so</b> far", flush=True); import time; time.sleep(4); greedy = bytearray(3 << 30)'
    ):
        rosa.ask(profile="cpu", time="0:25:00")
        page.goto("/hub/spawn-pending/rosa")
        expect(current(page)).to_contain_text("Server", timeout=WAIT)
        expect(page.locator("[data-fact=node]")).to_contain_text("node")
        expect(page.get_by_role("heading", name="Your session could not be started")).to_be_visible(
            timeout=WAIT
        )
    expect(page).to_have_title("Failed · CPU session")
    expect(page.get_by_role("alert")).to_contain_text("it used more memory than its limit of 1 GiB")
    log = page.locator("pre")
    expect(log).to_be_hidden()
    press(page, page.locator("summary", has_text="log"))
    expect(log).to_contain_text("<b>so</b> far")
    assert_good(page)
    assert not site.jobs("rosa"), "looking starts nothing"

    # It is there for who comes back, on each way to it.
    page.goto("/user/rosa/lab")
    expect(page.get_by_role("heading", name="Your session could not be started")).to_be_visible()
    page.get_by_role("link", name="Change and try again").click()
    page.wait_for_url(re.compile("/hub/spawn/rosa"))
    expect(profile(page, "cpu").get_by_role("textbox", name="Time limit")).to_have_value("0:25:00")
    assert not site.jobs("rosa")
    page.go_back()
    press(page, page.get_by_role("button", name="Same again"))
    page.wait_for_url("**/user/rosa/lab**", timeout=WAIT)
    (job,) = site.jobs("rosa")
    assert site.run("squeue", "-h", "-j", job, "-o", "%l").strip() == "25:00"


@pytest.mark.usefixtures("closed")
def test_a_job_that_dies_in_the_queue_says_so_on_the_open_page(site, rosa, enter):
    page = enter(rosa)
    ask_named(rosa, profile="cpu", time="0:20:00")
    page.goto("/hub/spawn-pending/rosa/work")
    (job,) = until(lambda: site.jobs("rosa"), "the job")
    site.run("scancel", job)
    expect(page.get_by_role("alert")).to_contain_text("its job was cancelled", timeout=WAIT)
    expect(page.get_by_role("heading", name="work")).to_be_visible()
    assert page.locator("form[data-again]").get_attribute("action") == "/hub/spawn/rosa/work"


@pytest.mark.usefixtures("closed")
def test_an_admin_sees_whose_session_it_is_and_stays_oneself(site, rosa, person, enter):
    page = enter(person("adam"))
    rosa.ask(profile="cpu", time="0:20:00")
    page.goto("/hub/spawn-pending/rosa")
    expect(page.get_by_role("heading", name="The session of rosa is starting")).to_be_visible()
    expect(page.locator("#login_widget")).to_contain_text("adam")
    reach(page, page.get_by_role("button", name="Cancel the session"))
    page.keyboard.press("Enter")
    press(page, page.get_by_role("dialog").get_by_role("button", name="Cancel the session"))
    page.wait_for_url("**/hub/admin")
    until(lambda: not site.jobs("rosa"), "the job's end")


@pytest.mark.usefixtures("closed")
def test_nobody_else_and_no_other_page_cancels(site, rosa, person):
    rosa.ask(profile="cpu", time="0:20:00")
    until(lambda: site.jobs("rosa"), "the job")
    ravi = person("ravi")
    url = f"{site.hub_url}/hub/carme/cancel/rosa"
    form = {"_xsrf": ravi.xsrf("/hub/")}
    assert ravi.http.post(url, data=form, timeout=30).status_code in {403, 404}
    assert ravi.http.get(f"{site.hub_url}/hub/spawn-pending/rosa", timeout=30).status_code in {403, 404}
    assert rosa.http.post(url, data={}, timeout=30).status_code == 403, "a form of another site has no _xsrf"
    assert rosa.http.get(url, timeout=30).status_code == 405
    assert rosa.http.post(f"{url}/nothing", data={"_xsrf": rosa.xsrf("/hub/")}, timeout=30).status_code == 404
    assert site.jobs("rosa")


@pytest.mark.usefixtures("closed")
def test_a_hub_that_does_not_answer_for_a_while_is_waited_for(site, rosa, enter):
    page = enter(rosa)
    rosa.ask(profile="cpu", time="0:20:00")
    until(lambda: site.jobs("rosa"), "the job")
    stream = "**/hub/api/users/rosa/server/progress*"
    page.route(stream, lambda route: route.fulfill(status=503, body="the proxy's own page"))
    page.goto("/hub/spawn-pending/rosa")
    expect(page.get_by_text("The hub does not answer at the moment")).to_be_visible(timeout=WAIT)
    assert_good(page)
    page.unroute(stream)
    site.run("scontrol", "hold", *site.jobs("rosa"))
    expect(page.get_by_text("An administrator has put it on hold")).to_be_visible(timeout=WAIT)
    expect(page.get_by_text("The hub does not answer at the moment")).to_be_hidden()
