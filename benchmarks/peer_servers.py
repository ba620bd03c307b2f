"""The peers as child processes: started on a free port, awaited, ended. It knows their options and answers.

Each gets the model, the threads, the layers on a GPU and the context per slot that our engine gets, and
otherwise its defaults:
continuous batching and the prompt cache of `llama-server` are on.
"""

import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchyard.errors import YardUnavailable
from benchmarks.mix import Ask
from local.redis_server import free_ports

READY_SECONDS = 600.0
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Serving:
    """What a server is to run: `n_ctx` tokens for each of `slots` requests at once, `n_gpu_layers` layers
    on a GPU (-1: all). `environ` is added to its environment."""

    model: Path
    slots: int
    n_ctx: int
    threads: int
    environ: Mapping[str, str]
    n_gpu_layers: int = 0

    @property
    def gpu_layers(self) -> str:
        """For the option `-ngl` of llama.cpp's programs, where -1 would mean as many as fit."""
        return "all" if self.n_gpu_layers < 0 else str(self.n_gpu_layers)


@dataclass(frozen=True, slots=True)
class Reply:
    """What is compared of an answer. Token counts are the server's own."""

    text: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


def llama_server_command(program: Path, serving: Serving, port: int) -> list[str]:
    """The command line of `llama-server`."""
    return [
        str(program), "-m", str(serving.model), "--host", "127.0.0.1", "--port", str(port),
        "-np", str(serving.slots), "-c", str(serving.n_ctx * serving.slots), "-cb",
        "-t", str(serving.threads), "-tb", str(serving.threads), "-ngl", serving.gpu_layers,
        "--log-verbosity", "1",
    ]  # fmt: skip


def llama_server_body(ask: Ask) -> dict[str, Any]:
    """A job for its `/completion`, greedy."""
    return {
        "prompt": ask.prompt, "n_predict": ask.answer_tokens, "temperature": 0, "cache_prompt": True,
        "stream": False,
    }  # fmt: skip


def llama_server_reply(answer: Mapping[str, Any]) -> Reply:
    """Its answer."""
    cached = int(answer["timings"].get("cache_n", 0))
    return Reply(
        str(answer["content"]), int(answer["tokens_evaluated"]), cached, int(answer["tokens_predicted"])
    )


def python_server_config(serving: Serving, port: int) -> dict[str, Any]:
    """The configuration file of the server script in llama-cpp-python's examples."""
    return {
        "server": {"host": "127.0.0.1", "port": port},
        "model": {
            "path": str(serving.model), "alias": "model", "n_ctx": serving.n_ctx * serving.slots,
            "n_seq_max": serving.slots, "n_batch": 512, "n_ubatch": 512, "threads": serving.threads,
            "threads_batch": serving.threads, "n_gpu_layers": serving.n_gpu_layers, "store_logits": False,
        },
    }  # fmt: skip


def python_server_body(ask: Ask) -> dict[str, Any]:
    """A job for its `/v1/completions`, greedy."""
    return {"model": "model", "prompt": ask.prompt, "max_tokens": ask.answer_tokens, "temperature": 0}


def python_server_reply(answer: Mapping[str, Any]) -> Reply:
    """Its answer."""
    usage = answer["usage"]
    cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    text = str(answer["choices"][0]["text"])
    return Reply(text, int(usage["prompt_tokens"]), cached, int(usage["completion_tokens"]))


@contextmanager
def llama_server(program: Path, serving: Serving) -> Iterator[tuple[int, int]]:
    """`llama-server`, from when it is ready; yields its process id and its port.

    Raises:
        YardUnavailable: it did not come up; the message ends with its log.
    """
    (port,) = free_ports(1)
    command = llama_server_command(program, serving, port)
    with _server(command, serving, f"http://127.0.0.1:{port}/health") as pid:
        yield pid, port


@contextmanager
def python_server(interpreter: Path, script: Path, serving: Serving) -> Iterator[tuple[int, int]]:
    """The server script of llama-cpp-python's examples under an interpreter that has what it imports.

    Raises:
        YardUnavailable: it did not come up; the message ends with its log.
    """
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(python_server_config(serving, port)), encoding="utf-8")
        command = [str(interpreter), str(script), "-C", str(config)]
        with _server(command, serving, f"http://127.0.0.1:{port}/healthz") as pid:
            yield pid, port


@contextmanager
def _server(command: Sequence[str], serving: Serving, health: str) -> Iterator[int]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=os.environ | dict(serving.environ), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            limit = time.monotonic() + READY_SECONDS
            while not _healthy(health):
                if process.poll() is not None or time.monotonic() > limit:
                    log.seek(0)
                    tail = "\n".join(log.read().decode(errors="replace").splitlines()[-15:])
                    raise YardUnavailable(f"{command[0]} did not come up; the end of its log:\n{tail}")
                time.sleep(0.1)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@dataclass(frozen=True, slots=True)
class Lockstep:
    """One line of `llama-batched-bench`: `sequences` of equal lengths in lockstep, seconds of each phase."""

    sequences: int
    prompt: int
    answer: int
    prompt_seconds: float
    answer_seconds: float

    @property
    def jobs_per_s(self) -> float:
        """What such a batch would give, were the next one ready at once."""
        return self.sequences / (self.prompt_seconds + self.answer_seconds)


def batched_bench(program: Path, serving: Serving, prompt: int, answer: int) -> Lockstep:
    """Run `llama-batched-bench` once on `serving.slots` sequences of `prompt` and `answer` tokens; it warms
    up by itself.

    Raises:
        YardUnavailable: it failed.
    """
    slots, threads = str(serving.slots), str(serving.threads)
    command = [
        str(program), "-m", str(serving.model), "-c", str(serving.n_ctx * serving.slots), "-npp", str(prompt),
        "-ntg", str(answer), "-npl", slots, "-t", threads, "-tb", threads, "-ngl",
        serving.gpu_layers, "--output-format", "jsonl",
    ]  # fmt: skip
    for _ in range(3):
        done = subprocess.run(
            command, env=os.environ | dict(serving.environ), capture_output=True, text=True, check=False
        )
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        # now and then it ends well before its own log has written the line
        if rows or done.returncode != 0:
            break
    if done.returncode != 0 or len(rows) != 1:
        raise YardUnavailable(f"{program} failed ({done.returncode}): {(done.stderr or done.stdout)[-800:]}")
    (row,) = rows
    return Lockstep(row["pl"], row["pp"], row["tg"], row["t_pp"], row["t_tg"])
