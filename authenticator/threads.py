"""Blocking work in daemon threads: bounded in number, waited for with a time-out, not joined at the end."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


class Threads:
    """
    A bounded number of daemon threads.

    `ThreadPoolExecutor` has none: the interpreter's end joins its threads, so that one piece of work that
    hangs keeps a hub from stopping.

    Parameters
    ----------
    most
        Threads there may be; further work queues.
    name
        What the threads are called.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._started = 0
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    async def run(self, work: Callable[[], Result], seconds: float) -> Result:
        """
        Run work in a thread; call it from the loop.

        Raises
        ------
        TimeoutError
            There was no result after `seconds`, the wait for a free thread included. Work that has begun goes
            on, and its result is lost.
        """
        future: Future[Result] = Future()
        self._queue.put((future, work))
        if self._started < self._most:
            self._started += 1
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        return await asyncio.wait_for(asyncio.wrap_future(future), seconds)

    def close(self) -> None:
        """End the threads as they become free."""
        for _ in range(self._started):
            self._queue.put(None)

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            future, work = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
                future.set_exception(error)
