"""The peers' options and answers, as their programs want and give them."""

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from batchyard.errors import YardUnavailable
from benchmarks.mix import Ask
from benchmarks.peer_servers import (
    Lockstep,
    Reply,
    Serving,
    batched_bench,
    llama_server,
    llama_server_body,
    llama_server_command,
    llama_server_reply,
    python_server_config,
    python_server_reply,
)

ASK = Ask("j1", "Board A17:", 5, 12)
SERVING = Serving(Path("model.gguf"), slots=16, n_ctx=512, threads=2, environ={})

SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
port = int(sys.argv[sys.argv.index("--port") + 1])
HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
BENCH = """
import sys
print("noise of a log")
for sequences in sys.argv[sys.argv.index("-npl") + 1].split(","):
    print('{"pl": %s, "pp": 110, "tg": 52, "t_pp": 1.5, "t_tg": 2.5}' % sequences)
"""


def program(folder: Path, text: str) -> Path:
    """A program that stands for a peer: what is tested is how it is started and read."""
    path = folder / "program"
    path.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_context_is_the_sum_over_the_slots() -> None:
    command = llama_server_command(Path("llama-server"), SERVING, 8080)
    options = dict(itertools.pairwise(command))
    assert (options["-np"], options["-c"], options["-t"], options["--port"]) == ("16", "8192", "2", "8080")
    assert options["-ngl"] == "0"
    model = python_server_config(SERVING, 8080)["model"]
    assert (model["n_seq_max"], model["n_ctx"], model["threads"]) == (16, 8192, 2)


@pytest.mark.parametrize(("layers", "theirs"), [(0, "0"), (12, "12"), (-1, "all")])
def test_peers_put_as_many_layers_on_a_gpu_as_we_do(layers: int, theirs: str) -> None:
    serving = replace(SERVING, n_gpu_layers=layers)
    assert dict(itertools.pairwise(llama_server_command(Path("llama-server"), serving, 1)))["-ngl"] == theirs
    assert python_server_config(serving, 1)["model"]["n_gpu_layers"] == layers


def test_a_job_asks_for_its_length_greedily_with_the_cache_on() -> None:
    body = llama_server_body(ASK)
    assert (body["prompt"], body["n_predict"]) == ("Board A17:", 12)
    assert (body["temperature"], body["cache_prompt"]) == (0, True)


def test_answers_are_read() -> None:
    theirs = {"content": "x", "tokens_evaluated": 5, "tokens_predicted": 12, "timings": {"cache_n": 3}}
    assert llama_server_reply(theirs) == Reply("x", 5, 3, 12)
    usage = {"prompt_tokens": 5, "completion_tokens": 12, "prompt_tokens_details": {"cached_tokens": 3}}
    assert python_server_reply({"choices": [{"text": "x"}], "usage": usage}) == Reply("x", 5, 3, 12)
    assert python_server_reply(
        {"choices": [{"text": "x"}], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}
    ) == Reply("x", 5, 0, 1)


def test_a_server_is_awaited_and_ended(tmp_path: Path) -> None:
    with llama_server(program(tmp_path, SERVER), SERVING) as (pid, _):
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    broken = program(tmp_path, "raise SystemExit('no such model')")
    with pytest.raises(YardUnavailable, match="no such model"), llama_server(broken, SERVING):
        pass


def test_lockstep_is_read_from_among_the_log(tmp_path: Path) -> None:
    found = batched_bench(program(tmp_path, BENCH), SERVING, 110, 52)
    assert found == Lockstep(16, 110, 52, 1.5, 2.5)
    assert found.jobs_per_s == 4.0


def test_a_bench_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(YardUnavailable, match="out of luck"):
        batched_bench(program(tmp_path, "raise SystemExit('out of luck')"), SERVING, 110, 52)
