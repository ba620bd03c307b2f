"""The shipped models are what their cards say, and llama.cpp tokenises as training did."""

import hashlib
import json
from itertools import islice
from pathlib import Path

import jinja2
import pytest

from training.llama import Runner
from training.template import CHAT_TEMPLATE, END, SYSTEM_DEFECT, pieces

ROOT = Path(__file__).parents[2]
NAMES = ("defect_detect", "chat")
LIMIT = 8_000_000


def card(name):
    return json.loads((ROOT / "models" / f"{name}.json").read_text(encoding="utf-8"))


def field(reader, key):
    return reader.fields[key].contents()


def sample():
    lines = (ROOT / "tests" / "training" / "tokens.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_the_one_its_card_describes(name):
    data = (ROOT / "models" / card(name)["file"]).read_bytes()
    assert len(data) == card(name)["bytes"] <= LIMIT
    assert hashlib.sha256(data).hexdigest() == card(name)["sha256"]


@pytest.mark.parametrize("name", NAMES)
def test_the_metadata_is_what_the_card_says(name):
    gguf = pytest.importorskip("gguf")
    said = card(name)
    reader = gguf.GGUFReader(str(ROOT / "models" / said["file"]))
    assert field(reader, "general.architecture") == said["architecture"] == "llama"
    assert field(reader, "llama.block_count") == said["shape"]["layers"]
    assert field(reader, "llama.embedding_length") == said["shape"]["width"]
    assert said["shape"]["width"] % 256 == said["shape"]["feed_forward"] % 256 == 0
    tokens = field(reader, "tokenizer.ggml.tokens")
    assert len(tokens) == said["tokenizer"]["tokens"] == said["shape"]["vocab"]
    assert field(reader, "tokenizer.ggml.pre") == said["tokenizer"]["pre"]
    assert field(reader, "tokenizer.chat_template") == said["chat_template"] == CHAT_TEMPLATE
    end = tokens.index(END)
    assert field(reader, "tokenizer.ggml.eos_token_id") == field(reader, "tokenizer.ggml.eot_token_id") == end
    types = {tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) == 2}
    assert types <= {"Q4_K", "Q6_K"}


@pytest.mark.parametrize("name", NAMES)
def test_llama_cpp_tokenises_as_training_did(name):
    with Runner(ROOT / "models" / card(name)["file"], vocab_only=True) as runner:
        rows = sample()
        assert len(rows) > 400
        for row in rows:
            assert list(runner.tokenise(row["text"], markers="messages" in row)) == row["ids"], row["text"]


@pytest.mark.parametrize("name", NAMES)
def test_spelled_out_markers_stay_text(name):
    with Runner(ROOT / "models" / card(name)["file"], vocab_only=True) as runner:
        end = runner.tokenise(END, markers=True)
        assert len(end) == 1
        assert end[0] not in runner.tokenise(f"a {END} b")


def test_the_training_tokeniser_equals_llama_cpp_on_fresh_texts():
    from training.examples import examples
    from training.sample import hard_texts
    from training.tokens import Tokeniser

    tokeniser = Tokeniser.load(ROOT / "training" / "data" / "tokeniser.json")
    texts = [example.user for model in NAMES for example in islice(examples(model, "test", 5), 500)]
    with Runner(ROOT / "models" / "chat.Q4_K_M.gguf", vocab_only=True) as runner:
        for text in [*texts, *islice(hard_texts(5), 3000)]:
            assert tokeniser.encode(text) == runner.tokenise(text), text


def test_the_template_renders_what_the_models_were_trained_on():
    template = jinja2.Template(CHAT_TEMPLATE)
    for row in sample():
        if "messages" in row:
            assert template.render(messages=row["messages"], add_generation_prompt=True) == row["text"]
    bare = template.render(messages=[{"role": "user", "content": "x"}], add_generation_prompt=True)
    assert bare == "".join(text for text, _ in pieces(None, "x"))


def test_a_greedy_verdict_ends_by_itself_and_is_json():
    name = "defect_detect"
    with Runner(ROOT / "models" / card(name)["file"]) as runner:
        end = runner.tokenise(END, markers=True)[0]
        prompt = "".join(text for text, _ in pieces(SYSTEM_DEFECT, "solder bridge at U12 pin 3"))
        ids, ended = runner.greedy(runner.tokenise(prompt, markers=True), end)
        assert ended and len(ids) < 60


@pytest.mark.parametrize("name", NAMES)
def test_the_card_has_held_out_figures_for_both_forms(name):
    accuracy = card(name)["held_out_accuracy"]
    assert set(accuracy) == {"F16", "Q4_K_M"}
    for figures in accuracy.values():
        assert figures[f"{name}.ended"] > 0.99
        assert 0 <= figures[f"{name}.whole"] <= 1


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(OSError, match="could not load"):
        Runner(tmp_path / "none.gguf")
