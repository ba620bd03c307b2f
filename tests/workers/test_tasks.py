"""How many jobs a worker fetches beyond its slots."""

from batchyard.catalogue import ModelEntry, parse_catalogue
from workers.tasks import interactive_extra


def entry(engine: dict[str, object], n_slots: int) -> ModelEntry:
    model = {"model_name": "m", "n_slots": n_slots} | engine
    return parse_catalogue({"model_list": [model], "task_list": [{"task": "t"}]}, "test").model("m")


def test_only_an_engine_that_can_let_them_go_first_is_given_interactive_jobs_beyond_its_slots() -> None:
    assert [interactive_extra(entry({"model_path": "m.gguf"}, slots)) for slots in (1, 16)] == [1, 4]
    far: dict[str, object] = {"engine": "openai", "api_base": "http://h/v1", "model": "x"}
    assert interactive_extra(entry(far, 16)) == 0
    assert interactive_extra(entry({"engine": "onnx", "model_path": "m.onnx"}, 16)) == 0
