"""What `benchmarks.gpu` has measured, as tables, and the profile's settings that follow. Pure."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.table import aligned, spread

WORTH = 1.03
"""How much faster another setting must be to be suggested."""


@dataclass(frozen=True, slots=True)
class Case:
    """One way to run the model."""

    flash_attn: bool = True
    cache: str = "f16"
    in_graph: bool = False

    def __str__(self) -> str:
        flash = "on" if self.flash_attn else "off"
        return (
            f"flash attention {flash}, KV {self.cache}, sampling {'in graph' if self.in_graph else 'on host'}"
        )


@dataclass(frozen=True, slots=True)
class Decoding:
    """Steps of one row for each of `slots` sequences: milliseconds a step, joules a token, bytes on the
    GPU."""

    case: Case
    slots: int
    milliseconds: tuple[float, ...]
    joules: float | None
    memory: int | None

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.slots * 1000 / statistics.median(self.milliseconds)


@dataclass(frozen=True, slots=True)
class Figures:
    """All measurements: milliseconds by rows of a step, tokens/s by chunk, and decoding."""

    rows: dict[int, tuple[float, ...]]
    chunks: dict[int, float]
    decoding: tuple[Decoding, ...]


def joined(one: Decoding, other: Decoding) -> Decoding:
    """Two measurements of one case at one number of slots as one, each step counted once."""
    counts = len(one.milliseconds), len(other.milliseconds)
    joules = None
    if one.joules is not None and other.joules is not None:
        joules = (one.joules * counts[0] + other.joules * counts[1]) / sum(counts)
    memory = max((size for size in (one.memory, other.memory) if size is not None), default=None)
    return replace(one, milliseconds=one.milliseconds + other.milliseconds, joules=joules, memory=memory)


def cases() -> list[Case]:
    """The usual way first, then one thing changed at a time."""
    usual = Case()
    return [
        usual,
        replace(usual, flash_attn=False),
        replace(usual, cache="q8_0"),
        replace(usual, in_graph=True),
    ]


def in_turns(slots: int, steps: int, measured: Callable[[Case, int, int], Decoding]) -> list[Decoding]:
    """Every case at this number of slots (one alone: the usual case), A B C … C B A, half of the steps each
    time, so that what else the machine does hits them all. `measured` takes case, slots and steps."""
    compared = cases() if slots > 1 else cases()[:1]
    there, back = steps - steps // 2, max(1, steps // 2)
    first = [measured(case, slots, there) for case in compared]
    second = [measured(case, slots, back) for case in reversed(compared)]
    return [joined(one, other) for one, other in zip(first, reversed(second), strict=True)]


def suggest(figures: Figures, step_ms: float) -> dict[str, object]:
    """Settings that follow: the largest step within `step_ms`, and of each pair what decodes faster at the
    most slots. A quantised cache is a matter of room and not of speed, so it is never suggested."""
    usual, no_flash, _, in_graph = cases()
    within = [rows for rows, times in figures.rows.items() if statistics.median(times) <= step_ms]
    budget = max(within, default=min(figures.rows))
    most = max(one.slots for one in figures.decoding)
    rates = {one.case: one.rate for one in figures.decoding if one.slots == most}
    return {
        "n_batch": budget,
        "n_ubatch": budget,
        # less than a spread's width is no reason to leave a default
        "flash_attn": rates.get(no_flash, 0.0) <= WORTH * rates[usual],
        "in_graph_sampling": rates.get(in_graph, 0.0) > WORTH * rates[usual],
    }


def report(figures: Figures, suggestion: dict[str, object]) -> str:
    """The tables and the profile's settings."""
    rows = [
        [str(count), spread(times, 2), f"{count * 1000 / statistics.median(times):,.0f}"]
        for count, times in figures.rows.items()
    ]
    chunks = [[str(chunk), f"{rate:,.0f}"] for chunk, rate in figures.chunks.items()]
    decoding = [
        [
            str(one.case), str(one.slots), spread(one.milliseconds, 2), f"{one.rate:,.0f}",
            "-" if one.joules is None else f"{one.joules:.2f}",
            "-" if one.memory is None else f"{one.memory / 2**20:,.0f}",
        ]
        for one in figures.decoding
    ]  # fmt: skip
    settings = "\n".join(f"      {name}: {str(value).lower()}" for name, value in suggestion.items())
    return "\n\n".join(
        [
            aligned(["rows a step", "ms", "rows/s"], rows),
            aligned(["prompt chunk", "tokens/s"], chunks),
            aligned(["decoding", "slots", "ms a step", "tokens/s", "J/token", "MiB on GPU"], decoding),
            f"suggested for configs/hardware.yaml:\n    settings:\n{settings}",
        ]
    )
