"""The child process, end to end over its socket."""

from __future__ import annotations

import base64
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from workers.engine.frames import FrameReader, encode_frame

ROOT = Path(__file__).resolve().parents[2]


class Child:
    """An engine process and the parent's end of its socket."""

    def __init__(self, cache: Path) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(60)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workers.engine", "--fd", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=ROOT,
            env=os.environ | {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
        )
        theirs.close()
        self._reader = FrameReader()
        self._messages: list[dict[str, Any]] = []

    def send(self, **message: Any) -> None:
        self.socket.sendall(encode_frame(message))

    def receive(self) -> dict[str, Any]:
        while not self._messages:
            data = self.socket.recv(1 << 16)
            assert data, "the child closed the socket"
            self._messages += self._reader.feed(data)
        return self._messages.pop(0)

    def until(self, operation: str, name: str | None = None) -> dict[str, Any]:
        """The next message of an operation, others dropped."""
        while True:
            message = self.receive()
            if message["op"] == operation and name in (None, message.get("id")):
                return message

    def load(self, path: Path, **settings: Any) -> dict[str, Any]:
        model = {"model_name": "tiny", "model_path": str(path), "n_ctx": 256, "n_slots": 4, "n_threads": 1}
        self.send(op="load", model=model | settings)
        return self.receive()

    def submit(self, name: str, text: str, **request: Any) -> None:
        sampling = {"temperature": 0.0, "max_tokens": 8} | request.pop("sampling", {})
        message = {"id": name, "messages": [{"role": "user", "content": text}], "sampling": sampling}
        self.send(op="submit", request=message | request)

    def close(self) -> int:
        self.socket.close()
        code = self.process.wait(timeout=60)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def start(cache: Path) -> Iterator[Callable[[], Child]]:
    children: list[Child] = []

    def start_one() -> Child:
        children.append(Child(cache))
        return children[-1]

    yield start_one
    for child in children:
        child.close()


def test_a_life_of_jobs(start: Callable[[], Child], q4_model: Path) -> None:
    child = start()
    ready = child.load(q4_model)
    assert ready["op"] == "ready"
    info = ready["info"]
    assert (info["quantisation"], info["architecture"], info["n_vocab"]) == ("Q4_K_M", "llama", 275)
    assert info["smoke"] in ("ok", "no_extra_bufts")
    assert info["chat_template"] is True
    child.submit("a", "你好 R12")
    child.submit("b", "pick", output={"type": "choices", "choices": ["pass", "fail"]})
    child.submit("c", "x" * 1000)
    done, failed = {}, {}
    while len(done) + len(failed) < 3:
        message = child.receive()
        if message["op"] == "done":
            done[message["id"]] = message["completion"]
        elif message["op"] == "failed":
            failed[message["id"]] = message["error"]
    assert failed["c"]["code"] == "prompt_too_long"
    assert done["a"]["usage"]["completion_tokens"] == 8
    assert sum(done["b"]["choice_probabilities"].values()) == pytest.approx(1.0)
    child.send(op="stats")
    assert child.until("stats")["stats"]["done"] == 2
    child.send(op="shutdown")
    assert child.process.wait(timeout=60) == 0


def test_frames_that_arrive_together_with_load_are_served(start: Callable[[], Child], q4_model: Path) -> None:
    child = start()
    model = {"model_name": "tiny", "model_path": str(q4_model), "n_ctx": 256, "n_slots": 4, "n_threads": 1}
    request = {"id": "early", "prompt": "hello", "sampling": {"max_tokens": 4, "temperature": 0.0}}
    frames = [{"op": "load", "model": model}, {"op": "submit", "request": request}, {"op": "stats"}]
    child.socket.sendall(b"".join(encode_frame(frame) for frame in frames))
    operations = [child.receive()["op"] for _ in range(4)]
    assert operations == ["ready", "stats", "started", "done"]


