"""The database, asked from a page: in a thread, with a time-out, and a sentence when it does not answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from tornado.log import app_log

from carme_hub.authenticator.database import StoreError
from carme_hub.service.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa

    from carme_hub.service.site import Site

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = 15.0  # seconds
# Their own: while the database hangs, others go on (asyncio looks up the name of the hub in a thread, too).
_THREADS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="carme-records")
AWAY = "The database of sessions and messages does not answer at the moment. Please try again in a minute."


async def ask(
    site: Site, function: Callable[Concatenate[sa.Engine, P], T], *values: P.args, **more: P.kwargs
) -> T:
    """Call a function of `carme_hub.records` with the site's database.

    Raises
    ------
    Refused
        With status 503, when the database does not answer.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            # Opening it takes its time, too, the first time.
            return await asyncio.get_running_loop().run_in_executor(
                _THREADS, lambda: function(site.records, *values, **more)
            )
    except (TimeoutError, SQLAlchemyError, StoreError) as error:
        app_log.warning("The database does not answer: %s", " ".join(str(error).split())[:200])
        raise Refused(503, AWAY) from None
