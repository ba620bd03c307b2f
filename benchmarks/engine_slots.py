"""Jobs per second of the engine alone at several numbers of slots, beside `llama_cpp.Llama` one at a time.

    python -m benchmarks.engine_slots --model models/defect_detect.Q4_K_M.gguf

The engine and the sequential class take turns in one process (A B A B …) with the same threads, prompts
and lengths, so that what else the machine does hits both; the ratio of the medians is the result. Queue,
Redis and processes are left out: this is what batching itself gives.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from workers.engine.environment import bound_spinning, choose_threads

INSTRUCTION = "Read the board inspection report. Answer with the verdict as JSON."
PARTS = ("R", "C", "U", "L", "Q")
REPORTS = (
    "{part}{number}: solder bridge between pin 3 and pin 4, seen at station {station}.",
    "AOI station {station} flags {part}{number}, the joint on the left pad is open.",
    "{part}{number} 立碑，右侧焊盘未接触，第{station}工位发现。",
    "板件检查：{part}{number} 外观正常，未见异常，工位{station}。",
)


def prompts(count: int) -> list[str]:
    """Reports that differ from each other, always the same ones."""
    return [
        REPORTS[at % len(REPORTS)].format(
            part=PARTS[at % len(PARTS)], number=at * 7 % 400, station=at % 9 + 1
        )
        for at in range(count)
    ]


def messages(text: str) -> list[dict[str, str]]:
    """The chat of one job."""
    return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": text}]


def engine_runner(path: Path, slots: int, threads: int, max_tokens: int) -> Callable[[list[str]], int]:
    """Run texts through the engine, as many at once as it has slots; returns the generated tokens."""
    from workers.engine.engine import Engine
    from workers.engine.loader import load
    from workers.engine.model import EngineModel

    settings = EngineModel("bench", str(path), n_ctx=256, n_slots=slots, n_batch=256, n_threads=threads)
    engine = Engine(load(settings))

    def run(texts: list[str]) -> int:
        sent = done = tokens = 0
        while done < len(texts):
            while sent < len(texts) and sent - done < slots:
                sampling = {"temperature": 0.0, "max_tokens": max_tokens}
                engine.submit({"id": str(sent), "messages": messages(texts[sent]), "sampling": sampling})
                sent += 1
            engine.step()
            for event in engine.events():
                if event["op"] == "failed":
                    raise RuntimeError(event["error"]["message"])
                if event["op"] == "done":
                    done += 1
                    tokens += event["completion"]["usage"]["completion_tokens"]
        return tokens

    return run


def sequential_runner(path: Path, threads: int, max_tokens: int) -> Callable[[list[str]], int]:
    """Run texts through the high-level class, one after the other."""
    from llama_cpp import Llama

    llama = Llama(str(path), n_ctx=256, n_batch=256, n_threads=threads, flash_attn=True, verbose=False)

    def run(texts: list[str]) -> int:
        tokens = 0
        for text in texts:
            answer = llama.create_chat_completion(messages(text), temperature=0.0, max_tokens=max_tokens)
            tokens += answer["usage"]["completion_tokens"]
        return tokens

    return run


def main() -> None:
    """Print one line for each number of slots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--jobs", type=int, default=128)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=choose_threads())
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    bound_spinning(os.environ)
    texts = prompts(options.jobs)
    runners = {"llama_cpp.Llama": sequential_runner(options.model, options.threads, options.max_tokens)}
    for slots in options.slots:
        runners[f"{slots} slots"] = engine_runner(options.model, slots, options.threads, options.max_tokens)
    rates: dict[str, list[float]] = {name: [] for name in runners}
    tokens: dict[str, int] = {}
    for runner in runners.values():
        runner(texts[: max(8, options.jobs // 8)])
    for _ in range(options.rounds):
        for name, runner in runners.items():
            began = time.perf_counter()
            tokens[name] = runner(texts)
            rates[name].append(len(texts) / (time.perf_counter() - began))
    base = statistics.median(rates["llama_cpp.Llama"])
    print(f"{options.model.name}, {options.jobs} jobs, {options.threads} threads, {options.rounds} rounds")
    for name, values in rates.items():
        middle = statistics.median(values)
        spread = f"{min(values):.1f} to {max(values):.1f}"
        print(f"{name:>16}: {middle:7.1f} jobs/s ({spread}), {middle / base:5.2f} x, {tokens[name]} tokens")


if __name__ == "__main__":
    main()
