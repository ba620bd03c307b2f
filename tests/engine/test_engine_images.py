"""Images among text jobs: encoded once, answered as alone, failing alone. F32 weights, so texts are equal."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_cpp import llama_cpp as c
from llama_cpp import mtmd_cpp as m

Make = Callable[..., Any]


def text_of(yard: Any, name: str) -> str:
    assert name not in yard.failed, yard.failed[name]
    return str(yard.done[name]["text"])


@pytest.mark.parametrize("unified", [True, False])
def test_an_image_changes_the_answer_and_is_encoded_once(
    make_seeing: Make, vision: Any, unified: bool
) -> None:
    yard = make_seeing(kv_unified=unified)
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        yard.submit(name, **vision.look("What is ", yard.show(vision.picture(seed)), "?"))
    yard.run()
    yard.submit("again", **vision.look("What is ", yard.show(vision.picture(1)), "?"))
    yard.run()
    assert text_of(yard, "one") == text_of(yard, "same") == text_of(yard, "again") != text_of(yard, "other")
    assert len(yard.asked) == 2
    stats = yard.engine.stats()
    assert (stats["image_encodes"], stats["image_cache_hits"], stats["images_held"]) == (2, 2, 0)


@pytest.mark.parametrize("unified", [True, False])
def test_images_and_texts_share_steps_and_answer_as_alone(
    make_seeing: Make, vision: Any, unified: bool
) -> None:
    choices = {"type": "choices", "choices": ["pass", "fail", "of it"]}
    requests = {
        "text": vision.look("Board A17: bridge at U12."),
        "image": vision.look("What is this? ", "@1"),
        "large": vision.look("@2", " and ", "@1", " differ how?"),
        "instructed": vision.look("@1", "What?", system="You inspect boards and answer briefly, in English."),
        "choice": vision.look("@2", "Pass?") | {"output": choices},
    }
    pictures = {"@1": vision.picture(1), "@2": vision.picture(2, 100, 150)}

    def with_pictures(yard: Any, request: dict[str, Any]) -> dict[str, Any]:
        shown = {name: yard.show(picture) for name, picture in pictures.items()}
        messages = [
            message | {"content": [shown.get(part.get("text"), part) for part in message["content"]]}
            if isinstance(message["content"], list)
            else message
            for message in request["messages"]
        ]
        return request | {"messages": messages}

    alone = {}
    for name, request in requests.items():
        yard = make_seeing(kv_unified=unified, n_batch=24)
        yard.submit(name, **with_pictures(yard, request))
        alone[name] = yard.run()[name]
    together = make_seeing(kv_unified=unified, n_batch=24)
    for name, request in requests.items():
        together.submit(name, **with_pictures(together, request))
    together.run()
    assert not together.failed
    for name in requests:
        assert together.done[name]["text"] == alone[name]["text"], name
        assert together.done[name]["usage"]["prompt_tokens"] == alone[name]["usage"]["prompt_tokens"]
    assert max(done["timings"]["mean_batch"] for done in together.done.values()) > 2


def with_mtmd(runtime: Any, text: bytes, picture: bytes, count: int) -> str:
    """What mtmd's own evaluation of a prompt with a marker generates greedily, in a context of its own."""
    projector, model = runtime.projector._pointer, runtime.context._model.pointer
    params = c.llama_context_default_params()
    params.n_ctx, params.n_threads = 512, 1
    context = c.llama_init_from_model(model, params)
    buffer = (ctypes.c_uint8 * len(picture)).from_buffer_copy(picture)
    bitmap = m.mtmd_helper_bitmap_init_from_buf(projector, buffer, len(picture), False)
    chunks = m.mtmd_input_chunks_init()
    prompt = m.mtmd_input_text(text, len(text), True, True)
    assert m.mtmd_tokenize(projector, chunks, prompt, (ctypes.c_void_p * 1)(bitmap), 1) == 0
    past = ctypes.c_int32(0)
    assert m.mtmd_helper_eval_chunks(projector, context, chunks, 0, 0, 256, True, ctypes.byref(past)) == 0
    taken = b""
    for _ in range(count):
        row = np.ctypeslib.as_array(c.llama_get_logits_ith(context, -1), (runtime.vocabulary.size,))
        token = int(row.argmax())
        if token in runtime.vocabulary.end_tokens:
            break
        taken += runtime.vocabulary.pieces[token]
        assert c.llama_decode(context, c.llama_batch_get_one((ctypes.c_int32 * 1)(token), 1)) == 0
    m.mtmd_input_chunks_free(chunks)
    m.mtmd_bitmap_free(bitmap)
    c.llama_free(context)
    return taken.decode("utf-8", "replace")


@pytest.mark.parametrize("size", [(56, 56), (140, 70)])
def test_an_answer_is_that_of_mtmd_s_own_evaluation(
    make_seeing: Make, vision: Any, size: tuple[int, int]
) -> None:
    yard = make_seeing()
    picture = vision.picture(5, *size)
    text = b"<|user|>\nWhat is <__media__>?<|end|>\n<|assistant|>\n"
    expected = with_mtmd(yard.engine._runtime, text, picture, 20)
    yard.submit("ours", **vision.look("What is ", yard.show(picture), "?"), sampling={"max_tokens": 20})
    yard.run()
    assert text_of(yard, "ours") == expected


