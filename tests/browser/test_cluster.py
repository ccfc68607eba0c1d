"""The clusters' card as a person sees it: numbers, chart, nodes, all sizes and colours, Slurm away."""

from __future__ import annotations

import json
import re
import time

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.axe import faults
from tests.browser.conftest import PATIENCE, listen
from tests.browser.test_walk import log_in

REASON = "<img src=x onerror=document.title='owned'> fan 2"
PAGE = "/services/carme/cluster"


@pytest.fixture(scope="module")
def signed_in(site, browser: Browser):
    """Return the cookies of rosa, who is in at the hub and at the service."""
    context = browser.new_context(base_url=site.hub_url)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    log_in(site, page, "rosa")
    page.goto("/hub/home")
    # It comes over the stream, and so after the service has let her in.
    expect(page.locator("[data-cluster]")).to_be_visible(timeout=PATIENCE)
    cookies = context.storage_state()
    context.close()
    return cookies


@pytest.fixture
def page(site, browser: Browser, signed_in):
    """Return an empty page of hers."""
    context = browser.new_context(
        base_url=site.hub_url, storage_state=signed_in, viewport={"width": 1280, "height": 900}
    )
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


@pytest.fixture
def broken(site):
    """Take a node out of service, with a reason that is no harmless text."""
    site.run("scontrol", "update", "nodename=node2", "state=drain", f"reason={REASON}")
    yield
    site.run("scontrol", "update", "nodename=node2", "state=resume")


def opened(page: Page, path: str = PAGE):
    """Return the card, filled in."""
    page.goto(path)
    card = page.locator("[data-cluster]")
    expect(card.locator("[data-chart] canvas")).to_be_visible(timeout=PATIENCE)
    return card


def told(page: Page, answer: dict) -> None:
    """Let the service say something else over the stream, which cannot be brought about here quickly."""
    body = f"event: cluster\ndata: {json.dumps(answer)}\n\n"
    page.route(
        "**/api/events**",
        lambda route: route.fulfill(status=200, content_type="text/event-stream", body=body),
    )


def test_the_home_page_shows_what_is_free_and_what_comes(page: Page):
    complaints: list[str] = []
    listen(page, complaints)
    card = opened(page, "/hub/home")
    gpus = card.locator("[data-resources] > li").first
    expect(gpus).to_contain_text("GPU a100")
    expect(gpus).to_contain_text(re.compile(r"\d+ of 12 free"))
    expect(card).to_contain_text("Forecast from time limits: at the latest")
    assert not complaints


@pytest.mark.usefixtures("broken")
def test_a_node_is_found_by_its_reason_which_stays_text(page: Page):
    card = opened(page)
    nodes = card.locator("[data-nodes]")
    nodes.locator("summary").press("Enter")
    row = nodes.locator("tbody tr", has_text="node2")
    expect(row).to_contain_text("out of service", timeout=PATIENCE)
    expect(row).to_contain_text(REASON)
    nodes.get_by_label("Filter nodes by name, state or reason").fill("fan 2")
    expect(nodes.locator("tbody tr")).to_have_count(1)
    expect(nodes).to_contain_text("1 of 3 nodes")
    nodes.get_by_label("with something free").check()
    expect(nodes.locator("tbody tr")).to_have_count(0)
    assert "owned" not in page.title()


def test_the_chart_is_there_as_a_table_for_each_resource(page: Page):
    card = opened(page)
    card.get_by_text("The chart as a table").press("Enter")
    rows = card.locator("[data-as-table] tbody tr")
    expect(rows.filter(has_text="forecast")).to_have_count(24)
    card.get_by_label("What the chart shows").select_option("cpu")
    expect(rows.filter(has_text="forecast")).to_have_count(24)
    card.locator("[data-chart]").hover()
    expect(card.locator("[data-readout]")).to_contain_text("in use")


def test_the_card_keeps_nobody_out(page: Page):
    card = opened(page)
    card.get_by_text("The chart as a table").click()
    card.locator("[data-nodes] > summary").click()
    expect(card.locator("[data-nodes] tbody tr")).to_have_count(3)
    assert faults(page) == []


def test_when_slurm_is_away_yesterdays_picture_says_how_old_it_is(page: Page):
    counts = {"total": 8, "used": 3, "down": 1, "queued": 2}
    day_ago = int(time.time()) - 86400
    picture = {"name": "slurm", "at": day_ago, "silent_since": day_ago + 60, "running": 1, "pending": 0}
    picture |= {
        "resources": [{"name": "gpu:a100", **counts}],
        "partitions": [],
        "nodes": [],
        "nodes_total": 0,
    }
    told(page, {"at": day_ago, "clusters": [picture]})
    page.goto(PAGE)
    card = page.locator("[data-cluster]")
    expect(card).to_contain_text("Slurm does not answer at the moment")
    expect(card).to_contain_text("24 hours ago")
    expect(card).to_contain_text("4 of 8 free")
    expect(card).to_contain_text("3 in use, 1 out of service, 2 waited for")


def test_before_slurm_has_answered_at_all_the_card_says_so(page: Page):
    told(page, {"at": None, "clusters": []})
    page.goto(PAGE)
    expect(page.locator("[data-cluster]")).to_contain_text("Slurm has not answered yet")


def test_several_clusters_are_chosen_from(page: Page):
    now = int(time.time())
    common = {"at": now, "silent_since": None, "running": 0, "pending": 0, "partitions": [], "nodes": []}
    counts = {"used": 0, "down": 0, "queued": 0}
    clusters = [
        {"name": "big", "resources": [{"name": "cpu", "total": 99, **counts}], **common},
        {"name": "small", "resources": [{"name": "cpu", "total": 7, **counts}], **common},
    ]
    told(page, {"at": now, "clusters": clusters})
    page.goto(PAGE)
    card = page.locator("[data-cluster]")
    expect(card).to_contain_text("99 of 99 free")
    card.locator("[data-which]").select_option("small")
    expect(card).to_contain_text("7 of 7 free")


def test_where_slurm_cannot_tell_a_start_the_forecast_does(page: Page):
    asked = {"cluster": "", "partition": "gpu", "nodes": 1, "cpus": 1, "memory": 100, "gres": "gpu:a100:1"}
    answer = {"start": None, "nodes": "", "partition": "", "sentence": "No node can take it.", "asked": asked}
    # With nodes as they are here, Slurm always can.
    page.route("**/carme/estimate/**", lambda route: route.fulfill(status=200, json=answer))
    page.goto("/hub/spawn")
    form = page.locator("form", has=page.locator("[name=profile][value=gpu]"))
    if not form.is_visible():
        page.locator("details", has=form).locator("summary").first.click()
    form.locator("[name=gpus]").first.press("ArrowUp")
    expect(form.locator("[data-estimate]")).to_contain_text("at the latest", timeout=PATIENCE)
