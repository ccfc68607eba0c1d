"""What people do, in a real browser: log in, pick, wait, work in JupyterLab and Code-Server, stop."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support import until

PATIENCE = 90_000  # milliseconds


def log_in(site, page: Page, username: str, where: str = "/hub/home") -> None:
    """Fill in the login page as the person would."""
    for _ in range(4):
        page.goto(f"/hub/login?next={where}")
        page.get_by_label("Name", exact=False).first.fill(username)
        page.get_by_label("Password").fill(site.accounts[username]["password"])
        page.get_by_label(re.compile("code", re.IGNORECASE)).first.fill(site.codes[username].next())
        page.get_by_role("button", name=re.compile("log in|sign in", re.IGNORECASE)).click()
        page.wait_for_load_state()
        if "/hub/login" not in page.url:
            return
    pytest.fail("could not log in: " + page.inner_text("body"))


def profile(page: Page, name: str) -> Locator:
    """Return a profile's form, unfolded if it is not: the last choice is what the page opens with."""
    form = page.locator("form", has=page.locator(f"[name=profile][value={name}]"))
    form.wait_for(state="attached")
    if not form.is_visible():
        page.locator("details", has=form).locator("summary").first.click()
    return form


def test_a_researcher_works_with_gpus(site, person, page):
    rosa = person("rosa")
    log_in(site, page, "rosa")
    page.get_by_role("link", name="Start a session").click()
    page.wait_for_url("**/hub/spawn/rosa*")
    form = profile(page, "gpu")
    form.get_by_label("GPUs per node").fill("2")
    form.get_by_label("Nodes").fill("1")
    form.get_by_label("Time limit").fill("0:30:00")
    form.get_by_role("button", name="Start").click()

    page.wait_for_url("**/user/rosa/lab**")
    page.goto("/user/rosa/lab?reset")  # whatever an earlier visit left open
    page.locator(".jp-Launcher").wait_for()
    expect(page.locator(".jp-LauncherCard", has_text="Code-Server")).to_be_visible()
    page.locator(".jp-LauncherCard[title*='Python 3']").first.click()
    # JupyterLab forgets a cell that is run before there is a kernel.
    page.get_by_text("Python 3 | Idle").wait_for(timeout=60_000)
    cell = page.locator(".jp-CodeCell .cm-content").first
    cell.click()
    page.keyboard.type(
        "import os; print('job', os.environ['SLURM_JOB_ID'], 'gpus', os.environ['CUDA_VISIBLE_DEVICES'])"
    )
    output = page.locator(".jp-OutputArea-output pre").first
    page.keyboard.press("Shift+Enter")
    expect(output).to_contain_text("job", timeout=60_000)
    (job,) = site.jobs("rosa")
    printed = output.inner_text().split()
    assert printed[1] == job
    assert len(printed[3].split(",")) == 2

    page.goto("/user/rosa/code-server/")
    page.locator(".monaco-workbench").wait_for()

    page.goto("/hub/home")
    expect(page.get_by_role("link", name="Code-Server")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Stop it").click()
    until(lambda: not site.jobs("rosa"), "the job's end")
    until(lambda: not rosa.server(), "the hub's notice")


def test_a_student_opens_the_course_with_one_click(site, person, page):
    mia = person("mia")
    log_in(site, page, "mia", "/hub/spawn")
    form = profile(page, "ml101")
    form.get_by_role("button").click()
    page.wait_for_url("**/user/mia/lab/tree/courses/ml101/week1/intro.ipynb**")
    expect(page.get_by_role("heading", name="Week 1: a line through points")).to_be_visible(timeout=PATIENCE)
    assert mia.server()["ready"]


def test_a_session_that_dies_says_why(site, person, page):
    """A person's own configuration eats more memory than the session has: a real death before the start."""
    rosa = person("rosa")
    config = "/srv/home/rosa/.jupyter/jupyter_server_config.py"
    site.run(
        "bash", "-c", f"mkdir -p ~/.jupyter && echo 'greedy = bytearray(3 << 30)' > {config}", user="rosa"
    )
    try:
        log_in(site, page, "rosa", "/hub/spawn")
        form = profile(page, "cpu")
        form.get_by_role("button", name="Start").click()
        expect(page.get_by_role("alert")).to_contain_text(
            "more memory than its limit of 1 GiB", timeout=PATIENCE
        )
        assert "Something went wrong" not in page.inner_text("body")  # the page of the hub's own mistakes
        assert not rosa.server()
    finally:
        site.run("rm", config, user="rosa")


def test_the_code_is_asked_for(site, page):
    page.goto("/hub/login")
    page.get_by_label("Name", exact=False).first.fill("ravi")
    page.get_by_label("Password").fill(site.accounts["ravi"]["password"])
    page.get_by_label(re.compile("code", re.IGNORECASE)).first.fill("")
    page.locator("form").evaluate("form => form.submit()")
    page.wait_for_load_state()
    assert "/hub/login" in page.url
    cookies = json.dumps(page.context.cookies())
    assert "jupyterhub-hub-login" not in cookies
