"""Micro-batches: what waits together runs together, and one that fails fails alone."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from workers.engine.lifeline import give_up
from workers.onnx.batcher import Batcher, Ran


class Doubler:
    """Doubles numbers; refuses a batch with a negative one; waits for `gate` in each run."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.began = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.began.release()
        assert self.gate.wait(30)
        if min(items) < 0:
            raise ValueError("negative")
        return [2 * item for item in items]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_waits_when_a_run_ends_is_the_next_run() -> None:
    async def go() -> list[Ran[int]]:
        tasks = [asyncio.create_task(batcher.put(item)) for item in (1, 2)]
        await asyncio.to_thread(double.began.acquire)
        tasks += [asyncio.create_task(batcher.put(item)) for item in (3, 4, 5, 6, 7)]
        await settle()
        tasks[3].cancel()  # 4, while it waits
        await settle()
        double.gate.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        await batcher.close()
        assert isinstance(done.pop(3), asyncio.CancelledError)
        return [one for one in done if isinstance(one, Ran)]

    double = Doubler()
    batcher = Batcher(double, 3, seconds=60, hung=give_up)
    ran = asyncio.run(go())
    assert double.batches == [[1, 2], [3, 5, 6], [7]]
    assert [(one.row, one.batch) for one in ran] == [(2, 2), (4, 2), (6, 3), (10, 3), (12, 3), (14, 1)]
    assert (batcher.runs, batcher.items) == (3, 6)


def test_one_that_fails_fails_alone() -> None:
    async def go() -> list[Ran[int] | BaseException]:
        done = await asyncio.gather(*map(batcher.put, (1, -1, 2)), return_exceptions=True)
        with pytest.raises(ValueError, match="negative"):
            await batcher.put(-3)
        await batcher.close()
        return done

    double = Doubler()
    double.gate.set()
    batcher = Batcher(double, 8, seconds=60, hung=give_up)
    first, second, third = asyncio.run(go())
    assert isinstance(first, Ran) and isinstance(third, Ran)
    assert (first.row, third.row) == (2, 4)
    assert isinstance(second, ValueError)
    assert double.batches == [[1, -1, 2], [1], [-1], [2], [-3]]
