"""Embedding models: batched vectors are single ones and llama-cpp-python's own; bad texts fail alone."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from llama_cpp import Llama

from workers.engine.embedder import Embedder
from workers.engine.embedding_loader import EmbeddingRuntime, load_embedder
from workers.engine.errors import EngineError
from workers.engine.loader import load
from workers.engine.model import EngineModel
from workers.engine.notebook import Notebook

TEXTS = [
    "solder bridge at u12 pin 3",
    "no finding",
    "the part at r7 is missing, the board is open",
    "a",
    "bridge bridge bridge",
    "pin 4 of u3: open - solder missing at pin 5",
    "board 17",
]


class Vectors:
    """An embedder driven by hand."""

    def __init__(self, runtime: EmbeddingRuntime, **settings: Any) -> None:
        self.runtime = runtime
        self.loop = Embedder(runtime, **settings)
        self.done: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []

    def submit(self, name: str, text: str, **request: Any) -> None:
        self.loop.submit({"id": name, "prompt": text, "output": {"type": "embedding"}} | request)
        self.collect()

    def step(self) -> None:
        self.loop.step()
        self.collect()

    def run(self) -> dict[str, np.ndarray]:
        """Step until idle; the vectors by id."""
        while not self.loop.idle:
            self.step()
        return {name: self.vector(name) for name in self.done}

    def vector(self, name: str) -> np.ndarray:
        return np.frombuffer(base64.b64decode(self.done[name]["embedding"]), "<f4")

    def embed(self, texts: list[str], **request: Any) -> np.ndarray:
        """The vectors [texts, width] of texts submitted together."""
        for at, text in enumerate(texts):
            self.submit(str(at), text, **request)
        vectors = self.run()
        return np.array([vectors[str(at)] for at in range(len(texts))])

    def collect(self) -> None:
        for event in self.loop.events():
            if event["op"] == "done":
                self.done[event["id"]] = event["completion"]
                self.order.append(event["id"])
            elif event["op"] == "failed":
                self.failed[event["id"]] = event["error"]


Open = Callable[..., Vectors]


@pytest.fixture
def open_vectors(encoder_model: Path, notebook: Notebook) -> Iterator[Open]:
    """An embedder over the tiny encoder, or another model, with settings of one's own."""
    opened: list[EmbeddingRuntime] = []

    def open_one(path: Path = encoder_model, wall: Any = None, **settings: Any) -> Vectors:
        given = {"n_slots": 4, "n_threads": 1, "n_batch": 64, "n_ubatch": 64, "embedding": True}
        runtime = load_embedder(EngineModel("tiny", str(path), **(given | settings)), notebook=notebook)
        opened.append(runtime)
        return Vectors(runtime, **({} if wall is None else {"wall": wall}))

    yield open_one
    for runtime in opened:
        runtime.close()


def reference(path: Path, pooling: int, normalize: bool) -> np.ndarray:
    """llama-cpp-python's own vectors, one text after the other."""
    llama = Llama(
        str(path), embedding=True, pooling_type=pooling, n_ctx=64, n_batch=64, n_ubatch=64, n_threads=1,
        verbose=False,
    )  # fmt: skip
    vectors = np.array([llama.embed(text, normalize=normalize) for text in TEXTS])
    llama.close()
    return vectors


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / lengths)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_encoder_vectors_are_the_library_s_own_batched_and_single(
    open_vectors: Open, encoder_model: Path, pooling: str
) -> None:
    number = {"mean": 1, "cls": 2, "last": 3}[pooling]
    expected = reference(encoder_model, number, normalize=True)
    batched = open_vectors(pooling_type=pooling).embed(TEXTS)
    alone = open_vectors(pooling_type=pooling, n_slots=1).embed(TEXTS)
    assert cosines(batched, expected).min() >= 1 - 1e-5
    assert cosines(alone, expected).min() >= 1 - 1e-5
    assert np.allclose(np.linalg.norm(batched, axis=1), 1.0, atol=1e-6)
    # and the texts differ, so that a mixed-up order would be seen
    assert (batched @ batched.T - np.eye(len(TEXTS))).max() < 0.999


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_decoder_vectors_are_the_library_s_own(open_vectors: Open, f32_model: Path, pooling: str) -> None:
    expected = reference(f32_model, {"mean": 1, "last": 3}[pooling], normalize=False)
    vectors = open_vectors(f32_model, pooling_type=pooling)
    found = vectors.embed(TEXTS, output={"type": "embedding", "normalize": False})
    assert vectors.runtime.context.facts.width == 256
    assert cosines(found, expected).min() >= 1 - 1e-5
    assert np.allclose(np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1), rtol=1e-4)


