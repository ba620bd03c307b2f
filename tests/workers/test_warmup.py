"""The warm-up of a real engine: its jobs are not judged, and what it says meanwhile is kept for the pool."""

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchyard.catalogue import Catalogue, LlamaEntry, load_catalogue
from batchyard.settings import load_settings
from workers.engine_process import EngineProcess, Frame
from workers.start import prepare, start_engine
from workers.warmup import warm_up

ROOT = Path(__file__).resolve().parents[2]
SLOTS = 4


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(ROOT / "configs/models.yaml")


@pytest.fixture
def entry(catalogue: Catalogue) -> LlamaEntry:
    """A model that is always late, so that its engine has something to say."""
    entry = catalogue.model("defect_detect")
    assert isinstance(entry, LlamaEntry)
    return entry.model_copy(update={"n_slots": SLOTS, "target_p99_ms": 0.001})


@pytest.fixture
def engine(entry: LlamaEntry, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineProcess]:
    monkeypatch.chdir(ROOT)
    settings = load_settings()
    engine = start_engine(settings, prepare(settings, entry, [], None, 1))
    yield engine
    engine.end()


def said(engine: EngineProcess) -> list[Frame]:
    """Everything up to the answer to `stats`."""
    frames: list[Frame] = []
    engine.send({"op": "stats"})
    while not any(frame["op"] == "stats" for frame in frames):
        ready, _, _ = select.select([engine], [], [], 60)
        assert ready
        frames += engine.read() or []
    return frames


def test_cold_jobs_do_not_lower_the_limit_and_what_is_said_meanwhile_is_kept(
    engine: EngineProcess, entry: LlamaEntry, catalogue: Catalogue
) -> None:
    warm_up(engine, entry, catalogue, SLOTS)
    assert "capacity" not in [frame["op"] for frame in said(engine)]
    warm_up(engine, entry, catalogue, SLOTS)
    assert [frame["slots"] for frame in said(engine) if frame["op"] == "capacity"] == [2]
