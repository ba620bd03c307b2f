"""Texts embedded per second, by how many are in the embedder at once, beside `Llama.embed` one by one.

    python -m benchmarks.embeddings                     # a MiniLM-L6 shape with random weights
    python -m benchmarks.embeddings --model bge.gguf
    python -m benchmarks.embeddings --wire              # a vector as base64 against a list of numbers

They run in one process in turn (A B … B A) with the same threads and texts; the ratio of the medians is the
result. Queue, Redis and processes are left out: this is what packing itself gives.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import statistics
import struct
import tempfile
import time
import timeit
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.encoder_file import MINILM_L6, wordpieces, write_encoder
from benchmarks.machine import this_machine
from benchmarks.table import aligned, ratio, show, spread, write_json
from training.generate.defects import reports
from workers.engine.environment import bound_spinning, choose_threads

Vectors = npt.NDArray[np.float32]
Run = Callable[[list[str]], Vectors]
_VOCABULARY = 30_522


def english_reports(count: int) -> list[str]:
    """Inspection reports, always the same ones."""
    texts = (report.text for report in reports("test", 77) if report.text.isascii())
    return list(islice(texts, count))


def made_model(folder: Path, texts: list[str]) -> Path:
    """A MiniLM-L6-shaped file that has a token for most words of the texts."""
    words = sorted({word for text in texts for word in re.findall(r"[a-z]+", text.lower())})
    return write_encoder(folder / "minilm-l6-random.gguf", MINILM_L6, wordpieces(words, _VOCABULARY))


def embedder(path: Path, at_once: int, threads: int, pooling: str | None) -> Run:
    """Texts through our embedder, `at_once` of them in it."""
    from workers.engine.embedder import Embedder
    from workers.engine.embedding_loader import load_embedder
    from workers.engine.model import EngineModel

    settings = EngineModel(
        "bench", str(path), n_slots=at_once, n_threads=threads, embedding=True, pooling_type=pooling
    )
    loop = Embedder(load_embedder(settings))

    def run(texts: list[str]) -> Vectors:
        found: dict[int, npt.NDArray[np.float32]] = {}
        sent = 0
        while len(found) < len(texts):
            while sent < len(texts) and sent - len(found) < at_once:
                loop.submit({"id": str(sent), "prompt": texts[sent], "output": {"type": "embedding"}})
                sent += 1
            loop.step()
            for event in loop.events():
                if event["op"] == "failed":
                    raise RuntimeError(event["error"]["message"])
                if event["op"] == "done":
                    data = base64.b64decode(event["completion"]["embedding"])
                    found[int(event["id"])] = np.frombuffer(data, "<f4")
        return np.array([found[at] for at in range(len(texts))], np.float32)

    return run


def library(path: Path, threads: int, pooling: str | None) -> Run:
    """Texts through llama-cpp-python's own class, one after the other."""
    from llama_cpp import Llama

    from workers.engine.model import POOLING_TYPES

    llama = Llama(
        str(path), embedding=True, pooling_type=-1 if pooling is None else POOLING_TYPES[pooling],
        n_ctx=512, n_batch=512, n_ubatch=512, n_threads=threads, n_threads_batch=threads, verbose=False,
    )  # fmt: skip
    return lambda texts: np.array([llama.embed(text, normalize=True) for text in texts], np.float32)


@dataclass(frozen=True, slots=True)
class Wire:
    """One form of a vector in JSON: bytes, and microseconds to write and to read it."""

    form: str
    size: int
    write_us: float
    read_us: float


def wire() -> list[Wire]:
    """What one vector of 768 numbers costs either way."""
    vector = np.random.default_rng(0).standard_normal(768).astype("<f4")
    as_list, as_text = json.dumps(vector.tolist()), json.dumps(base64.b64encode(vector.tobytes()).decode())

    def microseconds(call: Callable[[], object]) -> float:
        return min(timeit.repeat(call, number=200, repeat=5)) / 200 * 1e6

    return [
        Wire(
            "list of numbers", len(as_list), microseconds(lambda: json.dumps(vector.tolist())),
            microseconds(lambda: json.loads(as_list)),
        ),
        Wire(
            "base64 of float32", len(as_text),
            microseconds(lambda: json.dumps(base64.b64encode(vector.tobytes()).decode())),
            microseconds(lambda: list(struct.unpack("<768f", base64.b64decode(json.loads(as_text))))),
        ),
    ]  # fmt: skip


def measure(runs: dict[str, Run], texts: list[str], rounds: int) -> tuple[dict[str, list[float]], float]:
    """Texts a second of each, round after round, and the least cosine between ours and the library's."""
    vectors = {name: run(texts) for name, run in runs.items()}
    first = next(iter(vectors.values()))
    least = min(float((found * first).sum(axis=1).min()) for found in vectors.values())
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name, run in list(runs.items()) if number % 2 == 0 else reversed(runs.items()):
            began = time.perf_counter()
            run(texts)
            rates[name].append(len(texts) / (time.perf_counter() - began))
    return rates, least


def main() -> None:
    """Print one line for each number of texts at once."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embeddings", description=__doc__)
    parser.add_argument("--model", type=Path, help="a GGUF; without one a MiniLM-L6 shape is made")
    parser.add_argument("--pooling-type", choices=["mean", "cls", "last"])
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--threads", type=int, default=choose_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--wire", action="store_true", help="measure the two forms of a vector instead")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    options = parser.parse_args()
    machine = this_machine()
    if options.wire:
        costs = wire()
        rows = [[one.form, str(one.size), f"{one.write_us:.0f}", f"{one.read_us:.0f}"] for one in costs]
        table = aligned(["a vector as", "bytes", "µs to write", "µs to read"], rows)
        show("One vector of 768 numbers in JSON", machine, table)
        write_json(options.json, "embeddings_wire", machine, [asdict(one) for one in costs])
        return
    bound_spinning(os.environ)
    texts = english_reports(options.texts)
    with tempfile.TemporaryDirectory() as folder:
        path = options.model or made_model(Path(folder), texts)
        runs = {"Llama.embed": library(path, options.threads, options.pooling_type)}
        for count in options.at_once:
            runs[f"{count} at once"] = embedder(path, count, options.threads, options.pooling_type)
        rates, least = measure(runs, texts, options.rounds)
    base = rates["Llama.embed"]
    rows = [[name, spread(values), f"{ratio(values, base):.2f}"] for name, values in rates.items()]
    title = f"{path.name}, {len(texts)} texts of {statistics.mean(map(len, texts)):.0f} characters, "
    title += f"{options.threads} threads, {options.rounds} rounds; least cosine between any two {least:.6f}"
    show(title, machine, aligned(["", "texts/s", "× Llama.embed"], rows))
    write_json(options.json, "embeddings", machine, {"texts_per_s": rates, "least_cosine": least})


if __name__ == "__main__":
    main()
