"""The start page: by keyboard, on a telephone, without scripts, with what is free and when it would start."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.test_walk import profile
from tests.support import until

PATIENCE = 30_000  # milliseconds


@pytest.fixture
def visit(site, person, browser):
    """Return a function that opens a page as somebody who is logged in already: a code counts only once."""
    contexts = []

    def open_page(username: str, path: str, **options) -> Page:
        cookies = [
            {"name": cookie.name, "value": cookie.value, "path": cookie.path, "domain": "127.0.0.1"}
            for cookie in person(username).http.cookies
        ]
        context = browser.new_context(
            base_url=site.hub_url, viewport={"width": 1280, "height": 900}, **options
        )
        contexts.append(context)
        context.add_cookies(cookies)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def start_page(visit) -> Page:
    """The start page as rosa sees it, with the GPU profile open, as its description has it."""
    return visit("rosa", "/hub/spawn?opt-profile=gpu&opt-gpus=1&opt-nodes=1&opt-image=base&opt-time=120")


def gpu(page: Page):
    """Return the form of the GPU profile."""
    return profile(page, "gpu")


def order(page: Page):
    """Return the box that says what the open profile comes to."""
    return page.locator("details[open] .carme-order")


def test_what_is_free_and_what_a_session_comes_to_is_shown_and_follows(start_page):
    card = start_page.locator("details.carme-profile", has=start_page.locator("[value=gpu]"))
    expect(card.locator("summary").first).to_contain_text(re.compile(r"\d+ of 12 a100 free now"))
    expect(card.locator("summary").first).to_contain_text("up to 4 × a100 · on up to 2 nodes")  # noqa: RUF001
    gpu(start_page).get_by_label("GPUs per node").fill("4")
    gpu(start_page).get_by_label("Nodes").fill("2")
    expect(order(start_page).locator("[data-size]")).to_have_text("2 nodes × 4 GPUs")  # noqa: RUF001
    expect(order(start_page).locator("[data-holds]")).to_have_text("8 cores, 16 GiB in all")


def test_slurm_tells_when_exactly_this_would_start_before_the_click(site, start_page):
    asked = []
    start_page.on(
        "request", lambda sent: asked.append(sent.post_data_json) if "estimate" in sent.url else None
    )
    estimate = order(start_page).locator("[data-estimate]")
    expect(estimate).to_contain_text("Would start now", timeout=PATIENCE)
    expect(estimate).to_contain_text("partition gpu")
    # Whoever types "0:45:00" asks once, when it is finished.
    gpu(start_page).get_by_label("Time limit").press_sequentially("")
    with start_page.expect_response(lambda answer: "estimate" in answer.url and answer.ok, timeout=PATIENCE):
        gpu(start_page).get_by_label("Time limit").fill("")
        gpu(start_page).get_by_label("Time limit").press_sequentially("0:45:00", delay=20)
    assert [wish["time"] for wish in asked if wish["time"] != "2:00:00"] == ["0:45:00"]
    assert not site.jobs("rosa")


def test_what_is_wrong_is_said_at_the_field_as_soon_as_it_is_typed(start_page):
    time = gpu(start_page).get_by_label("Time limit")
    time.fill("9-00:00:00")
    expect(time).to_have_attribute("aria-invalid", "true", timeout=PATIENCE)
    expect(time).to_have_accessible_description(re.compile("9-00:00:00 asked, at most 1-00:00:00 allowed"))
    expect(order(start_page).locator("[data-estimate]")).to_contain_text("It cannot start like this")
    gpu(start_page).get_by_role("button", name="1 hour").click()
    expect(time).to_have_value("1:00:00")
    expect(order(start_page).locator("[data-estimate]")).to_contain_text("Would start now", timeout=PATIENCE)
    expect(time).not_to_have_attribute("aria-invalid", "true")


def test_one_question_at_a_time_is_asked_and_the_newest_is_answered(start_page):
    """The hub is slow here, and says "too many" once: both cannot be had from a real one to the moment."""
    expect(order(start_page).locator("[data-estimate]")).to_contain_text("Would start", timeout=PATIENCE)
    held: list[Route] = []
    open_now, most = 0, 0

    def hold(route: Route) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        held.append(route)

    def ended(_request) -> None:
        nonlocal open_now
        open_now -= 1

    start_page.route("**/api/carme/estimate/**", hold)
    start_page.on("requestfailed", ended)
    start_page.on("requestfinished", ended)
    nodes = gpu(start_page).get_by_label("GPUs per node")
    nodes.fill("2")
    start_page.wait_for_event("request", lambda sent: '"gpus":"2"' in (sent.post_data or ""))
    nodes.fill("3")  # the first one is given up
    start_page.wait_for_event("request", lambda sent: '"gpus":"3"' in (sent.post_data or ""))
    until(lambda: start_page.wait_for_timeout(20) or len(held) == 2, "the second question")
    with start_page.expect_request(lambda sent: "estimate" in sent.url) as again:
        held[-1].fulfill(status=429, headers={"Retry-After": "1"}, body="{}")
    assert again.value.post_data_json["gpus"] == "3"
    until(lambda: start_page.wait_for_timeout(20) or len(held) == 3, "the third question")
    answer = {
        "start": 4102444800,
        "nodes": "node9",
        "partition": "gpu",
        "sentence": "It would start on node9.",
    }
    held[-1].fulfill(status=200, content_type="application/json", body=json.dumps(answer))
    expect(order(start_page).locator("[data-estimate]")).to_contain_text(
        re.compile("Would start in .* days.*2100")
    )
    assert most == 1


def test_a_hub_that_does_not_answer_leaves_the_page_as_it_is(start_page):
    start_page.route("**/api/carme/estimate/**", lambda route: route.abort())
    gpu(start_page).get_by_label("GPUs per node").fill("2")
    expect(order(start_page).locator("[data-estimate]")).to_contain_text(
        "No estimate at the moment", timeout=PATIENCE
    )
    expect(order(start_page).locator("[data-size]")).to_have_text("2 GPUs")


def test_a_session_is_chosen_and_started_by_keyboard_alone(person, start_page):
    page = start_page
    page.locator("details.carme-profile", has=page.locator("[value=cpu]")).locator("summary").first.focus()
    page.keyboard.press("Enter")
    expect(profile(page, "cpu").get_by_label("Image")).to_be_visible()
    other = page.locator("form", has=page.locator("[name=profile][value=gpu]"))
    expect(other.get_by_label("Image")).to_be_hidden()  # only the chosen one's options
    form = page.locator("form", has=page.locator("[name=profile][value=cpu]"))
    seen = []
    for _ in range(15):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.name || document.activeElement.textContent.trim()")
        seen.append(name)
        if name == "time":
            page.keyboard.press("Control+a")
            page.keyboard.type("0:20:00")
        if name == "Start":
            break
    assert seen[0] == "image"
    assert "time" in seen
    assert seen[-1] == "Start", seen
    expect(form.locator("[data-estimate]")).to_contain_text("Would start now", timeout=PATIENCE)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/(spawn-pending|user)/rosa"))
    assert person("rosa").server()["user_options"]["time"] == 20


def test_a_refused_request_comes_back_filled_in_with_the_focus_at_the_field(site, visit):
    """Without scripts: what the page can do by itself."""
    page = visit("rosa", "/hub/spawn", java_script_enabled=False)
    form = profile(page, "cpu")
    form.get_by_label("Time limit").fill("5-00:00:00")
    form.get_by_role("button", name="Start").click()
    time = profile(page, "cpu").get_by_label("Time limit")
    expect(time).to_have_value("5-00:00:00")
    expect(time).to_have_attribute("aria-invalid", "true")
    expect(time).to_have_accessible_description(re.compile("5-00:00:00 asked, at most 8:00:00 allowed"))
    expect(time).to_be_focused()
    told = page.get_by_role("alert")
    expect(told).to_contain_text("Time limit (time)")
    expect(told.get_by_role("link")).to_have_attribute("href", "#profile-cpu-time")
    for script_only in ("Copy link", "1 hour"):
        expect(page.get_by_role("button", name=script_only)).to_have_count(0)
    assert not site.jobs("rosa")
    assert "_xsrf" not in page.url, "whoever gets a copy of the address gets the proof"


def test_a_link_to_the_form_fills_it_in_for_whoever_opens_it(site, visit, start_page):
    start_page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    gpu(start_page).get_by_label("GPUs per node").fill("3")
    gpu(start_page).get_by_label("Time limit").fill("0:50:00")
    order(start_page).get_by_role("button", name="Copy link").click()
    expect(order(start_page).get_by_role("button", name="Copied")).to_be_visible()
    link = start_page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(f"{site.hub_url}/hub/spawn?opt-profile=gpu&")
    assert "_xsrf" not in link

    other = visit("ravi", link)
    expect(other.get_by_role("status").first).to_contain_text("press Start")
    form = profile(other, "gpu")
    expect(form.get_by_label("GPUs per node")).to_have_value("3")
    expect(form.get_by_label("Time limit")).to_have_value("0:50:00")
    assert not site.jobs("ravi")


def test_what_was_started_last_is_open_the_next_time(person, visit):
    rosa = person("rosa")
    rosa.start(profile="cpu", time="0:25:00")
    rosa.end_session()
    page = visit("rosa", "/hub/spawn")
    form = page.locator("form", has=page.locator("[name=profile][value=cpu]"))
    expect(form.get_by_label("Time limit")).to_have_value("0:25:00")
    expect(form.get_by_label("Time limit")).to_be_visible()


def test_a_named_session_that_is_only_looked_at_leaves_nothing(person, visit):
    rosa = person("rosa")
    page = visit("rosa", "/hub/spawn/rosa/glance")
    expect(page.get_by_text("named glance")).to_be_visible()
    servers = rosa.api("GET", "/users/rosa?include_stopped_servers").json()["servers"]
    assert "glance" not in servers
    expect(page.locator("details[open] [data-estimate]").first).to_contain_text(
        "Would start", timeout=PATIENCE
    )
    form = profile(page, "cpu")
    form.get_by_label("Time limit").fill("7-00:00:00")  # refused, and still nothing is left
    form.get_by_role("button", name="Start").click()
    expect(page.get_by_role("alert").first).to_contain_text("7-00:00:00 asked")
    expect(page.get_by_text("named glance")).to_be_visible()
    servers = rosa.api("GET", "/users/rosa?include_stopped_servers").json()["servers"]
    assert "glance" not in servers


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_a_telephone_and_a_desk_in_light_and_dark(start_page, width, scheme):
    start_page.set_viewport_size({"width": width, "height": 900})
    start_page.emulate_media(color_scheme=scheme)
    start_page.reload()
    expect(start_page.locator("html")).to_have_attribute("data-bs-theme", scheme)
    assert start_page.evaluate("document.documentElement.scrollWidth") <= width
    for label in ("Image", "GPUs per node", "Nodes", "Time limit"):
        box = gpu(start_page).get_by_label(label).first.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


def test_an_admin_starts_for_somebody_else_and_is_told_when_that_would_start(person, visit):
    person("mia")
    page = visit("adam", "/hub/spawn/mia?opt-profile=cpu")
    expect(page.get_by_text("for mia")).to_be_visible()
    estimate = page.locator("details[open] [data-estimate]")
    expect(estimate).to_contain_text("Would start", timeout=PATIENCE)
    assert page.locator("[data-spawn]").get_attribute("data-estimates") == "/hub/api/carme/estimate/mia"


def test_a_student_sees_courses_first(visit):
    page = visit("mia", "/hub/spawn")
    headings = page.locator("main h2, .carme-spawn h2").all_inner_texts()
    assert headings.index("Courses") < headings.index("Sessions")
    course = page.locator("form", has=page.locator("[value=ml101]"))
    expect(course).to_contain_text("1 core · 1 GiB · 2 hours")
    start = course.get_by_role("button", name="Start Machine Learning 101")
    start.focus()  # who comes near Start is told when it would start
    expect(course.locator("[data-estimate]")).to_contain_text("Would start", timeout=PATIENCE)
