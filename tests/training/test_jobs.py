"""The shipped demonstration jobs and routing rows are well-formed and what their generator makes."""

import collections
import json
from itertools import islice
from pathlib import Path

import pytest

from training.generate import jobs, routing
from training.generate.verdict import CATEGORIES

ROOT = Path(__file__).parents[2]


def read(path):
    return [json.loads(line) for line in (ROOT / path).read_text(encoding="utf-8").splitlines()]


def test_shipped_jobs_are_what_the_generator_makes():
    shipped = read("examples/jobs.jsonl")
    made = [job.as_row() for job in islice(jobs.jobs(7), len(shipped))]
    assert shipped == json.loads(json.dumps(made, ensure_ascii=False))


def test_shipped_jobs_are_well_formed():
    shipped = read("examples/jobs.jsonl")
    assert len(shipped) >= 240
    assert len({row["id"] for row in shipped}) == len({row["prompt"] for row in shipped}) == len(shipped)
    for row in shipped:
        expected_task = row["metadata"]["expected_task"]
        assert row["prompt"].strip() and expected_task in routing.TASKS
        assert row["task"] in ("auto", expected_task) and row["task"] != "oos"
        choices = list(CATEGORIES) if expected_task == "text_cls" else None
        assert row.get("output") == (choices and {"type": "choices", "choices": choices})
        labelled = expected_task in ("defect_detect", "text_cls")
        assert (row["metadata"]["expected"] is not None) == labelled


def test_shipped_jobs_mix_all_tasks_languages_and_some_named_ones():
    shipped = read("examples/jobs.jsonl")
    tasks = collections.Counter(row["metadata"]["expected_task"] for row in shipped)
    assert set(tasks) == set(routing.TASKS) and min(tasks.values()) >= 10
    named = sum(row["task"] != "auto" for row in shipped)
    assert 0.05 < named / len(shipped) < 0.2
    chinese = sum(any("\u4e00" <= char <= "\u9fff" for char in row["prompt"]) for row in shipped)
    assert 0.3 < chinese / len(shipped) < 0.7


@pytest.mark.parametrize(("name", "split", "seed"), [("train", "train", 1), ("test", "test", 2)])
def test_shipped_routing_rows_are_what_the_generator_makes(name, split, seed):
    shipped = read(f"training/data/routing_{name}.jsonl")
    assert shipped == [row.as_row() for row in islice(routing.rows(split, seed), len(shipped))]
