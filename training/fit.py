"""The training loop: Muon for the matrices, AdamW for the rest, checkpoints that a later run resumes from."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from training.batches import IGNORED
from training.model import Network, Shape

_WARMUP = 100
_DECAY_SHARE = 0.4
_LOG_EVERY = 50


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and how hard to train."""

    steps: int
    batch: int = 32
    seed: int = 1
    matrix_rate: float = 2e-3
    other_rate: float = 2e-3
    weight_decay: float = 0.05
    checkpoint_every: int = 200


def rate_at(step: int, steps: int) -> float:
    """Return the learning-rate factor: a short warm-up, a plateau, a linear fall to zero."""
    fall = int(steps * (1 - _DECAY_SHARE))
    if step < _WARMUP:
        return (step + 1) / _WARMUP
    return 1.0 if step < fall else max(0.0, (steps - step) / (steps - fall))


def optimisers(network: Network, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Return one optimiser for the layers' matrices and one for embedding and norms."""
    matrices = [
        weight for name, weight in network.named_parameters() if name.startswith("blk") and weight.dim() == 2
    ]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in network.parameters() if id(weight) not in chosen]
    return [
        torch.optim.Muon(
            matrices, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def answer_loss(network: Network, ids: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over answer tokens only; the head runs on those rows alone."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = network.hidden(ids)
        wanted = targets != IGNORED
        logits = network.logits(hidden[wanted])
    return functional.cross_entropy(logits.float(), targets[wanted])


def fit(
    network: Network,
    source: Iterator[tuple[Tensor, Tensor]],
    recipe: Recipe,
    checkpoint: Path,
    report: Callable[[str], None],
    *,
    train: bool = True,
) -> tuple[int, float]:
    """Train to `recipe.steps`, resuming from the checkpoint if one exists; return steps done and mean loss.

    A resumed run skips the batches that the lost one has seen. Without `train` the checkpoint is
    only loaded; FileNotFoundError where there is none.
    """
    makers = optimisers(network, recipe)
    rates = (recipe.matrix_rate, recipe.other_rate)
    first, mean = load(checkpoint, network, makers) if checkpoint.exists() else (0, 0.0)
    if not train:
        if first == 0:
            raise FileNotFoundError(f"there is no checkpoint to export: {checkpoint}")
        return first, mean
    for _ in range(first):
        next(source)
    began = time.monotonic()
    for step in range(first, recipe.steps):
        for maker, rate in zip(makers, rates, strict=True):
            for group in maker.param_groups:
                group["lr"] = rate * rate_at(step, recipe.steps)
            maker.zero_grad()
        loss = answer_loss(network, *next(source))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for maker in makers:
            maker.step()
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        if (step + 1) % _LOG_EVERY == 0:
            speed = (step + 1 - first) / (time.monotonic() - began)
            report(f"step {step + 1}/{recipe.steps}  loss {mean:.4f}  {speed:.2f} steps/s")
        if (step + 1) % recipe.checkpoint_every == 0 or step + 1 == recipe.steps:
            save(checkpoint, network, makers, step + 1, mean)
    return max(first, recipe.steps), mean


def save(path: Path, network: Network, makers: list[torch.optim.Optimizer], step: int, mean: float) -> None:
    """Write a checkpoint whole or not at all."""
    state = {
        "step": step,
        "mean": mean,
        "shape": json.dumps(asdict(network.shape)),
        "network": network.state_dict(),
        "makers": [maker.state_dict() for maker in makers],
    }
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load(path: Path, network: Network, makers: list[torch.optim.Optimizer]) -> tuple[int, float]:
    """Restore a checkpoint, return its step and mean loss; raises ValueError when it is of another shape."""
    state = torch.load(path, weights_only=True)
    if Shape(**json.loads(state["shape"])) != network.shape:
        raise ValueError(f"{path} holds a network of another shape: {state['shape']}")
    network.load_state_dict(state["network"])
    for maker, saved in zip(makers, state["makers"], strict=True):
        maker.load_state_dict(saved)
    return int(state["step"]), float(state.get("mean", 0.0))
