"""A small real int8 classifier, built on the spot: word embeddings, masked mean, one layer, quantised by ONNX
Runtime. Its weights are set by hand: each word speaks for one label.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from tokenizers import Tokenizer, models, pre_tokenizers

LABELS = ("soldering", "placement", "none")
WORDS = {
    "bridge": 0, "void": 0, "solder": 0, "shifted": 1, "missing": 1, "rotated": 1, "clean": 2, "passed": 2,
    "board": None, "at": None,
}  # fmt: skip
WIDTH = 4


def write_classifier(
    folder: Path, *, metadata: bool = True, rows: int | str = "texts", width: int | str = "tokens"
) -> Path:
    """Write model.onnx and tokenizer.json into `folder`; returns the model's path.

    `rows` and `width` are numbers for a model of fixed sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    floats, path = folder / "float.onnx", folder / "model.onnx"
    onnx.save(_model(metadata, rows, width), floats)
    shape = (rows if isinstance(rows, int) else 2, width if isinstance(width, int) else 6)
    quantize_static(
        floats, path, _Reader(shape), quant_format=QuantFormat.QDQ, weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gather"],
    )  # fmt: skip
    floats.unlink()
    _tokenizer().save(str(folder / "tokenizer.json"))
    return path


def write_hanging(folder: Path, word: str) -> Path:
    """A model of floats that does not come to an end with a text that holds `word`."""
    folder.mkdir(parents=True, exist_ok=True)
    model = _model(True, "texts", "tokens")
    graph = model.graph
    graph.node[-1].output[0] = "plain"
    weights = {"word": np.array([list(WORDS).index(word) + 2]), "many": np.array(10**15),
               "zero": np.array(0, np.float32)}  # fmt: skip
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    graph.node.extend(
        [
            helper.make_node("Equal", ["input_ids", "word"], ["same"]),
            helper.make_node("Cast", ["same"], ["ones"], to=TensorProto.INT64),
            helper.make_node("ReduceSum", ["ones"], ["found"], keepdims=0),
            helper.make_node("Mul", ["found", "many"], ["rounds"]),
            helper.make_node("Loop", ["rounds", "", "zero"], ["drift"], body=_idle_round()),
            helper.make_node("Add", ["plain", "drift"], ["logits"]),
        ]
    )
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    _tokenizer().save(str(folder / "tokenizer.json"))
    return folder / "model.onnx"


def _idle_round() -> Any:
    """The body of a Loop: a value stays what it is."""
    value = helper.make_tensor_value_info
    return helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_still"]),
            helper.make_node("Add", ["before", "before"], ["after"]),
        ],
        "round",
        [
            value("round", TensorProto.INT64, []),
            value("go_on", TensorProto.BOOL, []),
            value("before", TensorProto.FLOAT, []),
        ],
        [value("go_on_still", TensorProto.BOOL, []), value("after", TensorProto.FLOAT, [])],
    )


def is_int8(path: Path) -> bool:
    """Whether the model's weights are stored in eight bits."""
    kinds = {one.data_type for one in onnx.load(path).graph.initializer if len(one.dims) == 2}
    return kinds == {TensorProto.INT8} or kinds == {TensorProto.INT8, TensorProto.UINT8}


def _tokenizer() -> Any:
    vocabulary = {"[PAD]": 0, "[UNK]": 1} | {word: at + 2 for at, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def _model(metadata: bool, rows: int | str, width: int | str) -> Any:
    embeddings = np.zeros((len(WORDS) + 2, WIDTH), np.float32)
    for at, label in enumerate(WORDS.values()):
        if label is not None:
            embeddings[at + 2, label] = 1.0
    layer = np.eye(WIDTH, len(LABELS), dtype=np.float32) * 4
    weights = {"words": embeddings, "layer": layer, "axis": np.array([1]), "last": np.array([2])}
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["vectors", "mask3"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "axis"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "layer"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [rows, width])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [rows, len(LABELS)])]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "classifier", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata:
        helper.set_model_props(model, {"labels": json.dumps(LABELS), "quantisation": "int8"})
    onnx.checker.check_model(model)
    return model


class _Reader(CalibrationDataReader):
    def __init__(self, shape: tuple[int, int]) -> None:
        self._feeds: Iterator[dict[str, Any]] = iter(
            {"input_ids": np.full(shape, word, np.int64), "attention_mask": np.ones(shape, np.int64)}
            for word in range(len(WORDS) + 2)
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)
