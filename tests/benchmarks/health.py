"""Somebody who asks a hub on a fixed schedule whether it lives, in a process of their own.

Started with the page's address and the seconds between two questions, it asks until its input ends, waits
for what is still open, and prints for each question: when it was due (`time.monotonic`), the seconds from
then until the answer, the status. A question is due when it is due, however slow the last answer was: a hub
that stands still for a second has twenty slow answers, not one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from tornado.httpclient import AsyncHTTPClient

AT_ONCE = 20  # open connections; further questions wait here, which counts as the hub's time
PATIENCE = 900  # seconds


async def ask(client: AsyncHTTPClient, url: str, due: float) -> tuple[float, float, int]:
    try:
        answer = await client.fetch(
            url, raise_error=False, connect_timeout=PATIENCE, request_timeout=PATIENCE, follow_redirects=False
        )
        status = answer.code
    except OSError:
        status = 0
    return due, time.monotonic() - due, status


async def main(url: str, interval: float) -> None:
    client = AsyncHTTPClient(force_instance=True, max_clients=AT_ONCE)
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    asked = []
    late = 0.0
    due = time.monotonic()
    sys.stdout.write("asking\n")
    sys.stdout.flush()
    while not ended.done():
        await asyncio.sleep(max(due - time.monotonic(), 0))
        late = max(late, time.monotonic() - due)
        asked.append(asyncio.create_task(ask(client, url, due)))
        due += interval
    sys.stdout.write(json.dumps({"late": late, "asked": await asyncio.gather(*asked)}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
