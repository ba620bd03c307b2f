"""Which model goes onto which GPU: packing by memory, with a reason for every decision. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Need:
    """What one model takes, in bytes by the UUID of the GPU: settings, and with them the size, depend on the
    card. `budgets` are the most it may take there; a card without one has none.
    """

    model: str
    sizes: Mapping[str, int]
    budgets: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model goes (`gpu` is a UUID, None for nowhere), how many bytes it takes there, and why."""

    model: str
    gpu: str | None
    size: int
    reason: str


def place(needs: Sequence[Need], room: Mapping[str, int]) -> list[Placement]:
    """A GPU for each model, in the order of `needs`; `room` is free bytes by UUID.

    The largest models choose first: each the card with fewest models, of those the one with most room. Where
    that leaves a model out, each takes the card that it fills best instead, if more models fit so.
    """
    spread = _packed(needs, room, lambda models, free: (models, -free))
    if all(one.gpu is not None for one in spread):
        return spread
    tight = _packed(needs, room, lambda models, free: (0, free))
    return tight if _placed(tight) > _placed(spread) else spread


def _placed(placements: Sequence[Placement]) -> int:
    return sum(one.gpu is not None for one in placements)


def _packed(
    needs: Sequence[Need], room: Mapping[str, int], order: Callable[[int, int], tuple[int, int]]
) -> list[Placement]:
    """Give each model the fitting card that comes first by `order` of its models and its free bytes."""
    left = dict(room)
    taken: dict[str, list[str]] = {gpu: [] for gpu in room}
    found: dict[str, Placement] = {}
    for need in sorted(needs, key=lambda one: -max(one.sizes.values(), default=0)):
        fitting = [gpu for gpu in left if _fits(need, gpu, left[gpu])]
        if not fitting:
            found[need.model] = Placement(need.model, None, 0, _why_not(need, left))
            continue
        gpu = min(fitting, key=lambda gpu: order(len(taken[gpu]), left[gpu]))
        left[gpu] -= need.sizes[gpu]
        with_whom = f"beside {', '.join(taken[gpu])}" if taken[gpu] else "alone"
        taken[gpu].append(need.model)
        why = f"{with_whom}; {_mib(left[gpu])} stay free"
        found[need.model] = Placement(need.model, gpu, need.sizes[gpu], why)
    return [found[need.model] for need in needs]


def _fits(need: Need, gpu: str, free: int) -> bool:
    return need.sizes[gpu] <= min(free, need.budgets.get(gpu, free))


def _why_not(need: Need, left: Mapping[str, int]) -> str:
    if not left:
        return "there is no GPU"
    gpu = max(left, key=left.__getitem__)
    size, budget = need.sizes[gpu], need.budgets.get(gpu)
    if budget is not None and size > budget:
        return f"needs {_mib(size)}, more than its memory_budget of {_mib(budget)}"
    return f"needs {_mib(size)}, and the roomiest GPU has {_mib(left[gpu])} left"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
