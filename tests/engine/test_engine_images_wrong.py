"""Images that cannot be read, do not fit or never come: each fails its own job, with its reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., Any]


def test_a_broken_image_fails_its_job_alone(make_seeing: Make, vision: Any) -> None:
    yard = make_seeing()
    yard.submit("broken", **vision.look("This: ", yard.show(vision.png_file(56, 56, b"not zlib"))))
    yard.submit("strip", **vision.look(yard.show(vision.picture(1, 1, 300))))
    yard.submit("dot", **vision.look(yard.show(vision.picture(1, 1, 1)), "?"))
    yard.submit("text", **vision.look("Hello."))
    yard.run()
    assert set(yard.done) == {"dot", "text"}
    assert yard.failed["broken"]["code"] == "image_corrupt"
    assert yard.failed["broken"]["field"] == "messages"
    assert yard.failed["strip"]["code"] == "image_too_large"


def test_more_positions_than_a_slot_has_are_named(make_yard: Make, llava: Path, vision: Any) -> None:
    yard = make_yard(mmproj_path=str(llava), n_ctx=64)
    shown = [yard.show(vision.picture(seed)) for seed in range(4)]
    yard.submit("many", **vision.look(*shown, "?"))
    yard.submit("alone", **vision.look(shown[0], "?"))
    yard.run()
    assert yard.failed["many"]["code"] == "prompt_too_long"
    assert "(64 of images)" in yard.failed["many"]["message"]
    assert "alone" in yard.done


def test_an_image_larger_than_a_slot_is_not_even_encoded(make_yard: Make, llava: Path, vision: Any) -> None:
    yard = make_yard(mmproj_path=str(llava), n_ctx=16)
    yard.submit("large", **vision.look(yard.show(vision.picture(1)), "?"))
    yard.run()
    assert yard.failed["large"]["code"] == "prompt_too_long"
    assert yard.engine.stats()["image_encodes"] == 0


def test_an_image_that_must_not_be_cut_has_to_fit_one_micro_batch(
    make_yard: Make, gemma3: Path, vision: Any
) -> None:
    yard = make_yard(mmproj_path=str(gemma3), n_ubatch=8)
    yard.submit("a", **vision.look(yard.show(vision.picture(1)), "?"))
    yard.run()
    assert yard.failed["a"]["code"] == "image_too_large"
    assert "n_ubatch" in yard.failed["a"]["remedy"]


def test_a_template_must_write_images_once_and_text_behind_them(
    make_yard: Make, llava: Path, vision: Any
) -> None:
    for template, why in (
        ("{% for m in messages %}{{ m['role'] }}{% endfor %}", "made 0 of"),
        ("{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{% endfor %}", "made 2 of"),
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "nothing behind"),
    ):
        yard = make_yard(mmproj_path=str(llava), chat_format=template)
        yard.submit("a", **vision.look("x", yard.show(vision.picture(1))))
        yard.run()
        assert yard.failed["a"]["code"] == "template_failed" and why in yard.failed["a"]["message"]


def test_who_waits_for_an_image_can_be_cancelled_expire_and_not_come_twice(
    make_yard: Make, llava: Path, vision: Any
) -> None:
    now = [100.0]
    yard = make_yard(mmproj_path=str(llava), wall=lambda: now[0])
    part = {"type": "image", "sha256": "a" * 64}
    yard.submit("cancelled", **vision.look(part))
    yard.submit("late", **vision.look(part), deadline=200.0)
    yard.submit("late", **vision.look(part))
    assert yard.engine.idle and yard.asked == ["a" * 64]
    yard.cancel("cancelled")
    now[0] = 201.0
    yard.step()
    assert yard.failed["cancelled"]["code"] == "cancelled"
    assert yard.failed["late"]["code"] == "deadline_exceeded"
    assert yard.engine.stats()["images_held"] == 0 and not yard.done


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"output": {"type": "json_schema", "schema": {"type": "nothing"}}}, "schema_invalid"),
        ({"output": {"type": "grammar", "grammar": "root ::= ("}}, "grammar_invalid"),
        ({"output": {"type": "choices", "choices": ["x" * 300, "y"]}}, "prompt_too_long"),
        ({"output": {"type": "embedding"}}, "output_not_supported"),
        ({"text": "long " * 100}, "prompt_too_long"),
    ],
)
def test_what_is_wrong_beside_the_image_is_said_before_it_is_asked_for(
    make_yard: Make, llava: Path, vision: Any, changes: dict[str, Any], code: str
) -> None:
    yard = make_yard(mmproj_path=str(llava))
    text = changes.get("text", "?")
    output = {"output": changes["output"]} if "output" in changes else {}
    yard.submit("wrong", **vision.look(yard.show(vision.picture(1)), text), **output)
    assert yard.failed["wrong"]["code"] == code
    assert not yard.asked and yard.engine.stats()["images_held"] == 0


def test_a_template_without_a_place_for_images_is_said_before_one_is_asked_for(
    make_yard: Make, llava: Path, vision: Any
) -> None:
    yard = make_yard(mmproj_path=str(llava), chat_format="{% for m in messages %}{{ m['role'] }}{% endfor %}")
    yard.submit("a", **vision.look("x", yard.show(vision.picture(1))))
    assert yard.failed["a"]["code"] == "template_failed" and not yard.asked


def test_an_idle_engine_wakes_for_the_deadline_of_who_waits_for_an_image(
    make_yard: Make, llava: Path, vision: Any
) -> None:
    now = [100.0]
    yard = make_yard(mmproj_path=str(llava), wall=lambda: now[0])
    assert yard.engine.rest() is None
    yard.submit("never", **vision.look({"type": "image", "sha256": "a" * 64}))
    assert yard.engine.rest() is None
    yard.submit("late", **vision.look({"type": "image", "sha256": "b" * 64}), deadline=130.0)
    assert yard.engine.idle and yard.engine.rest() == 30.0
    now[0] = 130.0
    assert yard.engine.rest() == 0.0
    yard.step()
    assert yard.failed["late"]["code"] == "deadline_exceeded"
    assert yard.engine.rest() is None
    yard.submit("text", **vision.look("Hello."))
    assert yard.engine.rest() == 0.0
