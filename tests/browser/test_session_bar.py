"""The time left, "Extend" and the way back to the hub, in JupyterLab and Code-Server; Git, Python, memory."""

from __future__ import annotations

import contextlib
import re

from playwright.sync_api import Error, Page, expect

from tests.browser.test_walk import PATIENCE, log_in
from tests.support import until

LEFT = re.compile(r"(59 min|1 h 0[0-9] min) left")


def test_image_lab_and_code_server_show_the_time_left_and_lead_back_to_the_hub(site, person, page: Page):
    rosa = person("rosa")
    rosa.start(profile="cpu", time="1:00:00")
    until(lambda: rosa.get("/carme/time-limit").json()["end"], "the end of the session")
    log_in(site, page, "rosa")

    page.goto("/user/rosa/lab?reset")
    bar = page.get_by_role("group", name="Session")
    expect(bar).to_contain_text(LEFT, timeout=PATIENCE)
    hub = bar.get_by_role("link", name="Hub")
    expect(hub).to_have_attribute("href", f"{site.hub_url}/hub/home")
    # By the keyboard alone: both are links.
    bar.get_by_role("link", name="Extend").focus()
    with page.expect_popup() as opened:
        page.keyboard.press("Enter")
    home = opened.value
    home.wait_for_url("**/hub/home")
    home.get_by_role("button", name="30 min").click()
    home.wait_for_load_state()
    # The bar learns of it without a reload.
    expect(bar).to_contain_text(re.compile(r"1 h 2\d min left"), timeout=PATIENCE)
    # A Git panel, and the memory of this session, which has 1 GiB; not the node's.
    expect(page.get_by_role("tab", name=re.compile("^Git"))).to_be_attached()
    expect(
        page.locator("#jp-bottom-panel, .jp-StatusBar-Widget")
        .get_by_text(re.compile(r"/ 1(\.0+)? GB|/ 1024"))
        .first
    ).to_be_visible()

    page.goto("/user/rosa/code-server/")
    status = page.locator(".statusbar")
    expect(status.get_by_text(re.compile(r"1 h \d\d min left"))).to_be_visible(timeout=PATIENCE)
    with page.expect_popup() as opened:
        status.get_by_role("button", name=re.compile("Hub")).click()
        # Code-Server asks before it opens another address, unless it is told to trust it.
        trust = page.get_by_role("button", name="Open", exact=True)
        if trust.is_visible():
            trust.click()
    opened.value.wait_for_url("**/hub/home")


def test_image_python_is_completed_by_its_language_server(site, person, page: Page):
    rosa = person("rosa")
    rosa.start(profile="cpu")
    site.run("sh", "-c", "printf 'import os\\n\\nos.pat' > /srv/home/rosa/complete.py", user="rosa")
    log_in(site, page, "rosa")
    page.goto("/user/rosa/lab/tree/complete.py?reset")
    editor = page.locator(".jp-FileEditor .cm-content")
    editor.click(timeout=PATIENCE)
    until(lambda: rosa.get("/lsp/status").json()["sessions"]["pylsp"]["status"] == "started", "pylsp", 90)
    page.keyboard.press("Control+End")

    def completed():
        page.keyboard.press("Tab")
        with contextlib.suppress(Error):
            page.locator(".jp-Completer-item", has_text="path").first.wait_for(timeout=20_000)
            return True
        return False

    until(completed, "the completion", 90)