def test_an_embedding_model_speaks_the_same_port(start: Callable[[], Child], encoder_model: Path) -> None:
    child = start()
    info = child.load(encoder_model, embedding=True)["info"]
    assert (info["architecture"], info["pooling_type"], info["n_embd"], info["n_ctx"]) == (
        "bert",
        "mean",
        64,
        64,
    )
    for at in range(6):
        child.submit(str(at), f"pin {at}", output={"type": "embedding"})
    child.submit("text", "pin 3")
    child.submit("long", "pin " * 80, output={"type": "embedding"})
    done: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    while len(done) + len(failed) < 8:
        message = child.receive()
        if message["op"] == "done":
            done[message["id"]] = message["completion"]
        elif message["op"] == "failed":
            failed[message["id"]] = message["error"]["code"]
    assert failed == {"text": "output_not_supported", "long": "prompt_too_long"}
    assert {one["finish_reason"] for one in done.values()} == {"embedding"}
    assert {len(base64.b64decode(one["embedding"])) for one in done.values()} == {4 * 64}
    child.send(op="stats")
    assert child.until("stats")["stats"]["done"] == 6


def test_an_encoder_loaded_to_generate_names_the_setting(
    start: Callable[[], Child], encoder_model: Path
) -> None:
    child = start()
    answer = child.load(encoder_model)
    assert answer["op"] == "load_failed"
    assert (answer["error"]["code"], answer["error"]["field"]) == ("model_file_invalid", "embedding")


def test_cancel_reaches_a_running_job(start: Callable[[], Child], q4_model: Path) -> None:
    child = start()
    child.load(q4_model)
    child.submit("long", "hello", sampling={"max_tokens": 240, "temperature": 1.0, "seed": 3, "min_p": 0.0})
    child.until("started", "long")
    child.send(op="cancel", id="long")
    child.submit("next", "hello")
    assert child.until("failed", "long")["error"]["code"] == "cancelled"
    assert child.until("done", "next")["completion"]["text"]


def test_end_of_the_socket_ends_the_child(start: Callable[[], Child], q4_model: Path) -> None:
    child = start()
    child.load(q4_model)
    child.submit("unfinished", "hello", sampling={"max_tokens": 200})
    assert child.close() == 0


def test_an_interrupt_of_the_whole_group_does_not_end_the_child(
    start: Callable[[], Child], q4_model: Path
) -> None:
    child = start()
    child.load(q4_model)
    child.process.send_signal(signal.SIGINT)
    child.submit("a", "hello")
    assert child.until("done", "a")["completion"]["text"]


def test_an_idle_child_takes_no_steps(start: Callable[[], Child], q4_model: Path) -> None:
    child = start()
    child.load(q4_model)
    child.submit("a", "hello")
    child.until("done", "a")
    child.send(op="stats")
    first = child.until("stats")["stats"]["steps"]
    child.send(op="stats")
    assert child.until("stats")["stats"]["steps"] == first


@pytest.mark.parametrize("keep", [10, 2000, 0.5, 0.999])
def test_a_truncated_model_is_named(
    start: Callable[[], Child], q4_model: Path, tmp_path: Path, keep: float
) -> None:
    data = q4_model.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    child = start()
    answer = child.load(path)
    assert answer["op"] == "load_failed"
    assert answer["error"]["code"] == "model_file_invalid"
    assert str(path) in answer["error"]["message"]
    assert child.process.wait(timeout=60) == 3


@pytest.mark.parametrize(
    "model",
    [
        None,
        {},
        {"model_name": "x", "model_path": "/nowhere.gguf"},
        {"model_name": "x", "model_path": "y", "n_ctx": -1},
    ],
)
def test_a_load_that_cannot_work(start: Callable[[], Child], model: Any) -> None:
    child = start()
    child.send(op="load", model=model)
    assert child.receive()["op"] == "load_failed"
    assert child.process.wait(timeout=60) == 3


