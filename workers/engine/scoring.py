"""Runs the labels of choices through the model: in one step where rows and forks suffice, else in several.

Of each job one branch runs in the slot itself and others in forks of it, as many as there are; the next step
goes on behind them. It knows rows and ids, and of requests only who is in a hurry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workers.engine.choices import Path, Piece
from workers.engine.errors import DECODE_FAILED, EngineError
from workers.engine.memory import Memory
from workers.engine.output_rows import OutputRow
from workers.engine.plan import Burst
from workers.engine.rows import RowWriter
from workers.engine.sequence import Scoring, Sequence


@dataclass(frozen=True, slots=True)
class _Part:
    """What the current step has of one slot's labels."""

    scoring: Scoring
    n_prompt: int
    piece: Piece


class PathRunner:
    """The choices part of one step. `outputs` is the number of logit rows a step can spare."""

    def __init__(self, memory: Memory, outputs: int) -> None:
        self._memory = memory
        self._outputs = max(1, outputs)
        self._parts: dict[int, _Part] = {}
        self._nodes: dict[int, tuple[int, Iterator[int]]] = {}
        """The slot behind each id with rows in the step, and the nodes whose logits are still to come."""

    def bursts(self, those: Iterable[Sequence]) -> list[tuple[Sequence, Burst]]:
        """What each of `those`, whose prompts are computed, has in the next step, interactive ones first; who
        has to wait is left out.
        """
        ordered = sorted(those, key=lambda one: not one.interactive)
        rows_of = self.allot([one.scoring for one in ordered if one.scoring is not None])
        return [(one, Burst(one.slot, rows)) for one, rows in zip(ordered, rows_of, strict=True) if rows]

    def allot(self, those: list[Scoring]) -> list[int]:
        """How many rows each of `those` has in the next step: one branch each while there are rows, so that
        many labels of one hold up nobody; then more branches, in this order, while there are rows and forks.
        """
        rows, forks = self._outputs, self._memory.free_forks
        allotted: list[int] = []
        for scoring in those:
            own = scoring.branches.piece(rows, 0).n_rows if rows else 0
            allotted.append(own)
            rows -= own
        for at, scoring in enumerate(those):
            if not allotted[at] or not rows or not forks:
                continue
            piece = scoring.branches.piece(allotted[at] + rows, forks)
            rows -= piece.n_rows - allotted[at]
            forks -= len(piece.others)
            allotted[at] = piece.n_rows
        return allotted

    def write(self, slot: int, n_prompt: int, scoring: Scoring, rows: int, writer: RowWriter) -> None:
        """Add the next piece, of so many rows as `allot` has said."""
        piece = scoring.branches.piece(rows, self._memory.free_forks)
        self._parts[slot] = _Part(scoring, n_prompt, piece)
        self._add(slot, slot, piece.own, n_prompt, writer)
        for path in piece.others:
            self._add(self._memory.fork(slot, n_prompt + path.keep), slot, path, n_prompt, writer)

    def _add(self, target: int, slot: int, path: Path, n_prompt: int, writer: RowWriter) -> None:
        writer.add_run(target, path.tokens, n_prompt + path.keep, outputs="all")
        self._nodes[target] = slot, iter(path.nodes)

    def takes(self, sequence_id: int) -> bool:
        """Whether a row of logits of this id belongs to choices of the current step."""
        return sequence_id in self._nodes

    def slot(self, sequence_id: int) -> int:
        """The slot behind an id that `takes` is true for."""
        return self._nodes[sequence_id][0]

    def score(self, one: Sequence, sequence_id: int, row: OutputRow) -> None:
        """Take one row of logits of a sequence; the rows of an id come in the order of their positions.
        Raises EngineError for a row that is not whole.
        """
        if row.tokens is not None:
            raise EngineError(
                DECODE_FAILED,
                "the logits of a label are only those of its candidates",
                remedy="set in_graph_sampling to false in the model catalogue",
            )
        node = next(self._nodes[sequence_id][1])
        self._parts[one.slot].scoring.trie.score(node, row.logits, row.normaliser)

    def leave(self, slot: int) -> None:
        """The sequence in a slot ended; what the step may still bring of it is nobody's."""
        self._parts.pop(slot, None)

    def finish_step(self) -> list[int]:
        """End the step; returns the slots whose labels are all scored."""
        done: list[int] = []
        for slot, part in self._parts.items():
            branches = part.scoring.branches
            branches.done(part.piece)
            if branches:
                self._memory.rewind(slot, part.n_prompt + branches.held)
            else:
                done.append(slot)
        self.abandon()
        return done

    def abandon(self) -> None:
        """Forget the current step's rows, after it ended or failed."""
        self._memory.drop_forks()
        self._parts.clear()
        self._nodes.clear()
