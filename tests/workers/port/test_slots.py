"""Places: bounded, by priority, never lost."""

import asyncio

from workers.port.slots import Slots


async def hold(slots: Slots, priority: int, order: list[int], release: asyncio.Event) -> None:
    async with slots.one(priority):
        order.append(priority)
        await release.wait()


async def settle() -> None:
    """Let every task run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_places_are_bounded_and_go_by_priority() -> None:
    async def go() -> list[int]:
        slots, order, release = Slots(2), list[int](), asyncio.Event()
        tasks = [asyncio.create_task(hold(slots, priority, order, release)) for priority in (9, 8, 6, 5, 0)]
        await settle()
        assert (order, slots.running) == ([9, 8], 2)
        release.set()
        await asyncio.gather(*tasks)
        assert slots.running == 0
        return order

    assert asyncio.run(go()) == [9, 8, 0, 5, 6]


def test_a_place_whose_taker_is_cancelled_goes_to_the_next() -> None:
    async def go() -> None:
        slots, order, release = Slots(1), list[int](), asyncio.Event()
        first, waits, gone = (asyncio.create_task(hold(slots, p, order, release)) for p in (0, 2, 1))
        await settle()
        gone.cancel()  # while it waits
        await settle()
        late = asyncio.create_task(hold(slots, 1, order, release))
        await settle()
        first.cancel()
        # `first` gives its place to `late` in the next turn; `late` is cancelled in that very turn
        asyncio.get_running_loop().call_soon(late.cancel)
        await settle()
        assert order == [0, 2]
        release.set()
        await waits
        assert slots.running == 0
        async with asyncio.timeout(10), slots.one(0):
            assert slots.running == 1

    asyncio.run(go())