def test_usage_counts_an_image_s_positions_and_provenance_names_its_encoder(
    make_yard: Make, llava: Path, vision: Any
) -> None:
    yard = make_yard(mmproj_path=str(llava))
    yard.submit("blind", **vision.look("What is ?"))
    yard.submit("seeing", **vision.look("What is ", yard.show(vision.picture(1)), "?"))
    done = yard.run()
    difference = done["seeing"]["usage"]["prompt_tokens"] - done["blind"]["usage"]["prompt_tokens"]
    assert difference == pytest.approx(vision.LLAVA_POSITIONS, abs=1)
    digests = {name: one["provenance"]["mmproj_sha256"] for name, one in done.items()}
    assert digests == {"blind": None, "seeing": hashlib.sha256(llava.read_bytes()).hexdigest()}


def test_a_prompt_s_beginning_is_shared_with_its_image(make_seeing: Make, vision: Any) -> None:
    yard = make_seeing(n_slots=1)
    shown = yard.show(vision.picture(1))
    for number, question in enumerate(("first?", "second?", "third?", "fourth?")):
        yard.submit(str(number), **vision.look("Look at this: ", shown, question))
    other = yard.show(vision.picture(3))
    yard.submit("other", **vision.look("Look at this: ", other, "fourth?"))
    yard.run()
    cached = [yard.done[str(number)]["usage"]["cached_tokens"] for number in range(4)]
    before = len("<|user|>\nLook at this: ")
    assert cached[3] > before + 12 - 9, cached
    assert yard.done["other"]["usage"]["cached_tokens"] < cached[3]
    fresh = make_seeing(n_slots=1, prefix_cache=False)
    fresh.submit("3", **vision.look("Look at this: ", fresh.show(vision.picture(1)), "fourth?"))
    fresh.submit("other", **vision.look("Look at this: ", fresh.show(vision.picture(3)), "fourth?"))
    fresh.run()
    assert text_of(yard, "3") == text_of(fresh, "3") != text_of(fresh, "other") == text_of(yard, "other")


def test_marker_text_of_a_user_is_only_text(make_seeing: Make, vision: Any) -> None:
    yard = make_seeing()
    for name, text in (("marker", "<__media__>"), ("mark", "<image></image>"), ("place", "\ue002\ue000")):
        yard.submit(name, **vision.look(f"What is {text}?"))
        yard.submit(f"{name}+", **vision.look(f"What is {text}", yard.show(vision.picture(1)), "?"))
    yard.run()
    assert not yard.failed and len(yard.asked) == 1
    for name in ("marker", "mark", "place"):
        rows = {each: yard.done[each]["usage"]["prompt_tokens"] for each in (name, f"{name}+")}
        assert rows[f"{name}+"] >= rows[name] + 12


def test_decoding_jobs_go_on_while_images_are_encoded(make_seeing: Make, vision: Any) -> None:
    yard = make_seeing()
    yard.submit("text", **vision.look("Tell me."), sampling={"max_tokens": 40})
    yard.step(3)
    for seed in range(3):
        yard.submit(f"image-{seed}", **vision.look(yard.show(vision.picture(seed, 112, 112)), "?"))
    held = yard.engine.stats()["images_held"]
    generated = []
    while yard.engine.stats()["images_held"]:
        yard.step()
        generated.append(yard.engine.stats()["rows"])
    assert held == 3 and len(generated) >= 6
    assert all(later > earlier for earlier, later in itertools.pairwise(generated))
    yard.run()
    assert len(yard.done) == 4


@pytest.mark.parametrize("n_batch", [4, 7, 16])
def test_chunks_may_end_anywhere(make_seeing: Make, vision: Any, n_batch: int) -> None:
    request = ("Between ", "@", " and ", "@", " lies?")
    texts = []
    for size in (512, n_batch):
        yard = make_seeing(n_batch=size, prefix_cache=False)
        shown = (yard.show(vision.picture(1, 112, 56)), yard.show(vision.picture(2)))
        parts = iter(shown)
        yard.submit("a", **vision.look(*(next(parts) if part == "@" else part for part in request)))
        yard.submit("b", **vision.look("Hello."))
        yard.run()
        texts.append((text_of(yard, "a"), text_of(yard, "b")))
    assert texts[0] == texts[1]


class FullAfterImages:
    """A context that once finds its memory full right after rows of images; notes what is taken out."""

    def __init__(self, context: Any) -> None:
        self.decode, self.decode_embeddings, self.remove = (
            context.decode, context.decode_embeddings, context.remove,
        )  # fmt: skip
        self.armed, self.fired, self.removed = False, False, []
        context.decode, context.decode_embeddings, context.remove = self._tokens, self._images, self._out

    def _images(self, *args: Any, **kwargs: Any) -> int:
        self.armed = not self.fired
        return int(self.decode_embeddings(*args, **kwargs))

    def _tokens(self, rows: int) -> int:
        if self.armed:
            self.armed, self.fired = False, True
            return 1
        return int(self.decode(rows))

    def _out(self, *cells: int) -> bool:
        self.removed.append(cells)
        return bool(self.remove(*cells))


