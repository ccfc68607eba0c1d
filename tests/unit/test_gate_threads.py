"""Threads that nobody waits for."""

import asyncio
import subprocess
import sys
import threading

import pytest

from carme_hub.authenticator.threads import Threads


@pytest.fixture
def threads():
    made = Threads(2, "test")
    yield made
    made.close()


async def test_results_and_faults_come_back(threads):
    assert await threads.run(lambda: 7, 5) == 7
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0, 5)
    assert await threads.run(lambda: 8, 5) == 8


async def test_no_more_threads_than_allowed(threads):
    released, now, most = threading.Event(), [0], [0]
    lock = threading.Lock()

    def work():
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        released.wait(10)
        with lock:
            now[0] -= 1

    waiting = [asyncio.create_task(threads.run(work, 10)) for _ in range(6)]
    await asyncio.sleep(0)  # now they are asked for
    with pytest.raises(TimeoutError):
        await threads.run(lambda: None, 0.2)
    released.set()
    await asyncio.gather(*waiting)
    assert most == [2]


async def test_work_that_ran_out_of_time_in_the_queue_is_not_done(threads):
    released, done = threading.Event(), []
    held = [asyncio.create_task(threads.run(lambda: released.wait(10), 10)) for _ in range(2)]
    await asyncio.sleep(0)  # now they are asked for
    with pytest.raises(TimeoutError):
        await threads.run(lambda: done.append(1), 0.1)
    released.set()
    await asyncio.gather(*held)
    await asyncio.gather(*(threads.run(lambda: None, 5) for _ in range(4)))
    assert done == []


def test_the_program_ends_while_work_hangs():
    program = """
import asyncio, time
from carme_hub.authenticator.threads import Threads
try:
    asyncio.run(Threads(1, "test").run(lambda: time.sleep(60), 0.2))
except TimeoutError:
    print("too late")
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20
    )
    assert ran.stdout == "too late\n"
