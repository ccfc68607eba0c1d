"""Who looks at the pages, and what they were told last."""

from __future__ import annotations


class Streams:
    """Stand-in until the stream is there."""
