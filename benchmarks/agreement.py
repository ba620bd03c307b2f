"""Whether our engine and `llama-server` give the same answers: the starter model on its own reports, greedy.

Both get chat messages and render the model's template themselves; both run many at once, so that what
differs may differ by rounding: sums over many rows are taken in another order (see `batched_equals_single`).
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peer_servers
from benchmarks.contenders import serving_of
from benchmarks.engine_client import completions, engine_child
from benchmarks.http_load import Address, ask_all
from benchmarks.reports import labelled_reports
from benchmarks.shapes import STARTER

INSTRUCTION = "Read the board inspection report. Answer with the verdict as JSON."
N_CTX = 512
MAX_TOKENS = 96


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many of the answers are the same text, and those that are not: report, ours, theirs."""

    asked: int
    equal: int
    different: list[tuple[str, str, str]]

    def sentence(self) -> str:
        """For the table."""
        lines = [f"answers equal to llama-server's, greedy: {self.equal} of {self.asked}"]
        for report, ours, theirs in self.different:
            lines += ["", f"report: {report}", f"  ours:   {ours}", f"  theirs: {theirs}"]
        return "\n".join(lines)


def compare(reports: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> Agreement:
    """Count the answers that are the same."""
    triples = list(zip(reports, ours, theirs, strict=True))
    different = [triple for triple in triples if triple[1] != triple[2]]
    return Agreement(len(triples), len(triples) - len(different), different)


def agreement(options: argparse.Namespace, program: Path, slots: int, count: int) -> Agreement:
    """Ask both about the same reports, `slots` at once."""
    reports = [report.text for report in labelled_reports(count)]
    chats = [
        [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": report}]
        for report in reports
    ]
    serving = serving_of(options, STARTER, slots, N_CTX)
    sampling = {"temperature": 0.0, "max_tokens": MAX_TOKENS}
    requests = [
        {"id": f"r{number}", "messages": chat, "sampling": sampling} for number, chat in enumerate(chats)
    ]
    with engine_child(
        STARTER,
        slots=slots,
        n_ctx=N_CTX,
        threads=serving.threads,
        n_gpu_layers=serving.n_gpu_layers,
        environ=serving.environ,
    ) as engine:
        found = completions(engine, requests, slots)
    ours = [str(found[f"r{number}"]["text"]) for number in range(count)]
    bodies = [{"messages": chat, "temperature": 0, "max_tokens": MAX_TOKENS} for chat in chats]
    with peer_servers.llama_server(program, serving) as (_, port):
        answers = ask_all(Address(port, "/v1/chat/completions"), bodies, slots)
    theirs = [str(answer["choices"][0]["message"]["content"]) for answer in answers]
    return compare(reports, ours, theirs)
