"""Token candidates found inside the compute graph, on the device that holds the output layer.

A row of logits is a vocabulary wide: 0.5 MB at 128,000 tokens. Copying it from a GPU and summing its
exponentials here, for the probability of the token that is taken, costs more the more sequences run.
llama.cpp can run samplers in the graph, but none of its own will do: `greedy` copies the whole row all the
same, behind `top_k` it gives the candidate's number for its token, and `dist` knows only the probability
among the candidates. Ours keeps the largest logits with their tokens and their probabilities over the whole
vocabulary, and draws nothing: the host draws as it does from a whole row, so the texts are the same.

It knows sequence ids, not requests.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as c

from workers.engine.llama import ggml

Logits = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int32]

PATIENCE: Final = 8
"""Jobs in a row that would do with fewer candidates before a sequence changes to them."""


@dataclass(frozen=True, slots=True)
class Shortlist:
    """The most likely tokens of one row, most likely first, among equals the lower token first.

    `normaliser` is log Σ exp over the whole vocabulary: a logit less it is the token's log probability.
    """

    tokens: Tokens
    logits: Logits
    normaliser: float


class DeviceSampler:
    """The samplers of one context, one for each of its first `n_sequences` ids; 0 candidates is none.

    A changed number makes llama.cpp plan its buffers anew before the next decode, about the price of a step.
    A whole row serves every job and a long list a short one, so a number changes at once only where it must,
    and back after `PATIENCE` jobs in a row.
    """

    def __init__(self, n_sequences: int, n_vocab: int) -> None:
        self._counts = [2] * n_sequences
        self._patience = [0] * n_sequences
        self._n_vocab = n_vocab
        self._chains: dict[int, Any] = {}
        self._configs: Any = None
        self._views: dict[str, tuple[int, npt.NDArray[Any]]] = {}
        """What was read last: where the C buffer begins, and its rows."""

    def configure(self, params: Any) -> None:
        """Put the samplers into the parameters of a context that is about to be made. A chain belongs to one
        context: those of the one before are freed, after it."""
        self.free()
        wanted = [sequence for sequence, count in enumerate(self._counts) if count]
        self._chains = {sequence: _chain(self._counts[sequence]) for sequence in wanted}
        self._configs = (c.llama_sampler_seq_config * len(wanted))()
        for config, sequence in zip(self._configs, wanted, strict=True):
            config.seq_id = sequence
            config.sampler = ctypes.cast(self._chains[sequence], ctypes.c_void_p)
        params.samplers = self._configs
        params.n_samplers = len(wanted)
        params.n_outputs_max_per_seq = 1

    def want(self, context: Any, sequence: int, count: int) -> None:
        """A job begins in `sequence` that looks at `count` candidates, or at whole rows with 0."""
        now = self._counts[sequence]
        if count != now and (now == 0 or 0 < count < now):
            self._patience[sequence] += 1
            if self._patience[sequence] < PATIENCE:
                return
        self._patience[sequence] = 0
        if count != now:
            self._change(context, sequence, count)

    def _change(self, context: Any, sequence: int, count: int) -> None:
        chain = _chain(count) if count else None
        c.llama_set_sampler(context, sequence, chain)
        self._free(self._chains.pop(sequence, None))
        if chain is not None:
            self._chains[sequence] = chain
        self._counts[sequence] = count

    def count(self, sequence: int) -> int:
        """How many candidates the rows of `sequence` have; 0 for whole rows."""
        return self._counts[sequence] if sequence < len(self._counts) else 0

    def read(self, context: Any, sequences: Sequence[int]) -> list[Shortlist | None]:
        """The candidates of the last decode's output rows, whose sequence ids these are, in batch order; None
        for rows that are whole.
        """
        counts = [self.count(sequence) for sequence in sequences]
        first = next((row for row, count in enumerate(counts) if count), None)
        if first is None:
            return [None] * len(counts)
        getters = (
            ("tokens", c.llama_get_sampled_candidates_ith, ctypes.c_int32),
            ("logits", c.llama_get_sampled_logits_ith, ctypes.c_float),
            ("probabilities", c.llama_get_sampled_probs_ith, ctypes.c_float),
        )
        tokens, logits, probabilities = (
            self._rows(name, getter(context, first - len(counts)), kind, first, len(counts))
            for name, getter, kind in getters
        )
        return [
            _shortlist(tokens[row, :count], logits[row, :count], probabilities[row, :count])
            if count
            else None
            for row, count in enumerate(counts)
        ]

    def _rows(self, name: str, pointer: Any, kind: Any, first: int, n_rows: int) -> npt.NDArray[Any]:
        """All rows [n_rows, n_vocab] of the C buffer `name` whose row `first` is at `pointer`."""
        address = ctypes.cast(pointer, ctypes.c_void_p).value or 0
        start = address - first * self._n_vocab * ctypes.sizeof(kind)
        known, view = self._views.get(name, (0, None))
        if view is None or start != known or n_rows > len(view):
            # building a view costs more than slicing one
            array = (kind * (n_rows * self._n_vocab)).from_address(start)
            view = np.ctypeslib.as_array(array).reshape(n_rows, self._n_vocab)
            self._views[name] = start, view
        return view[:n_rows]

    def free(self) -> None:
        """Free the samplers; their context must be gone."""
        for chain in self._chains.values():
            self._free(chain)
        self._chains = {}
        self._views = {}

    @staticmethod
    def _free(chain: Any) -> None:
        if chain is not None:
            c.llama_sampler_free(chain)


def _shortlist(tokens: Tokens, logits: Logits, probabilities: Logits) -> Shortlist:
    # copies: the next decode overwrites the C buffers
    order = np.lexsort((tokens, -logits))
    tokens, logits = tokens[order], logits[order]
    normaliser = float(logits[0]) - float(np.log(probabilities[order][0], dtype=np.float64))
    return Shortlist(tokens, logits, normaliser)


def _chain(count: int) -> Any:
    """A chain with our sampler alone; llama.cpp takes only chains."""
    chain = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
    # its `ctx` is the number of candidates itself
    c.llama_sampler_chain_add(chain, c.llama_sampler_init(ctypes.byref(_INTERFACE), count))
    return chain


def _name(_sampler: Any) -> bytes:
    return b"candidates"


def _apply(_sampler: Any, _candidates: Any) -> None:
    """llama.cpp asks for one, and never calls it while the graph does the work."""


def _backend_init(_sampler: Any, _buffer_type: Any, _outputs: int) -> bool:
    return True


def _backend_apply(sampler: Any, graph_context: int, _graph: Any, data: Any) -> None:
    """Add our part to a graph that is being built: called when the graph is, not when it runs."""
    row = data[0]
    size = ggml.nelements(row.logits)
    count = min(int(sampler[0].ctx), size)
    logits = ggml.reshape_1d(graph_context, row.logits, size)
    probabilities = ggml.soft_max(graph_context, logits)
    best = ggml.top_k(graph_context, logits, count)
    row.candidates = best
    row.logits = ggml.get_rows(graph_context, ggml.reshape_2d(graph_context, logits, 1, size), best)
    row.probs = ggml.get_rows(graph_context, ggml.reshape_2d(graph_context, probabilities, 1, size), best)


_INTERFACE = c.llama_sampler_i(
    name=c.llama_sampler_i_name(_name),
    apply=c.llama_sampler_i_apply(_apply),
    backend_init=c.llama_sampler_i_backend_init(_backend_init),
    backend_apply=c.llama_sampler_i_backend_apply(_backend_apply),
)
