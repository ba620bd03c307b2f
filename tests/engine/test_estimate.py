"""The estimate of memory against what llama.cpp itself reports for real models on the CPU."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from llama_cpp import llama_cpp as c

from workers.engine.errors import EngineError
from workers.engine.estimate import (
    GPU_MARGIN,
    MemoryEstimate,
    check_fits,
    compute_bytes,
    estimate_memory,
    kv_bytes,
    planned_memory,
)
from workers.engine.gguf_file import GgufHeader, read_header
from workers.engine.llama.context import Context
from workers.engine.llama.log import Log
from workers.engine.llama.model import Model
from workers.engine.model import EngineModel
from workers.engine.shape import ContextShape

STARTER = Path(__file__).resolve().parents[2] / "models/defect_detect.Q4_K_M.gguf"


class ListeningLog(Log):
    """A log that keeps every line: llama.cpp reports its buffers there and nowhere else."""

    def __init__(self) -> None:
        self.text = ""
        super().__init__(verbose=False)

    def _receive(self, level: int, text: bytes, data: object) -> None:
        self.text += text.decode("utf-8", "replace")

    def mib(self, what: str) -> float:
        """The last reported size of a buffer, in MiB."""
        return float(re.findall(rf"CPU {what} buffer size = +([0-9.]+) MiB", self.text)[-1])


def shape(cells: int, ubatch: int, sequences: int, outputs: int, *, unified: bool) -> ContextShape:
    return ContextShape(cells, 512, ubatch, sequences, outputs, 1, 1, unified)


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"flash_attn": True}, shape(4096, 256, 16, 64, unified=True)),
        ({"flash_attn": False}, shape(4096, 256, 16, 64, unified=True)),
        ({"flash_attn": True}, shape(4000, 64, 16, 300, unified=True)),
        ({"flash_attn": True, "type_k": "q8_0", "type_v": "q4_0"}, shape(4096, 64, 16, 16, unified=False)),
        ({"flash_attn": False, "type_k": "f32"}, shape(3000, 128, 5, 16, unified=False)),
    ],
)
@pytest.mark.parametrize("which", ["starter", "tiny"])
def test_it_is_what_llama_cpp_reports_or_a_little_more(
    which: str, settings: dict[str, object], sizes: ContextShape, q4_model: Path
) -> None:
    path = STARTER if which == "starter" else q4_model
    model_settings = EngineModel.parse({"model_name": "m", "model_path": str(path)} | settings)
    header = read_header(path)
    log = ListeningLog()
    model = Model(model_settings, use_extra_bufts=False, log=log)
    context = Context(model, model_settings, sizes, log)
    try:
        cache, compute = log.mib("KV"), log.mib("compute")
    finally:
        context.close()
        model.close()
        c.llama_log_set(c.llama_log_callback(0), None)
    # llama.cpp prints hundredths of a MiB
    assert kv_bytes(header, model_settings, sizes) / 2**20 == pytest.approx(cache, abs=0.006)
    assert compute <= compute_bytes(header, model_settings, sizes) / 2**20 <= compute * 1.6 + 0.5


def header(**values: int) -> GgufHeader:
    usual = {
        "block_count": 32,
        "embedding_length": 4096,
        "feed_forward_length": 14336,
        "attention.head_count": 32,
        "attention.head_count_kv": 8,
        "vocab_size": 32000,
    }
    metadata = {f"llama.{name}": value for name, value in (usual | values).items()}
    return GgufHeader(3, 0, metadata | {"general.architecture": "llama"})


def test_a_7b_of_mistrals_shape_takes_128_kib_of_cache_a_token() -> None:
    one = shape(256, 128, 1, 16, unified=True)
    settings = EngineModel("m", "m")
    assert kv_bytes(header(), settings, one) == 256 * 128 * 1024
    half = EngineModel("m", "m", type_k="q8_0", type_v="q8_0")
    assert kv_bytes(header(), half, one) == 256 * 68 * 1024


def test_layers_that_stay_on_the_processor_take_nothing_on_the_gpu() -> None:
    sizes = shape(4096, 128, 16, 16, unified=True)
    settings = EngineModel("m", "m", n_gpu_layers=-1)
    whole = estimate_memory(header(), 4 << 30, settings, sizes, on_gpu=True)
    assert whole.weights == 4 << 30 and whole.margin == GPU_MARGIN
    part = estimate_memory(header(), 4 << 30, EngineModel("m", "m", n_gpu_layers=11), sizes, on_gpu=True)
    assert part.weights == (4 << 30) // 3
    assert part.cache == pytest.approx(whole.cache * 11 / 32, abs=1)
    apart = EngineModel("m", "m", n_gpu_layers=-1, offload_kqv=False)
    assert estimate_memory(header(), 4 << 30, apart, sizes, on_gpu=True).cache == 0


def test_the_loaders_own_sizes_are_used(q4_model: Path) -> None:
    few = EngineModel("m", str(q4_model), n_slots=2, n_ctx=512, kv_unified=True)
    many = EngineModel("m", str(q4_model), n_slots=5, n_ctx=512, kv_unified=True)
    sizes = [planned_memory(settings, read_header(q4_model), on_gpu=False).cache for settings in (few, many)]
    assert sizes[1] == 2 * sizes[0]  # a slot's worth of cells is spare: 6 against 3


def test_an_image_encoder_counts_where_it_is_loaded(q4_model: Path) -> None:
    alone = EngineModel("m", str(q4_model))
    seeing = EngineModel("m", str(q4_model), mmproj_path=str(STARTER))
    elsewhere = EngineModel("m", str(q4_model), mmproj_path=str(STARTER), mmproj_offload=False)
    weights = [
        planned_memory(one, read_header(q4_model), on_gpu=True).weights for one in (alone, seeing, elsewhere)
    ]
    assert weights[1] - weights[0] == STARTER.stat().st_size
    assert weights[2] == weights[0]


def test_what_does_not_fit_is_refused_with_its_parts() -> None:
    estimate = MemoryEstimate(weights=4 << 30, cache=2 << 30, compute=1 << 20, margin=GPU_MARGIN)
    settings = EngineModel("seven", "m")
    check_fits(estimate, 7 << 30, settings)
    with pytest.raises(EngineError) as caught:
        check_fits(estimate, 6 << 30, settings)
    assert caught.value.code == "out_of_memory"
    assert "seven needs more than the 6,144 MiB that are free" in caught.value.message
    assert "weights 4,096 + KV cache 2,048 + compute 1 + margin 512 = 6,657 MiB" in caught.value.message
    with pytest.raises(EngineError) as caught:
        check_fits(estimate, 24 << 30, EngineModel("seven", "m", memory_budget=5 << 30))
    assert caught.value.field == "memory_budget"
