"""Taking turns, by key."""

import asyncio

import pytest

from carme_hub.authenticator.turns import Turns


@pytest.mark.parametrize("most", [1, 3])
async def test_so_many_at_once_and_all_come_through(most):
    turns, inside, seen = Turns(most), 0, []

    async def one():
        nonlocal inside
        async with turns.turn("alice"):
            inside += 1
            seen.append(inside)
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*(one() for _ in range(20)))
    assert (len(seen), max(seen), len(turns)) == (20, most, 0)


async def test_another_key_does_not_wait():
    turns = Turns(1)
    async with turns.turn("alice"), turns.turn("bob"):
        assert len(turns) == 2
    assert len(turns) == 0


async def test_who_gives_up_or_fails_leaves_the_line():
    turns = Turns(1)

    async def waiting():
        async with turns.turn("alice"):
            pass

    async def failing():
        async with turns.turn("alice"):
            given_up = asyncio.create_task(waiting())
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            raise ValueError("fault")

    with pytest.raises(ValueError, match="fault"):
        await failing()
    await waiting()
    assert len(turns) == 0
