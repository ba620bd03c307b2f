"""The training loop on a tiny network: it learns, resumes where it stopped, and refuses another shape."""

from itertools import repeat

import pytest

pytest.importorskip("torch")

import torch

from training.batches import IGNORED, padded
from training.fit import Recipe, answer_loss, fit, rate_at
from training.model import Network, Shape, rope_table, rotate
from training.tokens import Encoded

SHAPE = Shape(vocab=16, width=32, layers=2, heads=2, feed_forward=32, context=32)
GROUP = [Encoded((1, 5, 6, 2, 7, 0), 4), Encoded((1, 5, 2, 8, 0), 3)]


def test_padding_asks_for_answers_only():
    ids, targets = padded(GROUP, 15)
    assert ids.tolist() == [[1, 5, 6, 2, 7], [1, 5, 2, 8, 15]]
    assert targets.tolist() == [[IGNORED, IGNORED, IGNORED, 7, 0], [IGNORED, IGNORED, 8, 0, IGNORED]]


def test_padding_on_the_right_changes_no_answer():
    network = Network(SHAPE, 1)
    alone, _ = padded(GROUP[1:], 15)
    beside, _ = padded(GROUP, 15)
    assert torch.allclose(network.hidden(alone)[0], network.hidden(beside)[1, : alone.shape[1]], atol=1e-5)


def test_rope_turns_neighbouring_pairs_by_their_position():
    cos, sin = rope_table(SHAPE, 4)
    x = torch.zeros(1, 1, 4, SHAPE.head_width)
    x[..., 0] = 1.0
    turned = rotate(x, cos, sin)
    expected = torch.arange(4.0)
    assert torch.allclose(turned[0, 0, :, 0], expected.cos(), atol=1e-6)
    assert torch.allclose(turned[0, 0, :, 1], expected.sin(), atol=1e-6)


def test_the_rate_warms_up_stays_and_falls_to_nothing():
    rates = [rate_at(step, 1000) for step in range(1001)]
    assert rates[0] < rates[50] < rates[100] == rates[599] == 1.0
    assert rates[600] >= rates[800] > rates[1000] == 0.0


def test_fit_learns_and_resumes_where_it_stopped(tmp_path):
    network, source = Network(SHAPE, 1), repeat(padded(GROUP, 15))
    before = answer_loss(network, *next(source)).item()
    lines = []
    recipe = Recipe(steps=50, checkpoint_every=20, matrix_rate=3e-2, other_rate=3e-2)
    steps, mean = fit(network, source, recipe, tmp_path / "a.pt", lines.append)
    assert steps == 50 and answer_loss(network, *next(source)).item() < before / 2
    assert lines and lines[0].startswith("step 50/50")
    again = Network(SHAPE, 2)
    assert fit(again, source, recipe, tmp_path / "a.pt", lines.append) == (50, mean)
    assert torch.equal(again.output_norm.weight, network.output_norm.weight)


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    source = repeat(padded(GROUP, 15))
    fit(Network(SHAPE, 1), source, Recipe(steps=1), tmp_path / "a.pt", print)
    other = Network(Shape(vocab=16, width=64, layers=1, heads=2, feed_forward=32), 1)
    with pytest.raises(ValueError, match="another shape"):
        fit(other, source, Recipe(steps=2), tmp_path / "a.pt", print)


def test_there_is_nothing_to_export_without_a_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        fit(
            Network(SHAPE, 1),
            repeat(padded(GROUP, 15)),
            Recipe(steps=1),
            tmp_path / "a.pt",
            print,
            train=False,
        )
