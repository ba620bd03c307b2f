"""A profile's short steps do not cap texts to embed, nor images that cannot be cut."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from batchyard.catalogue import LlamaEntry
from batchyard.hardware import Profile
from batchyard.model_settings import ModelSettings
from batchyard.settings import Settings
from tests.engine.tiny_encoder import LONGEST, write_tiny_encoder
from tests.engine.tiny_vision import LLAVA_POSITIONS, write_gemma3, write_llava
from workers.engine.gguf_file import GgufHeader
from workers.profile import Setting, resolve
from workers.start import prepare
from workers.whole_rows import WholeRows, whole_rows

SHORT = Profile(profile_name="p", settings=ModelSettings(n_batch=128, n_ubatch=64))


def entry(**more: Any) -> LlamaEntry:
    return LlamaEntry.model_validate({"model_name": "m", "model_path": "models/m.gguf"} | more)


def header(architecture: str, **metadata: Any) -> GgufHeader:
    own = {f"{architecture}.{name.replace('__', '.')}": value for name, value in metadata.items()}
    return GgufHeader(3, 1, {"general.architecture": architecture} | own)


def test_an_encoder_computes_a_whole_text_as_long_as_it_was_trained_on() -> None:
    bert = header("bert", context_length=512, pooling_type=1, attention__causal=False)
    assert whole_rows(entry(embedding=True), bert) == WholeRows(512, 512, "a whole text")
    assert whole_rows(entry(embedding=True, n_ctx=256), bert) == WholeRows(256, 256, "a whole text")
    assert whole_rows(entry(embedding=True, n_ctx=256)) == WholeRows(256, 256, "a whole text")


def test_causal_rows_of_which_the_last_counts_may_be_micro_batches() -> None:
    qwen = header("qwen3", context_length=32768, pooling_type=3)
    assert whole_rows(entry(embedding=True), qwen) == WholeRows(2048, 1, "a whole text")
    mean = whole_rows(entry(embedding=True, pooling_type="mean"), qwen)
    assert mean == WholeRows(2048, 2048, "a whole text")
    assert whole_rows(entry(), qwen) is None


@pytest.mark.parametrize(
    ("projector", "most", "rows"),
    [("gemma3", None, 256), ("gemma4v", None, 1120), ("gemma4v", 280, 280), ("mlp", None, None)],
)
def test_images_that_cannot_be_cut(projector: str, most: int | None, rows: int | None) -> None:
    encoder = header("clip", projector_type=projector, vision__image_size=896, vision__patch_size=14)
    found = whole_rows(entry(mmproj_path="p.gguf", image_max_tokens=most), None, encoder)
    assert found == (None if rows is None else WholeRows(rows, rows, "a whole image"))
    short = whole_rows(entry(mmproj_path="p.gguf", n_ctx=128), None, encoder)
    assert short is None or short.n_batch == 128


def test_the_catalogue_s_own_steps_stay_and_longer_ones_do_too() -> None:
    whole = WholeRows(100, 100, "a whole text")
    raised = resolve(entry(embedding=True), SHORT).with_whole(whole).settings
    assert raised["n_batch"] == Setting(128, "profile p")
    assert raised["n_ubatch"] == Setting(100, "a whole text")
    own = resolve(entry(embedding=True, n_ubatch=32), SHORT).with_whole(whole).settings
    assert own["n_ubatch"] == Setting(32, "catalogue")
    assert resolve(entry(), SHORT).with_whole(None).settings == resolve(entry(), SHORT).settings


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "configs").mkdir()
    (tmp_path / "models").mkdir()
    hardware = tmp_path / "configs" / "hardware.yaml"
    hardware.write_text(
        "profile_list:\n  - profile_name: small\n    match: {device: cpu}\n"
        "    settings: {n_batch: 16, n_ubatch: 8}\n",
        encoding="utf-8",
    )
    shutil.copy(settings.models, tmp_path / "configs" / "models.yaml")
    return settings.model_copy(update={"models": tmp_path / "configs" / "models.yaml", "hardware": hardware})


def test_a_start_reads_the_files_that_say_so(yard: Settings, tmp_path: Path) -> None:
    write_tiny_encoder(tmp_path / "models" / "m.gguf")
    settings = prepare(yard, entry(embedding=True), []).resolved.settings
    assert settings["n_ubatch"] == Setting(LONGEST, "a whole text")
    write_gemma3(tmp_path / "models" / "both.gguf")
    write_llava(tmp_path / "models" / "one.gguf")
    both = prepare(yard, entry(mmproj_path="models/both.gguf"), []).resolved.settings
    assert both["n_ubatch"] == Setting(LLAVA_POSITIONS, "a whole image")
    one = prepare(yard, entry(mmproj_path="models/one.gguf"), []).resolved.settings
    assert one["n_ubatch"] == Setting(8, "profile small")
    (tmp_path / "models" / "m.gguf").unlink()
    missing = prepare(yard, entry(embedding=True, n_ctx=32), []).resolved.settings
    assert missing["n_ubatch"] == Setting(32, "a whole text")
