"""The chat format that both models are trained on; the same text as Jinja goes into the GGUF."""

from dataclasses import dataclass

SPECIALS = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|pad|>")
END = "<|end|>"
PAD = "<|pad|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

SYSTEM_DEFECT = "Read the board inspection report. Answer with the verdict as JSON."
SYSTEM_TEXT_CLS = "Name the category of the report."
SYSTEM_CHAT = "You answer briefly for the Batchyard yard."


@dataclass(frozen=True, slots=True)
class Example:
    """One exchange to learn; `system` is None for the share trained without an instruction."""

    system: str | None
    user: str
    answer: str


def pieces(system: str | None, user: str) -> list[tuple[str, bool]]:
    """Return the prompt as (text, is_marker) pieces: only markers may become special tokens."""
    parts: list[tuple[str, bool]] = []
    if system is not None:
        parts += [("<|system|>", True), (system, False), (END, True)]
    return [*parts, ("<|user|>", True), (user, False), (END, True), ("<|assistant|>", True)]