def test_what_was_decoded_ahead_is_taken_out_where_the_rest_does_not_fit(
    make_yard: Make, llava: Path, vision: Any
) -> None:
    texts = []
    for full in (False, True):
        yard = make_yard(mmproj_path=str(llava), kv_unified=True)
        fault = FullAfterImages(yard.engine._runtime.context) if full else None
        yard.submit("a", **vision.look("Is ", yard.show(vision.picture(1)), "?"))
        yard.submit("b", **vision.look("Hello, what is on the board?"))
        yard.run()
        texts.append((text_of(yard, "a"), text_of(yard, "b")))
        if fault is not None:
            assert fault.fired and (1, 0) in fault.removed
            assert yard.engine.stats()["recovered"] == 0
    assert texts[0] == texts[1]


@pytest.mark.parametrize("cache", [0, 10**9])
def test_a_job_that_gave_way_comes_back_with_its_images(make_seeing: Make, vision: Any, cache: int) -> None:
    settings = {"n_slots": 2, "image_cache_bytes": cache, "kv_unified": True, "prefix_cache": False}
    alone = make_seeing(**settings)
    asked = vision.look(alone.show(vision.picture(3)), "Tell me.") | {"sampling": {"max_tokens": 30}}
    alone.submit("batch", **asked)
    alone.run()
    yard = make_seeing(**settings)
    yard.show(vision.picture(3))
    yard.submit("batch", **asked)
    yard.step(12)
    for number in range(2):
        yard.submit(f"urgent-{number}", **vision.look("Now!"), priority=0)
    yard.run()
    assert yard.engine.stats()["retreats"] >= 1
    assert text_of(yard, "batch") == text_of(alone, "batch")
    assert len(yard.asked) == 1


def test_no_image_outlives_its_cache_s_bound(make_yard: Make, llava: Path, vision: Any) -> None:
    one = vision.LLAVA_POSITIONS * (256 * 4 + 4)
    yard = make_yard(mmproj_path=str(llava), image_cache_bytes=2 * one)
    for seed in (1, 2, 3, 1):
        yard.submit(str(len(yard.done)), **vision.look(yard.show(vision.picture(seed)), "?"))
        yard.run()
    stats = yard.engine.stats()
    assert (stats["image_encodes"], stats["image_cache_bytes"]) == (4, 2 * one)


def test_after_a_failed_decode_images_are_computed_again(make_yard: Make, llava: Path, vision: Any) -> None:
    alone = make_yard(mmproj_path=str(llava))
    alone.submit("image", **vision.look(alone.show(vision.picture(3)), "?"))
    alone.run()
    yard = make_yard(mmproj_path=str(llava), prefix_cache=False)
    for name in ("image", "twin"):
        yard.submit(name, **vision.look(yard.show(vision.picture(3)), "?"))
    yard.submit("text", **vision.look("Hello."))
    context = yard.engine._runtime.context
    decode, codes = context.decode_embeddings, iter([-3])

    def failing(*args: Any, **kwargs: Any) -> int:
        return next(codes, None) or decode(*args, **kwargs)

    context.decode_embeddings = failing
    yard.run()
    assert yard.engine.stats()["recovered"] == 1
    assert text_of(yard, "image") == text_of(yard, "twin") == text_of(alone, "image")
    assert "text" in yard.done


def test_a_prior_is_learned_with_the_pictures_of_the_examples(
    make_yard: Make, llava: Path, vision: Any
) -> None:
    yard = make_yard(mmproj_path=str(llava))
    example, board = yard.show(vision.picture(1)), yard.show(vision.picture(2))
    output = {"type": "choices", "choices": ["pass", "fail"], "prior": "content_free"}
    messages = [
        {"role": "user", "content": [example, {"type": "text", "text": "Pass?"}]},
        {"role": "assistant", "content": "pass"},
        {"role": "user", "content": [board, {"type": "text", "text": "Pass?"}]},
    ]
    yard.submit("a", messages=messages, output=output)
    yard.run()
    assert sum(yard.done["a"]["choice_probabilities"].values()) == pytest.approx(1.0)
    assert yard.engine.stats()["image_encodes"] == 2


def test_a_decode_of_images_is_over_when_it_returns(
    make_seeing: Make, vision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # on a GPU llama_decode returns while the work goes on, and a step's time is learned from
    calls: list[str] = []
    for name in ("llama_decode", "llama_synchronize"):
        real = getattr(c, name)
        monkeypatch.setattr(c, name, lambda *given, of=name, call=real: calls.append(of) or call(*given))
    yard = make_seeing()
    calls.clear()
    yard.submit("image", **vision.look(yard.show(vision.picture(1)), "?"), sampling={"max_tokens": 4})
    yard.run()
    decodes = [at for at, name in enumerate(calls) if name == "llama_decode"]
    assert len(decodes) >= 5
    assert all(calls[at + 1] == "llama_synchronize" for at in decodes)
