"""Whether a page fits its screen and keeps nobody out: axe-core, light and dark, on a desk and on a phone."""

from __future__ import annotations

from functools import cache
from typing import Any

from playwright.sync_api import Page

from carme_hub.demo import cache as store
from carme_hub.demo import nodejs

DESK = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
# The structure is the same in both colour schemes; only what is made of colours is looked at twice.
COLOURS = ["color-contrast", "link-in-text-block"]
LOOK = """
async ([without, rules]) => {
    const about = without.length ? {exclude: without.map(selector => [selector])} : document;
    const only = rules.length ? {runOnly: {type: "rule", values: rules}} : {};
    const found = await window.axe.run(about, {resultTypes: ["violations"], ...only});
    return found.violations
        .filter(rule => ["serious", "critical"].includes(rule.impact))
        .flatMap(rule => rule.nodes.map(
            node => `${rule.id} at ${node.target.join(" ")}: ${node.failureSummary}`));
}
"""


@cache
def _script() -> str:
    return nodejs.axe(store.root(), lambda _line: None).read_text()


def faults(page: Page, *without: str) -> list[str]:
    """Return what is wrong with a page as it stands, most with the element it is about.

    Parameters
    ----------
    page
        The page; its window's size and its colours are as they were afterwards.
    without
        Selectors of what is not ours.
    """
    before = page.viewport_size
    # By the debugger's door, which no Content-Security-Policy stands before.
    page.evaluate(_script())
    found: list[str] = []
    for width, size in (("desk", DESK), ("phone", PHONE)):
        page.set_viewport_size(size)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            rules = COLOURS if scheme == "dark" else []
            said: Any = page.evaluate(LOOK, [list(without), rules])
            found += [f"{width}, {scheme}: {what}" for what in said]
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            found.append(f"{width}: {wide} pixels wider than the screen")
    page.emulate_media(color_scheme="light")
    if before:
        page.set_viewport_size(before)
    return found


def assert_good(page: Page, *without: str) -> None:
    """Fail with everything that is wrong with the page."""
    wrong = faults(page, *without)
    assert not wrong, f"{page.url}\n" + "\n".join(wrong)
