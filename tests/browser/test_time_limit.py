"""What a person sees when a time limit is near: in a terminal, JupyterLab, Code-Server, on the hub's page."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_walk import PATIENCE, log_in
from tests.support import until

SOON = re.compile(r"This session ends in [45] minutes")
HOME = "/srv/home/rosa"
# Her own configuration of the server: it opens a terminal, writes down what appears there, and starts the
# server when the test says so, after the end of its job has been moved near to the warning.
CONFIG = f"""
import os, pty, threading, time
outer, inner = pty.openpty()
def copy():
    with open("{HOME}/terminal", "ab", 0) as file:
        while True:
            file.write(os.read(outer, 1000))
threading.Thread(target=copy, daemon=True).start()
while not os.path.exists("{HOME}/go"):
    time.sleep(0.1)
"""


@pytest.fixture
def ending(site, person):
    """A session of rosa's that ends in little more than five minutes."""
    rosa = person("rosa")
    config, clean = (
        f"{HOME}/.jupyter/jupyter_server_config.py",
        ["rm", "-f", f"{HOME}/go", f"{HOME}/terminal"],
    )
    site.run(*clean)
    site.run("bash", "-c", f"mkdir -p {HOME}/.jupyter; cat > {config} <<'END'\n{CONFIG}END\n", user="rosa")
    try:
        rosa.ask(profile="cpu", time="0:06:00")
        (job,) = until(
            lambda: site.run("squeue", "-h", "-u", "rosa", "-t", "running", "-o", "%A").split(), "rosa's job"
        )
        site.run("scontrol", "update", f"JobId={job}", "EndTime=now+330")
        site.run("touch", f"{HOME}/go", user="rosa")
        until(lambda: rosa.server().get("ready"), "rosa's session")
        yield rosa
    finally:
        site.run(*clean, config)


def test_a_session_is_warned_in_a_terminal_and_in_the_browser_and_extended_by_a_click(
    site, ending, page: Page
):
    line = "*** This session ends in 5 minutes"
    until(lambda: line in site.run("cat", f"{HOME}/terminal"), "the line in the terminal")
    assert ending.get("/carme/time-limit").json()["warned"] == 300

    log_in(site, page, "rosa")
    page.goto("/user/rosa/code-server/")
    page.locator(".monaco-workbench").wait_for()
    warning = page.locator(".notification-toast", has_text=SOON)
    expect(warning).to_be_visible(timeout=PATIENCE)
    expect(warning.get_by_role("button", name="Extend")).to_be_visible()

    page.goto("/user/rosa/lab?reset")
    notice = page.locator(".Toastify__toast", has_text=SOON)
    expect(notice).to_be_visible(timeout=PATIENCE)
    with page.context.expect_page() as opened:  # the hub's pages have no opener
        notice.get_by_role("button", name="Extend").click()
    home = opened.value
    home.wait_for_url("**/hub/home")

    alert = home.get_by_role("alert").filter(has_text="Ends at")
    expect(alert).to_contain_text("Please save your work")
    home.get_by_role("button", name="30 min").click()
    home.wait_for_load_state()
    expect(home.get_by_text("Ends at")).to_contain_text(re.compile(r"3\d min"))
    expect(home.get_by_role("alert")).to_have_count(0)
    (job,) = site.jobs("rosa")
    left = site.run("squeue", "-h", "-j", job, "-o", "%L").strip()
    assert re.fullmatch(r"3[0-9]:[0-9]{2}", left)


def test_the_page_is_right_without_scripts(site, person, browser):
    rosa = person("rosa")
    rosa.start(profile="cpu", time="0:30:00")
    context = browser.new_context(base_url=site.hub_url, java_script_enabled=False)
    page = context.new_page()
    log_in(site, page, "rosa")
    expect(page.get_by_text("Ends at")).to_contain_text(re.compile(r"in\s+(30|29) min"))
    page.get_by_role("button", name="1 h", exact=True).click()
    page.wait_for_url("**/hub/home")
    expect(page.get_by_text("Ends at")).to_contain_text(re.compile(r"in\s+1 h (30|29) min"))
    context.close()
