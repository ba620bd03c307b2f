"""Which classifier to load and how: the `model` of a `load` frame. It opens no file."""

from __future__ import annotations

from typing import Any, Final

from batchyard.entry import DEFAULT_PROVIDERS, Bytes, OnnxEntry
from workers.engine.estimate import GPU_MARGIN
from workers.port.settings import wrong_setting

_CUDA: Final = "CUDAExecutionProvider"


class OnnxModel(OnnxEntry):
    """A classifier's entry on its way to its engine. `memory_budget` is bytes here; `load_locks` are files
    locked while it loads, one for each GPU."""

    memory_budget: Bytes | None = None
    load_locks: tuple[str, ...] = ()

    @property
    def providers(self) -> tuple[str, ...]:
        """ONNX Runtime's execution providers, the preferred one first."""
        return self.execution_providers or DEFAULT_PROVIDERS

    def provider_options(self) -> list[dict[str, Any]]:
        """ONNX Runtime's options for each provider. Raises EngineError for a budget that leaves nothing.

        Its arena on a GPU keeps to `gpu_mem_limit`, and grows to the whole card without one; CUDA's own part
        lies outside.
        """
        if self.memory_budget is None:
            return [{} for _ in self.providers]
        limit = self.memory_budget - GPU_MARGIN
        if limit <= 0 and _CUDA in self.providers:
            raise wrong_setting(
                "memory_budget",
                f"memory_budget is {self.memory_budget / 2**20:,.0f} MiB, of which {GPU_MARGIN / 2**20:,.0f} "
                "are set aside for CUDA itself",
                remedy="raise it, or run the model on the processor: execution_providers",
            )
        return [{"gpu_mem_limit": limit} if name == _CUDA else {} for name in self.providers]
