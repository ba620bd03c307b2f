"""Files with random weights: real GGUFs of the stated sizes in which no text ends by itself."""

from pathlib import Path

import gguf
import pytest

from benchmarks import shapes, tokenizer
from benchmarks.engine_client import completions, engine_child
from benchmarks.shapes import SHAPES, STARTER, Shape

TINY = Shape(width=256, layers=1, heads=4, kv_heads=2, feed_forward=512, vocabulary=2100, context=512)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    words = tokenizer.tokenizer_of(tokenizer.read_fields(STARTER))
    shapes.write_random(TINY, folder / "half.gguf", words, "tiny")
    shapes.quantise(folder / "half.gguf", folder / "tiny.gguf", threads=1)
    return folder / "tiny.gguf"


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("shapes") / "starter.gguf"
    shapes.copy_endless(STARTER, target)
    return target


def generated(model: Path, prompt: str, tokens: int) -> dict[str, object]:
    request = {"id": "a", "prompt": prompt, "sampling": {"temperature": 0.0, "max_tokens": tokens}}
    with engine_child(model, slots=1, n_ctx=256, threads=1) as engine:
        return completions(engine, [request], 1)["a"]


def test_the_shapes_have_their_sizes() -> None:
    weights = {
        name: sum(rows * columns for _, (rows, *rest) in shape.tensors() for columns in rest)
        for name, shape in SHAPES.items()
    }
    assert weights["1.1B"] == pytest.approx(1.1e9, rel=0.01)
    assert weights["7B"] == pytest.approx(7.24e9, rel=0.01)


def test_a_file_is_quantised_and_has_the_shape(tiny: Path) -> None:
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tiny).tensors}
    assert list(tensors["blk.0.ffn_gate.weight"].shape) == [256, 512]
    assert tensors["blk.0.ffn_gate.weight"].tensor_type == gguf.GGMLQuantizationType.Q4_K
    assert list(tensors["output.weight"].shape) == [256, 2100]


@pytest.mark.parametrize("model", ["tiny", "starter"])
def test_no_text_ends_by_itself(model: str, request: pytest.FixtureRequest) -> None:
    done = generated(request.getfixturevalue(model), "Board A17: solder bridge at U12.", 120)
    assert done["finish_reason"] == "length"
    assert done["usage"]["completion_tokens"] == 120


def test_the_endless_copy_still_says_what_the_starter_says(starter: Path) -> None:
    """Its weights are the starter's: up to where that one ends, both say the same."""
    prompt = "Board A17: solder bridge at U12."
    own, copy = (str(generated(model, prompt, 60)["text"]) for model in (STARTER, starter))
    assert own and copy.startswith(own)


def test_what_is_filled_up_keeps_the_tokens_before() -> None:
    words = tokenizer.tokenizer_of(tokenizer.read_fields(STARTER))
    more = tokenizer.filled_up(words, 2500)
    tokens = more["tokenizer.ggml.tokens"].value
    assert tokens[:2048] == words["tokenizer.ggml.tokens"].value
    assert len(tokens) == len(set(tokens)) == len(more["tokenizer.ggml.token_type"].value) == 2500


def test_a_tokenizer_that_is_too_large_is_refused() -> None:
    words = tokenizer.tokenizer_of(tokenizer.read_fields(STARTER))
    with pytest.raises(ValueError, match="2048 tokens, the shape 100"):
        tokenizer.filled_up(words, 100)


def test_a_path_is_a_model_of_its_own(tmp_path: Path) -> None:
    assert shapes.measured_model(str(tmp_path / "mine.gguf")) == tmp_path / "mine.gguf"


def test_a_file_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = shapes.measured_model("starter")
    first = made.stat().st_mtime_ns
    assert shapes.measured_model("starter") == made and made.stat().st_mtime_ns == first
    assert [path.name for path in made.parent.iterdir()] == [made.name]
