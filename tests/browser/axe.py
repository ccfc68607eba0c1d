"""Whether a page fits its screen and keeps nobody out: axe-core, light and dark, on a desk and on a phone."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from playwright.sync_api import Page, ViewportSize

from carme_hub.demo import cache as store
from carme_hub.demo import nodejs

DESK: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 360, "height": 740}
# Only colours differ between light and dark, and they are the same on a phone.
COLOURS = ["color-contrast", "link-in-text-block"]
LOOKS: list[tuple[str, ViewportSize, Literal["light", "dark"], list[str]]] = [
    ("desk", DESK, "light", []),
    ("desk", DESK, "dark", COLOURS),
    ("phone", PHONE, "light", []),
]
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
    for name, size, scheme, rules in LOOKS:
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        said: Any = page.evaluate(LOOK, [list(without), rules])
        found += [f"{name}, {scheme}: {what}" for what in said]
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            found.append(f"{name}: {wide} pixels wider than the screen")
    page.emulate_media(color_scheme="light")
    if before:
        page.set_viewport_size(before)
    return found


def assert_good(page: Page, *without: str) -> None:
    """Fail with everything that is wrong with the page."""
    wrong = faults(page, *without)
    # Each of our pages has one main part and one heading, of one size everywhere.
    parts = page.evaluate(
        "[document.querySelectorAll('main').length, "
        "[...document.querySelectorAll('h1:not(.visually-hidden)')].map(h => getComputedStyle(h).fontSize)]"
    )
    size = page.evaluate(
        "(() => { const h = document.createElement('h1'); h.className = 'h2'; document.body.append(h); "
        "const size = getComputedStyle(h).fontSize; h.remove(); return size; })()"
    )
    if parts[0] != 1 or parts[1] not in ([size], []):
        wrong.append(f"main parts: {parts[0]}, sizes of headings: {parts[1]} (should be {size})")
    assert not wrong, f"{page.url}\n" + "\n".join(wrong)
