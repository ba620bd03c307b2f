"""Runs the labels of choices through the model: all in one step where there are forks, else one branch at a
time.

The first branch runs in the slot itself, every other one in a fork of it. Where the forks are taken, or the
labels many or long, the branches follow each other in the slot, which is rewound in between. It knows rows
and ids, not requests.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.engine.choices import Logits, Path
from workers.engine.memory import Memory
from workers.engine.rows import RowWriter
from workers.engine.sequence import Scoring


@dataclass(slots=True)
class _Run:
    """Rows of one id in the current step: the nodes whose logits are still to come."""

    slot: int
    scoring: Scoring
    nodes: list[int]


class PathRunner:
    """The choices part of one step. `outputs` is the number of logit rows a step can spare."""

    def __init__(self, memory: Memory, outputs: int) -> None:
        self._memory = memory
        self._outputs = max(1, outputs)
        self._runs: dict[int, _Run] = {}
        self._taken: dict[int, int] = {}

    def rows_wanted(self, scoring: Scoring) -> int:
        """Rows that the next piece of a choices request needs."""
        return sum(len(path.tokens) for path in self._next_paths(scoring))

    def _next_paths(self, scoring: Scoring) -> list[Path]:
        if scoring.whole is None:
            scoring.whole = self._whole(scoring)
        untouched = len(scoring.paths) == scoring.n_paths
        if scoring.whole and untouched and len(scoring.whole) - 1 <= self._memory.free_forks:
            return scoring.whole
        first = scoring.paths[0]
        return [Path(first.keep, first.tokens[: self._outputs], first.nodes[: self._outputs])]

    def _whole(self, scoring: Scoring) -> list[Path]:
        # forks only where everything fits at once: a split fork would have to survive the step
        rows = sum(path.keep + len(path.tokens) for path in scoring.paths)
        if rows > self._outputs:
            return []
        return scoring.trie.whole_paths(scoring.paths)

    def write(self, slot: int, n_prompt: int, scoring: Scoring, writer: RowWriter) -> None:
        """Add the next piece's rows."""
        own, *others = self._next_paths(scoring)
        for path in others:
            self._add(self._memory.fork(slot, n_prompt), slot, scoring, path, n_prompt, writer)
        self._memory.rewind(slot, n_prompt + own.keep)
        self._add(slot, slot, scoring, own, n_prompt, writer)
        if others:
            self._taken[slot] = scoring.n_paths
        else:
            self._taken[slot] = 0 if len(own.tokens) < len(scoring.paths[0].tokens) else 1

    def _add(
        self, target: int, slot: int, scoring: Scoring, path: Path, n_prompt: int, writer: RowWriter
    ) -> None:
        writer.add_run(target, path.tokens, n_prompt + path.keep, outputs="all")
        self._runs[target] = _Run(slot, scoring, list(path.nodes))

    def takes(self, sequence_id: int) -> bool:
        """Whether a row of logits of this id belongs to choices of the current step."""
        return sequence_id in self._runs

    def score(self, sequence_id: int, row: Logits) -> None:
        """Take one row of logits; the rows of an id come in the order of their positions."""
        run = self._runs[sequence_id]
        run.scoring.trie.score(run.nodes.pop(0), row)

    def finish_step(self) -> list[int]:
        """End the step; returns the slots whose labels are all scored."""
        done: list[int] = []
        by_slot = {run.slot: run.scoring for run in self._runs.values()}
        for slot, scoring in by_slot.items():
            taken = self._taken[slot]
            if taken:
                del scoring.paths[:taken]
            else:
                scoring.paths[0] = scoring.paths[0].after(self._outputs)
            if not scoring.paths:
                done.append(slot)
        self.abandon()
        return done

    def abandon(self) -> None:
        """Forget the current step's rows, after it ended or failed."""
        self._memory.drop_forks()
        self._runs.clear()
        self._taken.clear()
