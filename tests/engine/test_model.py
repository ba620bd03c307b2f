"""Model settings that llama.cpp would meet with an assert are refused before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from workers.engine.errors import EngineError
from workers.engine.model import EngineModel
from workers.engine.shape import choose_min_shared, choose_unified, plan_shape


def test_null_means_the_default() -> None:
    model = EngineModel.parse({"model_name": "a", "model_path": "b", "n_ctx": None, "kv_unified": None})
    assert model.n_ctx == EngineModel("a", "b").n_ctx


@pytest.mark.parametrize(
    "changes",
    [
        {"n_ctx": 0},
        {"n_slots": 0},
        {"n_slots": 1000},
        {"n_batch": "many"},
        {"n_threads": 0},
        {"type_k": "q9"},
        {"flash_attn": "maybe"},
        {"model_path": ""},
        {"surprise": 1},
    ],
)
def test_what_cannot_be_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(EngineError) as caught:
        EngineModel.parse({"model_name": "a", "model_path": "b"} | changes)
    assert caught.value.field == next(iter(changes))


@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("slots", [1, 16, 240])
def test_shapes_stay_within_the_library(unified: bool, slots: int) -> None:
    settings = EngineModel("a", "b", n_slots=slots, n_batch=8, n_ctx=128)
    shape, kept, forks = plan_shape(settings, 2, unified=unified, shares=True)
    assert slots + kept + forks == shape.n_sequences <= 256
    assert kept >= 4 and forks >= (4 if slots == 1 and not unified else 8)
    # separate memories have cells of their own for every fork
    assert unified or shape.n_cells == 128 * shape.n_sequences
    assert shape.n_batch >= slots
    assert shape.n_outputs >= shape.n_sequences
    assert shape.n_cells >= slots * 128


def test_small_models_on_a_processor_get_separate_memories() -> None:
    settings = EngineModel("a", "b")
    assert not choose_unified(settings, 2_000_000, on_gpu=False)
    assert choose_unified(settings, 4_000_000_000, on_gpu=False)
    assert choose_unified(settings, 2_000_000, on_gpu=True)
    assert choose_unified(EngineModel("a", "b", kv_unified=True), 2_000_000, on_gpu=False)


def test_a_long_memory_is_not_copied_for_a_short_beginning() -> None:
    settings = EngineModel("a", "b", n_ctx=4096)
    assert choose_min_shared(settings, unified=False) > choose_min_shared(settings, unified=True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"op_offload": "yes"}, "op_offload"),
        ({"in_graph_sampling": "always"}, "in_graph_sampling"),
        ({"flash_attn": 1}, "flash_attn"),
        ({"split_mode": "tensor"}, "split_mode"),
        ({"split_mode": ["row"]}, "split_mode"),
        ({"tensor_split": [1, 1]}, "tensor_split"),  # split_mode is none
        ({"tensor_split": [], "split_mode": "layer"}, "tensor_split"),
        ({"tensor_split": [0, 0], "split_mode": "layer"}, "tensor_split"),
        ({"tensor_split": [1, -1], "split_mode": "layer"}, "tensor_split"),
        ({"tensor_split": [1.0] * 17, "split_mode": "layer"}, "tensor_split"),
        ({"tensor_split": [1, 1], "split_mode": "row", "main_gpu": 2}, "main_gpu"),
        ({"type_v": "q8_0", "flash_attn": False}, "type_v"),
        ({"memory_budget": 0.5}, "memory_budget"),
    ],
)
def test_what_llama_cpp_would_misread_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(EngineError) as caught:
        EngineModel.parse({"model_name": "a", "model_path": "b"} | changes)
    assert caught.value.field == field


def test_a_split_over_gpus_is_read_from_a_frame() -> None:
    model = EngineModel.parse(
        {"model_name": "a", "model_path": "b", "split_mode": "row", "tensor_split": [3, 1], "main_gpu": 1}
    )
    assert model.tensor_split == (3, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"op_offload": False, "offload_kqv": False, "swa_full": False},
        {"split_mode": "layer", "tensor_split": (3.0, 1.0), "main_gpu": 1},
        {"split_mode": "row", "tensor_split": (1.0,)},
        {"flash_attn": True, "n_threads_batch": 2},
        {"flash_attn": False},
        {"n_gpu_layers": 1},
    ],
)
def test_settings_for_gpus_change_nothing_on_a_processor(
    changes: dict[str, Any], make_yard: Callable[..., Any]
) -> None:
    def text(yard: Any) -> str:
        yard.submit("a", prompt="Board A17: pass", sampling={"max_tokens": 8})
        return str(yard.run()["a"]["text"])

    assert text(make_yard(**changes)) == text(make_yard())
