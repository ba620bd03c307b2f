"""The settings of a llama.cpp model that depend on the machine it runs on.

A model's catalogue entry and a hardware profile have the same ones: what the entry leaves out (null), the
profile of the machine decides, and what both leave out, the engine. Names are llama-cpp-python's. It knows no
file.
"""

from typing import Annotated, Literal

from pydantic import Field

from batchyard.entry import Bytes, Entry, Finite, Share, Whole

KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
SplitMode = Literal["none", "layer", "row"]


class ModelSettings(Entry):
    """Settings that a hardware profile may decide; null leaves one open."""

    n_batch: Annotated[Whole | None, Field(ge=1, description="Token budget of one step, over all slots.")] = (
        None
    )
    n_ubatch: Annotated[Whole | None, Field(ge=1, description="Rows that llama.cpp computes at a time.")] = (
        None
    )
    target_step_ms: Annotated[
        Finite | None,
        Field(gt=0, description="Longest step, in ms, while jobs generate: prompts come in shorter chunks."),
    ] = None
    n_threads: Annotated[
        Whole | None,
        Field(ge=1, description="Threads of a step; null takes the cores but one, which Celery needs."),
    ] = None
    n_threads_batch: Annotated[
        Whole | None, Field(ge=1, description="Threads of a step with prompt rows; null as n_threads.")
    ] = None
    n_gpu_layers: Annotated[
        Whole | None, Field(ge=-1, description="Layers on the GPU; -1 for all. Ignored without one.")
    ] = None
    split_mode: Annotated[SplitMode | None, Field(description="How a model is split over several GPUs.")] = (
        None
    )
    tensor_split: Annotated[
        tuple[Annotated[Finite, Field(ge=0)], ...] | None,
        Field(min_length=1, max_length=16, description="Each GPU's part of a split model, such as [3, 1]."),
    ] = None
    main_gpu: Annotated[
        Whole | None, Field(ge=0, description="Of the GPUs this worker sees, the one for what is not split.")
    ] = None
    flash_attn: Annotated[
        bool | Literal["auto"] | None, Field(description="Flash attention; auto lets llama.cpp decide.")
    ] = None
    type_k: Annotated[KvType | None, Field(description="KV cache type of keys.")] = None
    type_v: Annotated[
        KvType | None, Field(description="KV cache type of values; quantised ones need flash_attn.")
    ] = None
    kv_unified: Annotated[bool | None, Field(description="One pool of KV cells for all slots.")] = None
    offload_kqv: Annotated[bool | None, Field(description="KV cache and attention on the GPU.")] = None
    op_offload: Annotated[
        bool | None, Field(description="Large operations on weights of the CPU are computed on the GPU.")
    ] = None
    swa_full: Annotated[
        bool | None, Field(description="Full-size cache for sliding-window layers: needed to reuse prefixes.")
    ] = None
    in_graph_sampling: Annotated[
        bool | Literal["auto"] | None,
        Field(description="Candidates and their probabilities are found on the device; auto: on a GPU only."),
    ] = None
    memory_budget: Annotated[
        Share | Bytes | None,
        Field(description="GPU memory of one worker: bytes, or a share of the card below 1."),
    ] = None
