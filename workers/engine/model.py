"""Which model to load and how: the `model` of a `load` frame, with llama-cpp-python's parameter names.

It does not open the file.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, Final

from workers.engine.errors import MODEL_FILE_INVALID, EngineError

MAX_SEQUENCES: Final = 256
"""llama.cpp's compiled limit of sequence ids (LLAMA_MAX_SEQ)."""
MAX_SLOTS: Final = 240
"""Sixteen ids stay free for kept prefixes and forks of choices."""
MAX_DEVICES: Final = 16
"""llama.cpp's compiled limit of devices (GGML_CUDA_MAX_DEVICES and llama_max_devices)."""
SPLIT_MODES: Final = {"none": 0, "layer": 1, "row": 2}
CACHE_TYPES: Final = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "bf16": 30,
    "iq4_nl": 20,
}
_PLAIN_TYPES: Final = ("f32", "f16", "bf16")
POOLING_TYPES: Final = {"mean": 1, "cls": 2, "last": 3}


@dataclass(frozen=True, slots=True)
class EngineModel:
    """One model's settings. `n_ctx` is the cells one job may use, `n_cells` those of all together,
    `kept_cells` those for beginnings that jobs share; `memory_budget` is bytes of GPU memory, and
    `load_locks` are files locked while it loads, one for each GPU. None lets the engine choose.
    """

    model_name: str
    model_path: str
    n_ctx: int = 2048
    n_slots: int = 8
    n_cells: int | None = None
    kept_cells: int | None = None
    n_batch: int = 512
    n_ubatch: int = 512
    n_threads: int | None = None
    n_threads_batch: int | None = None
    n_gpu_layers: int = -1
    main_gpu: int = 0
    split_mode: str = "none"
    tensor_split: tuple[float, ...] | None = None
    flash_attn: str | bool = "auto"
    type_k: str = "f16"
    type_v: str = "f16"
    kv_unified: bool | None = None
    offload_kqv: bool = True
    op_offload: bool = True
    swa_full: bool = True
    in_graph_sampling: str | bool = "auto"
    memory_budget: int | None = None
    load_locks: tuple[str, ...] = ()
    use_mmap: bool = True
    use_mlock: bool = False
    chat_format: str | None = None
    seed: int | None = None
    prefix_cache: bool = True
    step_control: bool = True
    target_step_ms: float | None = None
    target_p99_ms: float | None = None
    interactive_slowdown: float = 1.5
    jump_forward: bool = True
    json_whitespace: bool = False
    embedding: bool = False
    pooling_type: str | None = None
    mmproj_path: str | None = None
    mmproj_offload: bool = True
    image_min_tokens: int | None = None
    image_max_tokens: int | None = None
    image_cache_bytes: int = 256 * 1024 * 1024
    verbose: bool = False

    @classmethod
    def parse(cls, frame: Any) -> EngineModel:
        """Read a port frame; absent and null fields take their defaults. Raises EngineError
        (model_file_invalid).
        """
        if not isinstance(frame, dict):
            raise _wrong("model", "model must be an object")
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(frame) - known)
        if unknown:
            raise _wrong(unknown[0], f"unknown model setting {unknown[0]!r}")
        given = {name: value for name, value in frame.items() if value is not None}
        for name in ("model_name", "model_path"):
            if not isinstance(given.get(name), str) or not given[name]:
                raise _wrong(name, f"{name} must be a non-empty string")
        for name in ("tensor_split", "load_locks"):
            if isinstance(given.get(name), list):
                given[name] = tuple(given[name])
        model = cls(**given)
        model.check()
        return model

    def check(self) -> None:
        """Raise EngineError for a setting that llama.cpp would meet with an assert or a null pointer."""
        bounds = {
            "n_ctx": (8, 2**24),
            "n_slots": (1, MAX_SLOTS),
            "n_batch": (1, 2**20),
            "n_ubatch": (1, 2**20),
            "n_gpu_layers": (-1, 10_000),
            "main_gpu": (0, 255),
            "image_cache_bytes": (0, 2**40),
        }
        for name, (low, high) in bounds.items():
            _check_whole(name, getattr(self, name), low, high)
        if self.kept_cells is not None:
            _check_whole("kept_cells", self.kept_cells, 0, 2**28)
        if self.n_cells is not None:
            # one job alone must fit, or it could never be run
            _check_whole("n_cells", self.n_cells, self.n_ctx + 64, 2**28)
            if self.kv_unified is False:
                raise _wrong("n_cells", "n_cells bounds one pool of cells, and kv_unified is false")
        for name in ("target_step_ms", "target_p99_ms"):
            if getattr(self, name) is not None:
                _check_number(name, getattr(self, name), 0.001, 1e9)
        _check_number("interactive_slowdown", self.interactive_slowdown, 1.0, 1e6)
        for name, high in (
            ("n_threads", 512),
            ("n_threads_batch", 512),
            ("image_min_tokens", 2**20),
            ("image_max_tokens", 2**20),
        ):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), 1, high)
        if self.mmproj_path is not None and (not isinstance(self.mmproj_path, str) or not self.mmproj_path):
            raise _wrong("mmproj_path", "mmproj_path must be a non-empty string")
        if self.memory_budget is not None:
            _check_whole("memory_budget", self.memory_budget, 1, 2**50)
        for name, choices in (("type_k", CACHE_TYPES), ("type_v", CACHE_TYPES), ("split_mode", SPLIT_MODES)):
            _check_named(name, getattr(self, name), choices)
        if self.pooling_type is not None:
            _check_named("pooling_type", self.pooling_type, POOLING_TYPES)
        for name in ("flash_attn", "in_graph_sampling"):
            value = getattr(self, name)
            if value != "auto" and not isinstance(value, bool):
                raise _wrong(name, f'{name} must be "auto", true or false, not {value!r}')
        for name in ("offload_kqv", "op_offload", "swa_full"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, f"{name} must be true or false, not {getattr(self, name)!r}")
        if self.flash_attn is False and self.type_v not in _PLAIN_TYPES:
            raise _wrong(
                "type_v",
                f"type_v {self.type_v} needs flash attention, and flash_attn is false",
                remedy="set flash_attn to true or auto, or type_v to f16",
            )
        self._check_split()

    def _check_split(self) -> None:
        """llama.cpp reads one part for each device it knows, whatever is given."""
        if self.tensor_split is None:
            return
        parts = self.tensor_split
        good = isinstance(parts, tuple) and 1 <= len(parts) <= MAX_DEVICES and all(map(_is_part, parts))
        if not good or not sum(parts):
            raise _wrong(
                "tensor_split",
                f"tensor_split must be 1 to {MAX_DEVICES} parts of at least 0 and not all 0, not {parts!r}",
            )
        if self.split_mode == "none":
            raise _wrong("tensor_split", "tensor_split says how to split, and split_mode is none")
        if self.main_gpu >= len(parts):
            raise _wrong("main_gpu", f"main_gpu is {self.main_gpu}, and tensor_split has {len(parts)} parts")


def _is_part(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    )


def _check_whole(name: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _wrong(name, f"{name} must be a whole number from {low} to {high}, not {value!r}")


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _wrong(name, f"{name} must be a number from {low:g} to {high:g}, not {value!r}")


def _check_named(name: str, value: Any, choices: Collection[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise _wrong(name, f"{name} must be one of {', '.join(choices)}, not {value!r}")


def _wrong(name: str, why: str, remedy: str = "correct the model's entry in the catalogue") -> EngineError:
    return EngineError(MODEL_FILE_INVALID, why, field=name, remedy=remedy)
