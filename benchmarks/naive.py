"""The design to compare with: a stock Celery worker whose one task calls `llama_cpp.Llama`.

    BATCHYARD_REDIS_URL=… python -m benchmarks.naive --model defect_detect --pool threads --concurrency 4

Given every advantage that design has: the grammar is built once, the model is kept loaded, the instruction
is reused from the last prompt by llama-cpp-python itself, threads, attention and OpenMP settings are those
of our engine. `Llama` runs one prompt at a time and is not thread-safe, hence the lock.

The high-level class is what is measured here. Other benchmarks import llama_cpp to make and read GGUFs
(`shapes.py`, `mix.py`), and `embeddings.py` to compare with its embedding.
"""

import argparse
import json
import threading
from collections.abc import Callable
from typing import Any

from celery import Celery

from batchyard.catalogue import Catalogue, LlamaEntry, load_catalogue
from batchyard.errors import InvalidConfig
from batchyard.output import JsonSchemaOutput
from batchyard.settings import load_settings

TASK = "naive.run"
QUEUE = "naive"


def make_naive_app(url: str) -> Celery:
    """A Celery app as its manual sets one up for long tasks, with events on as ours has them."""
    app = Celery("naive", broker=url, backend=url, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        task_send_sent_event=True,
        worker_send_task_events=True,
        broker_connection_retry_on_startup=True,
        result_expires=3600,
    )
    return app


def load_llama(entry: LlamaEntry, path: str, threads: int) -> Any:
    """`llama_cpp.Llama` with the settings that our engine gets from the catalogue."""
    from llama_cpp import Llama

    return Llama(
        model_path=path,
        n_ctx=entry.n_ctx,
        n_batch=entry.n_batch or entry.n_ctx,
        n_ubatch=entry.n_ubatch or entry.n_ctx,
        n_threads=threads,
        n_threads_batch=threads,
        flash_attn=entry.flash_attn is not False,
        verbose=False,
    )


def make_answer(catalogue: Catalogue, entry: LlamaEntry, llama: Any) -> Callable[[str], str]:
    """A function from a prompt to the model's answer, with the instruction, the schema and the sampling
    that the catalogue has for the model's first task.

    Raises:
        InvalidConfig: that task does not answer with JSON.
    """
    from llama_cpp import LlamaGrammar

    task = catalogue.task(entry.tasks[0])
    if task is None or not isinstance(task.output, JsonSchemaOutput):
        raise InvalidConfig("the comparison needs a task with a JSON schema", field=f"task {entry.tasks[0]}")
    schema = task.output.model_dump(by_alias=True)["schema"]
    grammar = LlamaGrammar.from_json_schema(json.dumps(schema))
    lock = threading.Lock()
    system = [{"role": "system", "content": task.instruction}] if task.instruction else []

    def answer(prompt: str) -> str:
        with lock:
            reply: Any = llama.create_chat_completion(
                messages=[*system, {"role": "user", "content": prompt}],
                max_tokens=task.sampling.max_tokens,
                temperature=task.sampling.temperature or 0.0,
                grammar=grammar,
            )
        return str(reply["choices"][0]["message"]["content"])

    return answer


def make_raw_answer(llama: Any) -> Callable[[str, int], tuple[str, int]]:
    """A function from a raw prompt and a number of tokens to their text, greedy, and how many it has."""
    lock = threading.Lock()

    def answer(prompt: str, max_tokens: int) -> tuple[str, int]:
        with lock:
            reply: Any = llama.create_completion(prompt, max_tokens=max_tokens, temperature=0.0)
        return str(reply["choices"][0]["text"]), int(reply["usage"]["completion_tokens"])

    return answer


def main() -> None:
    """Run the worker until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.naive", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pool", choices=["solo", "threads"], required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--raw", action="store_true", help="the task takes a raw prompt and a length")
    arguments = parser.parse_args()
    settings = load_settings()
    catalogue = load_catalogue(settings.models)
    entry = catalogue.model(arguments.model)
    if not isinstance(entry, LlamaEntry):
        raise SystemExit(f"{entry.model_name} is no GGUF model: Llama() cannot run it")
    path = settings.models.resolve().parent.parent / entry.model_path
    llama = load_llama(entry, str(path), arguments.threads)
    app = make_naive_app(settings.url)
    app.task(make_raw_answer(llama) if arguments.raw else make_answer(catalogue, entry, llama), name=TASK)
    app.worker_main(
        [
            "worker", f"--pool={arguments.pool}", f"--concurrency={arguments.concurrency}",
            "--hostname=naive@%h", "--without-gossip", "--without-mingle", "--loglevel=WARNING",
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main()
