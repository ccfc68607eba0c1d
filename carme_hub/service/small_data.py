"""Data is sent small, pages are not.

A page has what its forms prove themselves with, and shows what others wrote: from the size of such a page,
zipped, whoever sees it go by guesses the secret letter by letter (BREACH, CVE-2013-3587). Data has no secret.
"""

from __future__ import annotations

from tornado.web import GZipContentEncoding

DATA = {"application/json", "text/csv"}


class SmallData(GZipContentEncoding):
    """Zips JSON and CSV for those who take it so; events are sent one by one, and stay as they are."""

    def _compressible_type(self, ctype: str) -> bool:
        return ctype in DATA
