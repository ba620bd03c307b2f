"""Operators see each job in Flower, under its own id, with name, state and run time."""

import base64
import json
import time
import urllib.request
from typing import Any

import pytest

from batchyard.client import Client
from tests.yard.conftest import RunningYard

pytestmark = pytest.mark.yard


def api(yard: RunningYard, path: str) -> Any:
    request = urllib.request.Request(f"{yard.flower}/api/{path}")
    request.add_header("Authorization", "Basic " + base64.b64encode(yard.login.encode()).decode())
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def test_flower_lists_workers_and_tasks(yard: RunningYard, client: Client) -> None:
    job_id = client.submit(prompt="Board A17: solder bridge at U12.", task="defect_detect")
    client.result(job_id, timeout=60).value()
    limit = time.monotonic() + 60
    task: dict[str, Any] = {}
    while task.get("state") != "SUCCESS":  # events travel apart from results
        assert time.monotonic() < limit, task
        task = api(yard, "tasks").get(job_id, {})
    assert task["name"] == "batchyard.run"
    assert task["runtime"] > 0
    assert task["worker"].startswith("defect_detect@")
    workers = api(yard, "workers?refresh=1")
    names = {name.split("@")[0] for name in workers}
    assert {"defect_detect", "chat"} <= names
    engine = next(info for name, info in workers.items() if name.startswith("defect_detect@"))
    assert engine["stats"]["pool"]["engine"]["model_name"] == "defect_detect"
