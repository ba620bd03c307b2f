"""Which workers the yard of one machine gets for a catalogue."""

from pathlib import Path

from batchyard.settings import Settings
from local.yard import machine_plan


def test_an_endpoint_needs_no_file_and_a_classifier_its_own(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "kind.onnx").write_bytes(b"x")
    catalogue = tmp_path / "configs" / "models.yaml"
    catalogue.write_text(
        "model_list:\n"
        "  - {model_name: far, engine: openai, api_base: 'http://h/v1', model: x, api_key: os.environ/KEY}\n"
        "  - {model_name: kind, engine: onnx, model_path: models/kind.onnx}\n"
        "  - {model_name: gone, engine: onnx, model_path: models/gone.onnx}\n"
        "task_list: [{task: t}]\n",
        encoding="utf-8",
    )
    plan = machine_plan(Settings(redis_url="redis://h", models=catalogue, routing=catalogue))
    assert [(worker.model, worker.gpu) for worker in plan.workers] == [("far", None), ("kind", None)]
    assert "gone.onnx" in plan.skipped["gone"]
