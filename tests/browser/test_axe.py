"""That the look at pages sees what it is for."""

from __future__ import annotations

import pytest

from tests.browser import axe

PAGE = (
    '<!DOCTYPE html><html lang="en"><head><title>A page</title><style>'
    "@media (prefers-color-scheme: dark) {{ .dim {{ color: #777; background: #555 }} }}"
    '</style></head><body><main><h1>A page</h1><p class="dim">Text</p>{}</main></body></html>'
)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<input>", "label at input"),
        ('<img src="data:,">', "image-alt at img"),
        ('<p style="color: #bbb">Pale</p>', "desk, light: color-contrast at p"),
        ('<p style="width: 400px">Wide</p>', "phone: "),
        ("<button></button>", "button-name at button"),
    ],
)
def test_a_fault_is_found(browser, body, fault):
    page = browser.new_page()
    page.set_content(PAGE.format(body))
    found = axe.faults(page)
    assert any(fault in line for line in found), found
    assert any(line.startswith("desk, dark: color-contrast at ") for line in found), found
    assert not [line for line in axe.faults(page, "input, img, p, button") if " at " in line]
    page.close()
