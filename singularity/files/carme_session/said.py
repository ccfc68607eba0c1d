"""Says in a sentence what is not there: as a page for people, as a line for programs."""

from __future__ import annotations

import html
from typing import Any

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 38rem; padding: 10vh 1.5rem }}
h1 {{ font-size: 1.5rem; line-height: 1.25 }}
nav {{ display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 2rem }}
nav a {{ border: 1px solid; border-radius: .4rem; padding: .4rem .9rem; text-decoration: none }}
</style>
</head>
<body><main>
<h1>{title}</h1>
{paragraphs}
<nav aria-label="Ways on">{links}</nav>
</main></body>
</html>
"""


def wants_page(handler: Any) -> bool:
    """Return whether it is a person's browser that asks, for a page."""
    mode = handler.request.headers.get("Sec-Fetch-Mode", "navigate")
    return mode in {"navigate", "nested-navigate"} and "text/html" in handler.request.headers.get(
        "Accept", ""
    )


def say(
    handler: Any, status: int, title: str, sentences: list[str], links: list[tuple[str, str]] | None = None
) -> None:
    """Finish a request with what happened and the ways on.

    Parameters
    ----------
    handler
        Of a request that has no answer yet.
    status
        HTTP's.
    title, sentences
        Plain text.
    links
        Words and address of each way on; there is always one to JupyterLab.
    """
    handler.clear()
    handler.set_status(status)
    handler.set_header("Cache-Control", "no-store")
    handler.set_header(
        "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"
    )
    handler.set_header("X-Content-Type-Options", "nosniff")
    if not wants_page(handler):
        handler.set_header("Content-Type", "text/plain; charset=utf-8")
        handler.finish(" ".join((f"{title}.", *sentences)) + "\n")
        return
    ways = [*(links or []), ("Back to JupyterLab", handler.settings["base_url"] + "lab")]
    handler.set_header("Content-Type", "text/html; charset=utf-8")
    handler.finish(
        PAGE.format(
            title=html.escape(title),
            paragraphs="\n".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences),
            links=" ".join(
                f'<a href="{html.escape(address)}">{html.escape(words)}</a>' for words, address in ways
            ),
        )
    )
