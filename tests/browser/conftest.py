"""A headless Chromium; pictures of failures go to test-results/."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, expect, sync_playwright

RESULTS = Path(__file__).parents[2] / "test-results"
PATIENCE = 90_000  # milliseconds for anything a page is waited for

# Playwright's own five seconds are less than a list takes to look again, or a busy machine to draw a page.
expect.set_options(timeout=PATIENCE)


def listen(page: Page, said: list[str]) -> None:
    """Add what the browser complains of on a page, with the address of what it complains of."""

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            said.append(f"{message.location['url']}: {message.text}")

    page.on("console", hear)
    page.on("pageerror", lambda error: said.append(str(error)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. As root it has no sandbox of its own; it visits the demo site only.

    Ended with the module: as long as Playwright runs, its event loop keeps other tests from having one.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, site, request) -> Iterator[Page]:
    """An empty page of a new, unknown visitor."""
    context = browser.new_context(base_url=site.hub_url, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    yield page
    RESULTS.mkdir(exist_ok=True)
    with contextlib.suppress(
        Error
    ):  # a picture for whoever looks for a failure's reason; no test depends on it
        page.screenshot(path=RESULTS / f"{request.node.name}.png")
    context.close()
