"""Which model to load and how: the `model` of a `load` frame, with llama-cpp-python's parameter names.

It does not open the file.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from workers.engine.errors import MODEL_FILE_INVALID, EngineError

MAX_SEQUENCES: Final = 256
"""llama.cpp's compiled limit of sequence ids (LLAMA_MAX_SEQ)."""
MAX_SLOTS: Final = 240
"""Sixteen ids stay free for kept prefixes and forks of choices."""
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
POOLING_TYPES: Final = {"mean": 1, "cls": 2, "last": 3}


@dataclass(frozen=True, slots=True)
class EngineModel:
    """One model's settings. `n_ctx` is the cells one job may use, `n_cells` those of all together,
    `kept_cells` those for beginnings that jobs share; None lets the engine choose.
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
    n_gpu_layers: int = 0
    main_gpu: int = 0
    split_mode: int | str | None = None
    flash_attn: str | bool = "auto"
    type_k: str = "f16"
    type_v: str = "f16"
    kv_unified: bool | None = None
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
        for name in ("type_k", "type_v"):
            if getattr(self, name) not in CACHE_TYPES:
                raise _wrong(
                    name, f"{name} must be one of {', '.join(CACHE_TYPES)}, not {getattr(self, name)!r}"
                )
        if self.pooling_type is not None and self.pooling_type not in POOLING_TYPES:
            raise _wrong(
                "pooling_type",
                f"pooling_type must be one of {', '.join(POOLING_TYPES)}, not {self.pooling_type!r}",
            )
        if self.flash_attn not in ("auto", True, False):
            raise _wrong("flash_attn", f'flash_attn must be "auto", true or false, not {self.flash_attn!r}')


def _check_whole(name: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _wrong(name, f"{name} must be a whole number from {low} to {high}, not {value!r}")


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _wrong(name, f"{name} must be a number from {low:g} to {high:g}, not {value!r}")


def _wrong(name: str, why: str) -> EngineError:
    return EngineError(
        MODEL_FILE_INVALID, why, field=name, remedy="correct the model's entry in the catalogue"
    )