def test_prompts_share_steps_up_to_its_rows_and_slots(open_vectors: Open) -> None:
    vectors = open_vectors(n_slots=4, n_batch=24, n_ubatch=24)
    for at in range(9):
        vectors.submit(str(at), "pin 3 open")  # five tokens with [CLS] and [SEP]: four a step
    vectors.run()
    assert vectors.order == [str(at) for at in range(9)]
    stats = vectors.loop.stats()
    assert (stats["steps"], stats["sequences"], stats["rows"], stats["done"]) == (3, 9, 45, 9)
    assert vectors.done["0"]["timings"]["mean_batch"] == 4.0
    vectors.submit("long", "pin " * 20)
    vectors.submit("short", "pin")
    vectors.step()
    assert vectors.order[-1] == "long"  # 22 rows: the short one waits for the next step
    assert not vectors.loop.idle
    vectors.run()
    assert vectors.order[-1] == "short"


def test_last_pooling_over_a_decoder_may_be_longer_than_a_physical_batch(
    open_vectors: Open, f32_model: Path
) -> None:
    text = "the board has a solder bridge at u12 and the part at r7 is missing"
    whole = open_vectors(f32_model, pooling_type="last", n_batch=128, n_ubatch=128).embed([text])
    split = open_vectors(f32_model, pooling_type="last", n_batch=128, n_ubatch=16)
    assert cosines(split.embed([text]), whole).min() >= 1 - 1e-5
    pooled = open_vectors(f32_model, pooling_type="mean", n_batch=128, n_ubatch=16)
    pooled.submit("a", text)
    assert pooled.failed["a"]["code"] == "prompt_too_long"
    assert "n_ubatch" in pooled.failed["a"]["message"]


def test_dimensions_cut_and_scale_again(open_vectors: Open) -> None:
    whole = open_vectors().embed(TEXTS)
    cut = open_vectors().embed(TEXTS, output={"type": "embedding", "dimensions": 16})
    assert cut.shape == (len(TEXTS), 16)
    assert np.allclose(np.linalg.norm(cut, axis=1), 1.0, atol=1e-6)
    assert cosines(cut, whole[:, :16]).min() >= 1 - 1e-6


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        ({"prompt": ""}, "prompt_empty", "prompt"),
        ({"prompt": "  \n\t "}, "prompt_empty", "prompt"),
        ({"prompt": None, "messages": [{"role": "user", "content": " "}]}, "prompt_empty", "messages"),
        ({"prompt": "pin " * 63}, "prompt_too_long", "prompt"),
        ({"output": {"type": "text"}}, "output_not_supported", "output.type"),
        ({"output": {"type": "choices", "choices": ["a", "b"]}}, "output_not_supported", "output.type"),
        ({"output": {"type": "embedding", "dimensions": 65}}, "request_invalid", "output.dimensions"),
        ({"output": {"type": "embedding", "dimensions": 0}}, "request_invalid", "output.dimensions"),
        ({"output": {"type": "embedding", "normalize": "yes"}}, "request_invalid", "output.normalize"),
    ],
)
def test_what_cannot_be_embedded_fails_alone(
    open_vectors: Open, request_: dict[str, Any], code: str, field: str
) -> None:
    vectors = open_vectors()
    vectors.submit("good", "pin 3")
    vectors.submit("bad", **({"text": "pin 4"} | request_))
    vectors.run()
    assert set(vectors.done) == {"good"}
    error = vectors.failed["bad"]
    assert (error["code"], error["field"]) == (code, field)
    assert error["message"]
    assert vectors.loop.stats()["failed"] == 1


def test_the_longest_text_that_fits_is_embedded(open_vectors: Open) -> None:
    vectors = open_vectors(n_batch=512, n_ubatch=512)
    vectors.submit("most", "pin " * 62)  # with [CLS] and [SEP] the 64 positions that the file has
    vectors.submit("more", "pin " * 63)
    vectors.run()
    assert set(vectors.done) == {"most"}
    assert "trained" in vectors.failed["more"]["message"]
    assert "62 tokens" in vectors.failed["more"]["remedy"]


def test_messages_are_embedded_as_their_joined_text(open_vectors: Open) -> None:
    vectors = open_vectors()
    vectors.submit("plain", "pin 3\nopen")
    turns = [{"role": "user", "content": "pin 3"}, {"role": "user", "content": "open"}]
    vectors.loop.submit({"id": "turns", "messages": turns, "output": {"type": "embedding"}})
    found = vectors.run()
    assert np.allclose(found["plain"], found["turns"], atol=1e-6)


def test_control_tokens_in_a_text_are_text(open_vectors: Open) -> None:
    vectors = open_vectors()
    assert vectors.runtime.vocabulary.tokenise("[SEP]", framed=True).tolist()[1:-1] != [3]


