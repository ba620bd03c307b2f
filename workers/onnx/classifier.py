"""One classifier: its session, its tokenizer, its labels. The only file that talks to ONNX Runtime.

It knows no requests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state
from tokenizers import Tokenizer

from workers.engine.errors import PROMPT_EMPTY, PROMPT_TOO_LONG, EngineError
from workers.onnx.model import OnnxModel
from workers.port.settings import wrong_setting

Logits = npt.NDArray[np.float32]
RUNTIME_ERRORS: Final[tuple[type[Exception], ...]] = tuple(
    value
    for value in vars(onnxruntime_pybind11_state).values()
    if isinstance(value, type) and issubclass(value, Exception)
)
"""ONNX Runtime has an exception for each of its status codes and no base for them."""
_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
_ERRORS_ONLY: Final = 3


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text's token ids and the segment of each, as int64 arrays of equal length."""

    ids: npt.NDArray[np.int64]
    segments: npt.NDArray[np.int64]


class Classifier:
    """A loaded classifier. `labels` are in the order of its outputs."""

    def __init__(self, session: Any, tokenizer: Any, labels: tuple[str, ...], max_length: int) -> None:
        self.labels = labels
        self.max_length = max_length
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self._session = session
        self._tokenizer = tokenizer
        self._inputs = [one.name for one in session.get_inputs()]
        rows, width = session.get_inputs()[0].shape
        self._rows = rows if isinstance(rows, int) else None
        self._width = width if isinstance(width, int) else None
        self._pad = tokenizer.token_to_id("[PAD]") or 0

    @property
    def quantisation(self) -> str:
        """What the model's metadata says under `quantisation`, empty where it says nothing."""
        return str(self._session.get_modelmeta().custom_metadata_map.get("quantisation", ""))

    @property
    def rows(self) -> int | None:
        """How many texts a run must have, None where the model does not say."""
        return self._rows

    def encode(self, text: str) -> Encoded:
        """A text's tokens. Raises EngineError: prompt_empty, prompt_too_long."""
        found = self._tokenizer.encode(text)
        count = len(found.ids)
        if not count:
            raise EngineError(PROMPT_EMPTY, "the text has no tokens", field="prompt", remedy="send some text")
        if count > self.max_length:
            raise EngineError(
                PROMPT_TOO_LONG,
                f"the text has {count} tokens, the model takes {self.max_length}",
                field="prompt",
                remedy="shorten it, or raise max_length in the model catalogue if the model can take more",
            )
        return Encoded(np.asarray(found.ids, np.int64), np.asarray(found.type_ids, np.int64))

    def run(self, texts: Sequence[Encoded]) -> Logits:
        """The logits [texts, labels] of one run, padded to the longest text or to the model's own width.

        Raises one of RUNTIME_ERRORS.
        """
        rows = self._rows or len(texts)
        width = self._width or max(len(text.ids) for text in texts)
        feed = {
            "input_ids": np.full((rows, width), self._pad, np.int64),
            "attention_mask": np.zeros((rows, width), np.int64),
            "token_type_ids": np.zeros((rows, width), np.int64),
        }
        for row, text in enumerate(texts):
            feed["input_ids"][row, : len(text.ids)] = text.ids
            feed["attention_mask"][row, : len(text.ids)] = 1
            feed["token_type_ids"][row, : len(text.ids)] = text.segments
        # rows that only fill a fixed size look like the first: an empty one may divide by its length
        for name in feed:
            feed[name][len(texts) :] = feed[name][0]
        logits = self._session.run(None, {name: feed[name] for name in self._inputs})[0]
        return np.asarray(logits, np.float32)[: len(texts)]


def load_classifier(entry: OnnxModel) -> Classifier:
    """The classifier of an entry, proved by a run. Raises EngineError (model_file_invalid)."""
    session = _session(entry)
    labels = entry.labels or _labels_within(session)
    max_length = _max_length(entry, session)
    classifier = Classifier(session, _tokenizer(entry), labels, max_length)
    some = Encoded(np.zeros(1, np.int64), np.zeros(1, np.int64))
    try:
        logits = classifier.run([some])
    except RUNTIME_ERRORS as error:
        raise wrong_setting("model_path", f"the model does not run: {_cut(error)}") from None
    if logits.shape != (1, len(labels)):
        raise wrong_setting(
            "labels",
            f"the model gives {list(logits.shape[1:])} outputs a text, and there are {len(labels)} labels",
        )
    return classifier


def _session(entry: OnnxModel) -> Any:
    there = onnxruntime.get_available_providers()
    providers, provider_options = entry.providers, entry.provider_options()
    for name in providers:
        if name not in there:
            raise wrong_setting(
                "execution_providers",
                f"this ONNX Runtime has no {name}; it has {', '.join(there)}",
                remedy="name one of these, or install the build of onnxruntime that has it",
            )
    if not Path(entry.model_path).is_file():
        raise wrong_setting("model_path", f"there is no file {entry.model_path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = entry.n_threads or 0
    options.log_severity_level = _ERRORS_ONLY
    # the machine is shared with the queue and the router: idle threads sleep
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            entry.model_path, options, providers=list(providers), provider_options=provider_options
        )
    except RUNTIME_ERRORS as error:
        raise wrong_setting("model_path", f"ONNX Runtime cannot load it: {_cut(error)}") from None
    wanted, started = providers[0], session.get_providers()[0]
    if wanted != started:
        raise wrong_setting(
            "execution_providers",
            f"{wanted} did not start; ONNX Runtime would use {started}",
            remedy="look at its log; are the provider's own libraries and device there?",
        )
    _check_inputs(session)
    return session


def _check_inputs(session: Any) -> None:
    names = [one.name for one in session.get_inputs()]
    if not names or names[0] != "input_ids" or not set(names) <= set(_INPUTS):
        raise wrong_setting(
            "model_path",
            f"the model's inputs are {', '.join(names) or 'none'}; input_ids comes first, and beside it "
            "attention_mask and token_type_ids can be given",
            remedy="export the model for text classification",
        )
    wrong = [one.name for one in session.get_inputs() if one.type != "tensor(int64)" or len(one.shape) != 2]
    if wrong:
        raise wrong_setting("model_path", f"the model's input {wrong[0]} is not int64 [texts, tokens]")


def _max_length(entry: OnnxModel, session: Any) -> int:
    width = session.get_inputs()[0].shape[1]
    return min(entry.max_length, width) if isinstance(width, int) else entry.max_length


def _labels_within(session: Any) -> tuple[str, ...]:
    text = session.get_modelmeta().custom_metadata_map.get("labels", "")
    try:
        labels = json.loads(text)
    except ValueError:
        labels = None
    fits = isinstance(labels, list) and all(isinstance(label, str) and label for label in labels)
    if not fits or len(set(labels)) != len(labels) or len(labels) < 2:
        raise wrong_setting(
            "labels",
            "the catalogue names no labels, and the model's metadata has no JSON list of them under labels",
            remedy="name them in the model's entry, in the order of its outputs",
        )
    return tuple(labels)


def _tokenizer(entry: OnnxModel) -> Any:
    path = Path(entry.tokenizer_path or Path(entry.model_path).with_name("tokenizer.json"))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise wrong_setting("tokenizer_path", f"cannot read {path}: {error}") from None
    read: Callable[[str], Any] = Tokenizer.from_str
    try:
        tokenizer = read(text)
    except Exception as error:  # the library has no exception of its own
        raise wrong_setting("tokenizer_path", f"{path} is no tokenizer: {_cut(error)}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _cut(error: Exception) -> str:
    return str(error).strip()[:300]
