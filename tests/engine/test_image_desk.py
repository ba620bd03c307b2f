"""Who waits for which image, what is asked for, and that work is done one piece at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from workers.engine.errors import IMAGE_CORRUPT, IMAGE_MISSING, EngineError
from workers.engine.image_desk import REST, Failure, Held, ImageDesk
from workers.engine.images import ImageCache, Slot
from workers.engine.request import EngineRequest

A, B = "a" * 64, "b" * 64


class Album:
    """An encoder of two slices a picture; the rows say which file they came from."""

    def __init__(self, rows: int = 3) -> None:
        self.calls: list[str] = []
        self.rows = rows

    def open(self, data: bytes) -> Any:
        self.calls.append("open")
        if data == b"bad":
            raise EngineError(IMAGE_CORRUPT, "damaged")
        if data == b"odd":
            raise MemoryError("too large")
        return Album.Picture(self, data[0])

    class Picture:
        def __init__(self, album: Album, value: int) -> None:
            self.album, self.value = album, value
            self.pieces = (np.array([1], np.int32), Slot(1, 2), np.array([2], np.int32), Slot(3, album.rows))

        def encode(self, slot: Slot) -> Any:
            self.album.calls.append("encode")
            return np.full((slot.rows, 4), self.value, np.float32)

        def close(self) -> None:
            self.album.calls.append("close")


def request(name: str, *hashes: str, priority: int = 5, deadline: float | None = None) -> EngineRequest:
    parts = [{"type": "image", "sha256": sha256} for sha256 in hashes]
    frame = {"id": name, "messages": [{"role": "user", "content": parts}], "priority": priority}
    return EngineRequest.parse(frame | {"deadline": deadline}, images=True)


@pytest.fixture
def album() -> Album:
    return Album()


@pytest.fixture
def desk(album: Album) -> ImageDesk:
    return ImageDesk(album, ImageCache(10_000), capacity=100, most_rows=50)


def finish(desk: ImageDesk) -> list[Held | Failure]:
    done: list[Held | Failure] = []
    while desk.busy:
        done += desk.work()
    return done


def test_a_hash_is_asked_for_once_and_encoded_once(desk: ImageDesk, album: Album) -> None:
    assert desk.take(request("one", A), 1.0)[1] == [A]
    assert desk.take(request("two", A, A), 2.0)[1] == []
    desk.receive(A, b"\x05")
    done = finish(desk)
    assert [held.request.id for held in done if isinstance(held, Held)] == ["one", "two"]
    assert album.calls == ["open", "encode", "encode", "close"]
    third, wanted = desk.take(request("three", A), 3.0)
    assert (wanted, third.missing, float(third.images[A].spans[0].rows[0, 0])) == ([], set(), 5.0)
    assert (desk.encodes, desk.hits) == (1, 2) and "one" not in desk


def test_each_piece_of_work_is_one_decode_or_one_pass_of_the_encoder(desk: ImageDesk, album: Album) -> None:
    desk.take(request("one", A, B), 1.0)
    desk.receive(A, b"\x01")
    desk.receive(B, b"\x02")
    steps = []
    while desk.busy:
        before = len(album.calls)
        desk.work()
        steps.append([call for call in album.calls[before:] if call != "close"])
    assert steps == [["open"], ["encode"], ["encode"]] * 2


def test_a_request_goes_on_when_its_last_image_is_there(desk: ImageDesk) -> None:
    desk.take(request("both", A, B), 1.0)
    desk.take(request("one", B), 2.0)
    desk.receive(B, b"\x02")
    assert [held.request.id for held in finish(desk) if isinstance(held, Held)] == ["one"]
    desk.receive(A, b"\x01")
    (both,) = finish(desk)
    assert isinstance(both, Held) and set(both.images) == {A, B} and both.arrived == 1.0


def test_a_missing_or_damaged_image_fails_those_who_wait_for_it_alone(desk: ImageDesk) -> None:
    desk.take(request("bad", A, B), 1.0)
    desk.take(request("good", A), 1.0)
    (gone,) = desk.refuse(B, EngineError(IMAGE_MISSING, "no such image", remedy="attach it"))
    assert (gone.held.request.id, gone.error.code) == ("bad", "image_missing")
    assert (gone.error.field, gone.error.remedy) == ("messages", "attach it")
    assert gone.error.message == "no such image (image bbbbbbbbbbbb…)"
    desk.receive(A, b"bad")
    (damaged,) = finish(desk)
    assert isinstance(damaged, Failure) and damaged.held.request.id == "good"
    assert (damaged.error.code, damaged.error.field) == ("image_corrupt", "messages")
    assert desk.take(request("again", A), 2.0)[1] == [A]


def test_whatever_goes_wrong_with_an_image_fails_its_jobs_alone(desk: ImageDesk) -> None:
    desk.take(request("odd", A), 1.0)
    desk.take(request("good", B), 1.0)
    desk.receive(A, b"odd")
    desk.receive(B, b"\x01")
    failure, held = finish(desk)
    assert isinstance(failure, Failure) and "MemoryError" in failure.error.message
    assert isinstance(held, Held) and held.request.id == "good"


def test_what_nobody_waits_for_any_more_is_not_decoded(desk: ImageDesk, album: Album) -> None:
    desk.take(request("one", A), 1.0)
    assert desk.drop("one") is not None and desk.drop("one") is None
    desk.receive(A, b"\x01")
    desk.receive(B, b"\x01")
    assert not desk.busy and album.calls == []
    assert desk.take(request("two", A), 1.0)[1] == [A]


@pytest.mark.parametrize(("rows", "code"), [(51, "image_too_large"), (98, "prompt_too_long")])
def test_what_no_decode_or_slot_can_take_is_not_encoded(rows: int, code: str) -> None:
    album = Album(rows)
    desk = ImageDesk(album, ImageCache(10_000), capacity=100, most_rows=50)
    desk.take(request("one", A), 1.0)
    desk.receive(A, b"\x01")
    (failure,) = finish(desk)
    assert isinstance(failure, Failure) and failure.error.code == code
    assert album.calls == ["open", "close"]


def test_an_interactive_job_s_picture_goes_before_those_of_batch_jobs(desk: ImageDesk, album: Album) -> None:
    for at, digit in enumerate("123"):
        desk.take(request(f"batch {at}", digit * 64), 1.0)
        desk.receive(digit * 64, bytes([at]))
    desk.work()
    desk.take(request("now", A, priority=1), 2.0)
    desk.receive(A, b"\x09")
    done = [held.request.id for held in finish(desk) if isinstance(held, Held)]
    # even before the rest of one that was begun
    assert done == ["now", "batch 0", "batch 1", "batch 2"]
    assert album.calls[:4] == ["open", "open", "encode", "encode"]


def test_a_batch_job_s_picture_becomes_urgent_with_who_waits_for_it(desk: ImageDesk) -> None:
    for name, sha256 in (("one", A), ("two", B)):
        desk.take(request(name, sha256), 1.0)
        desk.receive(sha256, b"\x01")
    desk.take(request("now", B, priority=0), 2.0)
    assert [held.request.id for held in finish(desk) if isinstance(held, Held)] == ["two", "now", "one"]


def test_while_interactive_jobs_run_batch_jobs_pictures_have_every_few_steps(
    desk: ImageDesk, album: Album
) -> None:
    desk.take(request("batch", A), 1.0)
    desk.receive(A, b"\x01")
    worked = []
    for _ in range(3 * (REST + 1)):
        before = len(album.calls)
        desk.work(hurried=True)
        worked.append(len(album.calls) > before)
    assert worked == ([True] + [False] * REST) * 3
    assert not desk.busy
    desk.take(request("now", B, priority=2), 1.0)
    desk.receive(B, b"\x02")
    for _ in range(3):
        desk.work(hurried=True)
    assert not desk.busy


def test_a_picture_that_nobody_waits_for_any_more_is_left_as_it_is(desk: ImageDesk, album: Album) -> None:
    for name, hashes in (("one", (A, B)), ("two", (B,))):
        desk.take(request(name, *hashes), 1.0)
    desk.receive(A, b"\x01")
    desk.receive(B, b"\x02")
    desk.work()
    desk.work()
    desk.drop("one")
    assert album.calls == ["open", "encode", "close"]
    assert [held.request.id for held in finish(desk) if isinstance(held, Held)] == ["two"]
    assert album.calls[3:] == ["open", "encode", "encode", "close"]
    # what was given up is asked for anew
    assert desk.take(request("three", A), 2.0)[1] == [A]


def test_one_who_fails_by_one_image_does_not_wait_for_the_others(desk: ImageDesk, album: Album) -> None:
    desk.take(request("one", A, B), 1.0)
    desk.receive(A, b"\x01")
    assert len(desk.refuse(B, EngineError(IMAGE_MISSING, "no such image"))) == 1
    assert not desk.busy and not album.calls


def test_a_file_that_comes_twice_is_one(desk: ImageDesk) -> None:
    desk.take(request("one", A), 1.0)
    desk.receive(A, b"\x01")
    desk.work()
    desk.receive(A, b"\x01")
    assert len(finish(desk)) == 1


def test_the_first_deadline_is_that_of_the_held(desk: ImageDesk) -> None:
    assert desk.first_deadline is None
    desk.take(request("never", A), 1.0)
    desk.take(request("late", A, deadline=30.0), 1.0)
    desk.take(request("soon", B, deadline=20.0), 1.0)
    assert (desk.first_deadline, desk.expired(20.0)) == (20.0, ["soon"])
    desk.drop("soon")
    assert desk.first_deadline == 30.0
