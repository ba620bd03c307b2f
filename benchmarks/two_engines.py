"""A yard with two models: the starter, and one whose engine costs nothing, to see the queue alone."""

from pathlib import Path
from typing import Any

import yaml

from benchmarks.child import ROOT

STARTER, NO_COST = "defect_detect", "no_cost"
TASKS = {STARTER: "defect_detect", NO_COST: "other"}
"""The task whose jobs each model gets."""


def write_configs(folder: Path, slots: int) -> Path:
    """The catalogue and the policy in a new folder `configs`, which is returned."""
    document = yaml.safe_load((ROOT / "configs/models.yaml").read_text(encoding="utf-8"))
    (starter,) = (entry for entry in document["model_list"] if entry["model_name"] == STARTER)
    starter |= {"model_path": str(ROOT / starter["model_path"]), "tasks": [TASKS[STARTER]], "n_slots": slots}
    starter["choices_temperature"] = {}
    no_cost = {
        "model_name": NO_COST, "engine": "openai", "api_base": "http://127.0.0.1:1/v1", "model": "none",
        "tasks": [TASKS[NO_COST]], "n_slots": slots,
    }  # fmt: skip
    tasks = [task for task in document["task_list"] if task["task"] in TASKS.values()]
    policy: dict[str, Any] = {
        "version": "1", "rules": [], "classifier": None,
        "tasks": {task: [model] for model, task in TASKS.items()},
        "default": {"task": TASKS[NO_COST], "model": NO_COST},
    }  # fmt: skip
    configs = folder / "configs"
    configs.mkdir()
    catalogue = {"model_list": [starter, no_cost], "task_list": tasks}
    for name, content in {"models.yaml": catalogue, "routing.yaml": policy}.items():
        (configs / name).write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return configs