def test_bytes_that_are_no_frame_end_the_child(start: Callable[[], Child], q4_model: Path) -> None:
    child = start()
    child.load(q4_model)
    child.socket.sendall(struct.pack(">I", 5) + b"hello")
    assert child.process.wait(timeout=60) == 2


def test_a_request_that_is_none_harms_nobody(start: Callable[[], Child], q4_model: Path) -> None:
    child = start()
    child.load(q4_model)
    child.submit("good", "hello")
    for request in (None, 3, {"id": "bad"}, {"id": "worse", "messages": "x"}):
        child.send(op="submit", request=request)
    child.send(op="unknown")
    codes = [child.until("failed")["error"]["code"] for _ in range(4)]
    assert codes == ["request_invalid", "request_invalid", "prompt_empty", "request_invalid"]
    assert child.until("done", "good")["completion"]["text"]


def test_many_answers_to_a_slow_reader_are_all_delivered(start: Callable[[], Child], q4_model: Path) -> None:
    child = start()
    child.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    child.load(q4_model)
    for at in range(120):
        child.submit(str(at), "hello", sampling={"max_tokens": 4, "logprobs": 50})
    done = {child.until("done")["id"] for _ in range(120)}
    assert done == {str(at) for at in range(120)}


def test_a_killed_child_is_seen_as_end_of_file(start: Callable[[], Child], q4_model: Path) -> None:
    child = start()
    child.load(q4_model)
    child.process.send_signal(signal.SIGKILL)
    assert child.socket.recv(1) == b""


def test_an_image_is_asked_for_and_answered(
    start: Callable[[], Child], f32_model: Path, llava: Path, vision: Any
) -> None:
    child = start()
    assert child.load(f32_model, mmproj_path=str(llava))["op"] == "ready"

    answers = {
        "seen": {"data": base64.b64encode(vision.picture(1)).decode()},
        "garbled": {"data": "no base64!"},
        "gone": {"error": {"code": "image_missing", "message": "no such image", "remedy": "attach it"}},
    }
    hashes = {name: digit * 64 for name, digit in zip(answers, "123", strict=True)}
    for name, sha256 in hashes.items():
        content = [{"type": "image", "sha256": sha256}, {"type": "text", "text": "?"}]
        request = {"messages": [{"role": "user", "content": content}], "sampling": {"max_tokens": 4}}
        child.send(op="submit", request={"id": name} | request)
        assert child.receive() == {"op": "need_image", "sha256": sha256}
    ended = {}
    for name in ("garbled", "gone", "seen"):
        child.send(op="image", sha256=hashes[name], **answers[name])
        ended[name] = child.until("done" if name == "seen" else "failed", name)
    assert ended["garbled"]["error"]["code"] == "image_corrupt"
    assert ended["gone"]["error"]["remedy"] == "attach it"
    assert ended["seen"]["completion"]["usage"]["prompt_tokens"] > vision.LLAVA_POSITIONS


def test_a_projector_that_does_not_fit_is_named(
    start: Callable[[], Child], f32_model: Path, minicpmv: Path
) -> None:
    child = start()
    answer = child.load(f32_model, mmproj_path=str(minicpmv))
    assert (answer["op"], answer["error"]["field"]) == ("load_failed", "mmproj_path")


def test_a_deadline_passes_though_the_image_never_comes(
    start: Callable[[], Child], f32_model: Path, llava: Path
) -> None:
    child = start()
    child.load(f32_model, mmproj_path=str(llava))
    content = [{"type": "image", "sha256": "1" * 64}]
    request = {"messages": [{"role": "user", "content": content}], "sampling": {"max_tokens": 4}}
    child.send(op="submit", request={"id": "far", "deadline": 1e300} | request)
    child.send(op="submit", request={"id": "late", "deadline": time.time() + 0.2} | request)
    assert child.receive()["op"] == "need_image"
    # nothing is sent any more: the child wakes by itself
    assert child.until("failed", "late")["error"]["code"] == "deadline_exceeded"
