"""What the native library says about itself, in a child and as plain text of other builds."""

from __future__ import annotations

import os

import pytest

from workers.engine.build_facts import BuildFacts, build_facts
from workers.engine.errors import EngineError


def test_the_installed_library_describes_itself_and_its_processor() -> None:
    facts = build_facts(os.environ)
    assert facts.build.startswith("llama-cpp-python ")
    assert any(device.kind == "cpu" and device.memory > 0 for device in facts.devices)
    if not facts.gpu_offload:
        assert facts.architectures == () and facts.gpus == ()


@pytest.mark.parametrize(
    ("system_info", "architectures"),
    [
        ("CUDA : ARCHS = 610,700,1200 | USE_GRAPHS = 1 | CPU : AVX2 = 1 | ", (610, 700, 1200)),
        ("CUDA : ARCHS = 860,610 | CPU : SSE3 = 1 | ", (610, 860)),
        ("CPU : AVX2 = 1 | ", ()),
    ],
)
def test_cuda_architectures_are_read_from_the_features(
    system_info: str, architectures: tuple[int, ...]
) -> None:
    assert BuildFacts("b", system_info, True, ()).architectures == architectures


def test_a_library_that_cannot_be_loaded_is_named(tmp_path: object) -> None:
    with pytest.raises(EngineError, match="cannot be asked about itself") as caught:
        build_facts(os.environ | {"LLAMA_CPP_LIB_PATH": str(tmp_path)})
    assert caught.value.remedy is not None and "make setup" in caught.value.remedy
