"""What constrained output costs: our automaton beside llama.cpp's grammar sampler, in one thread.

    python -m benchmarks.grammar_cost [--model FILE.gguf] [--json FILE]

The verdict schema of the catalogue over the vocabulary of a GGUF (one that holds nothing else will do). Both
are fed the same document token by token: compiling, checking and accepting a token, and the mask of the whole
vocabulary. Ours are also timed with everything met before, as all jobs after the first find it. Times are the
thread's own, so that what else runs counts little.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as c

from batchyard import Settings
from batchyard.catalogue import load_catalogue
from benchmarks.child import ROOT
from benchmarks.llama_grammar import LlamaGrammar
from benchmarks.machine import this_machine
from benchmarks.table import aligned, show, write_json
from workers.engine.constraint import Grammars
from workers.engine.llama.log import Log
from workers.engine.llama.vocabulary import Vocabulary
from workers.engine.schema import compile_schema

DOCUMENT = '{"verdict":"fail","defect":"bridge","ref":"U12","location":"left pad, \\"缺陷\\" é"}'
Times = dict[str, list[float]]


def timed(times: list[float], work: Callable[..., Any], *values: Any) -> Any:
    """Note how many seconds of this thread `work` takes."""
    began = time.thread_time()
    found = work(*values)
    times.append(time.thread_time() - began)
    return found


def checked(one: Any, tokens: list[int]) -> None:
    """Ask for each token and take it, as a sequence does."""
    for token in tokens:
        if not one.allows(token):
            raise ValueError(f"the token {token} of the document is refused")
        one.accept(token)


def masked(times: list[float], one: Any, tokens: list[int]) -> None:
    """Ask for the whole vocabulary before each token."""
    for token in tokens:
        timed(times, one.mask)
        one.accept(token)


def measure_ours(words: Vocabulary, grammar: str, tokens: list[int], rounds: int) -> Times:
    """Seconds by what was done; the vocabulary's tree belongs to loading a model."""
    times: Times = {name: [] for name in ("tree", "compile", "again", "first", "check", "mask", "mask again")}
    for _ in range(3):
        grammars = timed(times["tree"], Grammars, words)
        constraint = timed(times["compile"], grammars.begin, grammar)
        timed(times["first"], checked, constraint, tokens)
        masked(times["mask"], grammars.begin(grammar), tokens)
        masked(times["mask again"], grammars.begin(grammar), tokens)
    for _ in range(rounds):
        constraint = timed(times["again"], grammars.begin, grammar)
        timed(times["check"], checked, constraint, tokens)
    return times


def measure_theirs(vocabulary: Any, size: int, grammar: str, tokens: list[int], rounds: int) -> Times:
    """The same, where there is the same."""
    times: Times = {"compile": [], "check": [], "mask": []}
    for number in range(rounds):
        one = timed(times["compile"], LlamaGrammar, vocabulary, size, grammar)
        if number < 3:
            masked(times["mask"], one, tokens)
        else:
            timed(times["check"], checked, one, tokens)
        one.close()
    return times


def body_of(ours: Times, theirs: Times, n_tokens: int) -> str:
    """The table, in units that a reader can compare."""

    def row(what: str, own: list[float], other: list[float] | None, scale: float) -> list[str]:
        cells = [f"{statistics.median(own) * scale:,.3g}"]
        return [what, *cells, "-" if other is None else f"{statistics.median(other) * scale:,.3g}"]

    per_token = 1e6 / n_tokens
    rows = [
        row("tree of the vocabulary, once a model, ms", ours["tree"], None, 1e3),
        row("compile, first job, ms", ours["compile"], theirs["compile"], 1e3),
        row("compile, later jobs, ms", ours["again"], theirs["compile"], 1e3),
        row("check and accept, first job, µs a token", ours["first"], theirs["check"], per_token),
        row("check and accept, later jobs, µs a token", ours["check"], theirs["check"], per_token),
        row("mask, first time, ms", ours["mask"], theirs["mask"], 1e3),
        row("mask, later, ms", ours["mask again"], theirs["mask"], 1e3),
        ["slowest mask, ms", f"{max(ours['mask']) * 1e3:,.3g}", f"{max(theirs['mask']) * 1e3:,.3g}"],
    ]
    return aligned(["", "ours", "llama.cpp"], rows)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grammar_cost", description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "models/defect_detect.Q4_K_M.gguf")
    parser.add_argument("--task", default="defect_detect", help="whose schema")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    machine = this_machine()
    settings = Settings(models=Path(os.environ.get("BATCHYARD_MODELS", ROOT / "configs/models.yaml")))
    task = load_catalogue(settings.models).task(arguments.task)
    if task is None or task.output is None or task.output.type != "json_schema":
        parser.error(f"the task {arguments.task!r} has no schema")
    log = Log(verbose=False)
    c.llama_backend_init()
    params = c.llama_model_default_params()
    params.vocab_only = True
    model = c.llama_model_load_from_file(str(arguments.model).encode(), params)
    if not model:
        parser.error(f"llama.cpp could not load {arguments.model}: {log.last_errors()}")
    pointer = c.llama_model_get_vocab(model)
    words = Vocabulary(pointer)
    grammar = compile_schema(task.output.model_dump(by_alias=True)["schema"])
    # behind a line end, for tokenisers that put a space before what they are given
    tokens = words.tokenise("\n" + DOCUMENT).tolist()
    while len(b"".join(words.pieces[token] for token in tokens)) > len(DOCUMENT.encode()):
        tokens.pop(0)
    ours = measure_ours(words, grammar, tokens, arguments.rounds)
    theirs = measure_theirs(pointer, words.size, grammar, tokens, max(4, arguments.rounds // 4))
    title = f"Constrained output, vocabulary of {arguments.model.name}: {words.size:,} tokens"
    show(title, machine, body_of(ours, theirs, len(tokens)))
    write_json(arguments.json, "grammar_cost", machine, {"ours": ours, "theirs": theirs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
