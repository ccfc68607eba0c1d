"""A person without a mouse."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

# null without the focus.
SEEN = """
element => {
    if (element !== document.activeElement) return null;
    const style = getComputedStyle(element);
    const hasOutline = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    return hasOutline || style.boxShadow !== "none";
}
"""


def reach(page: Page, target: Locator, most: int = 100) -> None:
    """Go to something by the Tab key alone; where one is, must be seen.

    Parameters
    ----------
    page
        The page, which keeps the focus where it is.
    target
        What to reach.
    most
        How many keys are pressed before it counts as out of reach.
    """
    target.wait_for()
    for _ in range(most):
        seen = target.evaluate(SEEN)
        for _ in range(40):
            if seen is not False:
                break
            # A page that keeps up by itself may just be drawing it anew.
            page.wait_for_timeout(50)
            seen = target.evaluate(SEEN)
        if seen:
            return
        assert seen is None, f"nothing shows that {target} has the focus"
        page.keyboard.press("Tab")
    raise AssertionError(f"{target} is out of the Tab key's reach on {page.url}")


def press(page: Page, target: Locator) -> None:
    """Use a link, a button or a summary by keyboard."""
    reach(page, target)
    page.keyboard.press("Enter")


def fill(page: Page, target: Locator, text: str) -> None:
    """Type into a field in place of what it holds."""
    reach(page, target)
    page.keyboard.press("Control+A")
    page.keyboard.type(text)
