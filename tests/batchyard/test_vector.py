"""A result's vector: floats in Python, base64 in JSON, the same numbers again."""

import base64
import json
import struct

import pytest
from pydantic import ValidationError

from batchyard.result import Result
from batchyard.states import State

VECTOR = [0.5, -0.25, 0.0, 1e-3]


def test_json_carries_base64_of_little_endian_float32_and_gives_the_numbers_back() -> None:
    result = Result(job_id="j", state=State.SUCCESS, embedding=VECTOR)
    text = json.loads(result.model_dump_json())["embedding"]
    assert base64.b64decode(text) == struct.pack("<4f", *VECTOR)
    again = Result.model_validate_json(result.model_dump_json()).embedding
    assert again == pytest.approx(VECTOR, rel=1e-7)
    assert Result.model_validate(result.model_dump(mode="json")).embedding == again
    assert result.model_dump()["embedding"] == VECTOR


def test_without_one_there_is_none() -> None:
    assert json.loads(Result(job_id="j", state=State.SUCCESS).model_dump_json())["embedding"] is None


@pytest.mark.parametrize("text", ["not base64!", base64.b64encode(b"12345").decode()])
def test_what_is_no_vector_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match=r"base64|float32"):
        Result.model_validate({"job_id": "j", "state": "SUCCESS", "embedding": text})
