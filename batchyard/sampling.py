"""Sampling options of a job, under llama.cpp's and OpenAI's names."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_STOPS = 64


def _number(value: object) -> object:
    """Refuse what pydantic would read as a number although JSON has another type for it."""
    if isinstance(value, bool | str):
        raise ValueError("must be a number")
    return value


Whole = Annotated[int, BeforeValidator(_number)]
Finite = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


class Sampling(BaseModel):
    """How tokens are chosen. A field left out (None) takes the task's default, then the one named here.

    max_tokens 256 · temperature 0 (greedy) · top_k 40 · top_p 0.95 · min_p 0.05 · repeat_penalty 1 ·
    presence_penalty 0 · frequency_penalty 0 · seed None (drawn, and reported in the result) · stop () ·
    logprobs None (or how many alternatives to report for each token)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[Finite, Field(ge=0, le=10)] | None = None
    top_k: Annotated[Whole, Field(ge=0, le=2**31 - 1)] | None = None
    top_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    min_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[Finite, Field(ge=0.001, le=10)] | None = None
    presence_penalty: Annotated[Finite, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[Finite, Field(ge=-2, le=2)] | None = None
    seed: Annotated[Whole, Field(ge=0, le=2**32 - 1)] | None = None
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=MAX_STOPS)] | None = (
        None
    )
    logprobs: Annotated[Whole, Field(ge=0, le=20)] | None = None

    def over(self, default: "Sampling") -> "Sampling":
        """These options, with `default` where this leaves one out."""
        return Sampling(**(default.model_dump(exclude_none=True) | self.model_dump(exclude_none=True)))
