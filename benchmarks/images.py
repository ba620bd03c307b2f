"""Jobs per second of the engine alone with images: each picture new, or met again, and beside text jobs.

    python -m benchmarks.images --model MODEL.gguf --mmproj MMPROJ.gguf --jobs 64

Four kinds of traffic take turns in one process (A B C D D C B A …): every picture new with the cache of
encoded images off; a few pictures asked about again and again, with the cache off and on; and the same with
every other job a text job. The ratio to the first is the result. Queue, Redis and processes are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import struct
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import this_machine
from benchmarks.table import aligned, ratio, show, spread, write_json
from workers.engine.engine import Engine
from workers.engine.environment import bound_spinning, choose_threads
from workers.engine.loader import load
from workers.engine.model import EngineModel

QUESTION = "What is wrong with the board in this picture?"


@dataclass(slots=True)
class Traffic:
    """One kind of jobs with so many different `pictures`; every `text_every`th has none (0: all have one)."""

    name: str
    cached: bool
    pictures: int
    text_every: int = 0
    rates: list[float] = field(default_factory=list)
    encodes: list[int] = field(default_factory=list)


def picture(seed: int, side: int) -> bytes:
    """A PNG of `side` × `side` pixels, another one for each seed."""
    shades = hashlib.shake_256(f"picture {seed}".encode()).digest(3 * 64)
    blocks = [shades[3 * at : 3 * at + 3] for at in range(64)]
    scale = max(1, side // 8)
    rows = b""
    for y in range(side):
        line = [blocks[8 * min(7, y // scale) + min(7, x // scale)] for x in range(side)]
        rows += b"\0" + b"".join(line)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


class Runner:
    """An engine that is kept full; it is given pictures when it asks for them, as the pool does."""

    def __init__(self, settings: EngineModel, max_tokens: int) -> None:
        self._engine = Engine(load(settings))
        self._slots = settings.n_slots
        self._sampling = {"temperature": 0.0, "max_tokens": max_tokens}
        self._files: dict[str, bytes] = {}

    def request(self, name: str, file: bytes | None) -> dict[str, Any]:
        """A job about a picture, or about none."""
        content: list[dict[str, str]] = [{"type": "text", "text": QUESTION}]
        if file is not None:
            sha256 = hashlib.sha256(file).hexdigest()
            self._files[sha256] = file
            content.insert(0, {"type": "image", "sha256": sha256})
        messages = [{"role": "user", "content": content}]
        return {"id": name, "messages": messages, "sampling": self._sampling}

    def run(self, requests: list[dict[str, Any]]) -> tuple[float, int]:
        """Jobs a second, and how many images were encoded. Raises RuntimeError where a job fails."""
        before = self._engine.stats()["image_encodes"]
        began, sent, done = time.perf_counter(), 0, 0
        while done < len(requests):
            while sent < len(requests) and sent - done < self._slots:
                self._engine.submit(requests[sent])
                sent += 1
            for event in self._engine.events():
                if event["op"] == "need_image":
                    self._engine.image(event["sha256"], self._files[event["sha256"]])
                elif event["op"] == "failed":
                    raise RuntimeError(event["error"]["message"])
                done += event["op"] == "done"
            self._engine.step()
        seconds = time.perf_counter() - began
        return len(requests) / seconds, self._engine.stats()["image_encodes"] - before


def kinds(jobs: int, again: int) -> list[Traffic]:
    """What is compared; the first is what the others are measured by."""
    return [
        Traffic("every picture new, no cache", False, jobs),
        Traffic(f"{again} pictures, no cache", False, again),
        Traffic(f"{again} pictures, cached", True, again),
        Traffic(f"{again} pictures, cached, half text", True, again, text_every=2),
    ]


def measure(options: argparse.Namespace) -> list[Traffic]:
    """Run all kinds of traffic in turns."""
    runners = {
        cached: Runner(
            EngineModel(
                "bench", str(options.model), mmproj_path=str(options.mmproj), n_slots=options.slots,
                n_ctx=options.n_ctx, n_threads=options.threads, image_cache_bytes=2**30 if cached else 0,
            ),
            options.max_tokens,
        )
        for cached in (False, True)
    }  # fmt: skip
    traffics = kinds(options.jobs, options.again)
    for turn in range(options.rounds):
        for traffic in traffics if turn % 2 == 0 else reversed(traffics):
            runner = runners[traffic.cached]
            # new pictures are new in each round, the others are the same ones in all
            first = turn * options.jobs if traffic.pictures == options.jobs else -options.again
            files = [picture(first + at, options.side) for at in range(traffic.pictures)]
            requests = []
            for at in range(options.jobs):
                text = traffic.text_every and at % traffic.text_every == 0
                requests.append(runner.request(str(at), None if text else files[at % traffic.pictures]))
            rate, encodes = runner.run(requests)
            traffic.rates.append(rate)
            traffic.encodes.append(encodes)
    return traffics


def main() -> None:
    """Print one line for each kind of traffic."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="GGUF of the text model")
    parser.add_argument("--mmproj", type=Path, required=True, help="GGUF of the image encoder made for it")
    parser.add_argument("--jobs", type=int, default=64)
    parser.add_argument("--again", type=int, default=4, help="pictures that are asked about again")
    parser.add_argument("--side", type=int, default=336, help="pixels of a picture's side")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--n-ctx", type=int, default=2048)
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--threads", type=int, default=choose_threads())
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    options = parser.parse_args()
    bound_spinning(os.environ)
    machine = this_machine()
    traffics = measure(options)
    base = traffics[0].rates
    rows = [
        [one.name, spread(one.rates), f"{ratio(one.rates, base):.2f}", spread([*map(float, one.encodes)], 0)]
        for one in traffics
    ]
    table = aligned(["traffic", "jobs/s", "x first", "images encoded"], rows)
    show(f"{options.model.name}, {options.jobs} jobs, {options.slots} slots", machine, table)
    figures = {one.name: {"jobs_per_s": one.rates, "encodes": one.encodes} for one in traffics}
    write_json(options.json, "images", machine, figures)


if __name__ == "__main__":
    main()
