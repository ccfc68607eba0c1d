"""An admin's Markdown as HTML that cannot do anything: no scripts, no pictures, no HTML of its own.

Two locks, either of which would do: the renderer escapes HTML and refuses dangerous links, and what comes out
is cleaned by a list of what may be in it. What is not text, emphasis, list, table, code or link is left out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import nh3
from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token

LONGEST = 20_000  # characters; what is longer is cut
HEADING = 3  # what "#" becomes: the page and its boxes have the levels above
LOWEST = 6
TAGS = {
    *("p", "br", "hr", "strong", "em", "s", "code", "pre", "blockquote", "a"),
    *("ul", "ol", "li", "h3", "h4", "h5", "h6"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
SCHEMES = {"http", "https", "mailto"}

# Pictures would tell another site who reads the news, and the policy of our pages shows none of these.
_renderer = (
    MarkdownIt("commonmark", {"html": False})
    .enable(["table", "strikethrough"])
    .disable(["image", "html_inline"])
)


@lru_cache(maxsize=64)
def render(text: str) -> str:
    """Return Markdown as clean HTML. Links may lead elsewhere, and tell nobody from where."""
    tokens = _renderer.parse(text[:LONGEST])
    _lower(tokens)
    html = _renderer.renderer.render(tokens, _renderer.options, {})
    return nh3.clean(
        html, tags=TAGS, attributes=ATTRIBUTES, url_schemes=SCHEMES, link_rel="noopener noreferrer"
    )


def _lower(tokens: Sequence[Token]) -> None:
    """Put headings below those of the page."""
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1]) + HEADING - 1, LOWEST)}"