def test_priority_goes_first_and_a_deadline_and_a_cancel_are_kept(open_vectors: Open) -> None:
    now = [100.0]
    vectors = open_vectors(n_slots=1, wall=lambda: now[0])
    for name, more in {
        "batch": {"priority": 6},
        "late": {"deadline": 150.0},
        "gone": {},
        "interactive": {"priority": 0},
    }.items():
        vectors.submit(name, "pin 3", **more)
    vectors.loop.cancel("gone")
    vectors.collect()
    vectors.step()
    assert vectors.order == ["interactive"]
    now[0] = 200.0
    vectors.run()
    assert vectors.order == ["interactive", "batch"]
    assert {name: error["code"] for name, error in vectors.failed.items()} == {
        "gone": "cancelled",
        "late": "deadline_exceeded",
    }


def test_one_that_waits_for_the_next_step_can_be_cancelled(open_vectors: Open) -> None:
    vectors = open_vectors(n_batch=16, n_ubatch=16)
    vectors.submit("first", "pin " * 10)
    vectors.submit("second", "pin " * 11)
    vectors.step()
    vectors.loop.cancel("second")
    vectors.collect()
    assert vectors.failed["second"]["code"] == "cancelled"
    assert vectors.loop.idle


def test_an_id_that_is_in_is_rejected(open_vectors: Open) -> None:
    vectors = open_vectors()
    for _ in range(2):
        vectors.loop.submit({"id": "a", "prompt": "pin", "output": {"type": "embedding"}})
    assert [event["op"] for event in vectors.loop.events()] == ["rejected"]
    assert set(vectors.run()) == {"a"}


def test_a_pass_that_fails_is_run_again_one_by_one(
    open_vectors: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = open_vectors()
    encode = vectors.runtime.context.encode
    monkeypatch.setattr(vectors.runtime.context, "encode", lambda rows: encode(rows) if rows == 3 else -3)
    vectors.submit("one", "pin")
    vectors.submit("two", "pin 3")
    vectors.run()
    assert set(vectors.done) == {"one"}
    assert (vectors.failed["two"]["code"], vectors.failed["two"]["retryable"]) == ("decode_failed", True)


@pytest.mark.parametrize(
    ("pooling", "embedding", "words"),
    [(None, True, "pooling_type"), (None, False, "embedding: true")],
)
def test_a_model_that_cannot_do_what_its_entry_says_is_named(
    encoder_model: Path,
    tiny_encoder: ModuleType,
    tmp_path: Path,
    notebook: Notebook,
    pooling: str | None,
    embedding: bool,
    words: str,
) -> None:
    path = tiny_encoder.write_tiny_encoder(tmp_path / "none.gguf", pooling=None)
    settings = EngineModel("tiny", str(path), n_threads=1, embedding=embedding, pooling_type=pooling)
    with pytest.raises(EngineError) as caught:
        (load_embedder if embedding else load)(settings, notebook=notebook)
    assert caught.value.code == "model_file_invalid"
    assert words in f"{caught.value.message} {caught.value.remedy}"


def test_a_generating_model_names_what_an_embedding_needs(yard: Any) -> None:
    yard.submit("a", prompt="hello", output={"type": "embedding"})
    assert yard.failed["a"]["code"] == "output_not_supported"
    assert "embedding: true" in yard.failed["a"]["remedy"]


def test_of_a_text_that_cannot_fit_only_the_beginning_is_tokenised(
    open_vectors: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = open_vectors()
    vocabulary, lengths = vectors.runtime.vocabulary, []
    real = vocabulary.tokenise

    def tokenise(text: str, **options: Any) -> Any:
        lengths.append(len(text))
        return real(text, **options)

    monkeypatch.setattr(vocabulary, "tokenise", tokenise)
    vectors.submit("long", "solder bridge " * 100_000)
    assert vectors.failed["long"]["code"] == "prompt_too_long"
    assert "at least" in vectors.failed["long"]["message"]
    assert max(lengths) <= 2_000
    # few tokens of many bytes fit: spaces cost nothing, and what is no word is one token however long
    vectors.submit("spaces", "solder" + " " * 100_000 + "bridge")
    vectors.submit("no word", "\u0436" * 5_000 + " bridge")
    assert set(vectors.run()) == {"spaces", "no word"}


def test_who_is_answered_is_not_looked_for_in_the_line(
    open_vectors: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = open_vectors()
    removed: list[str] = []
    real = vectors.loop._waiting.remove
    monkeypatch.setattr(vectors.loop._waiting, "remove", lambda name: removed.append(name) or real(name))
    for at, text in enumerate(TEXTS):
        vectors.submit(str(at), text)
    vectors.loop.cancel("6")
    assert len(vectors.run()) == 6
    assert removed == ["6"]
