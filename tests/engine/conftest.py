"""Real tiny models for the engine's tests, written once per session."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from workers.engine.engine import Engine
from workers.engine.loader import Runtime, load
from workers.engine.model import EngineModel
from workers.engine.notebook import Notebook


def _helper(name: str) -> ModuleType:
    """Import a helper module beside this file; the tests are no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module that writes tiny models."""
    return _helper("tiny_model")


@pytest.fixture(scope="session")
def tiny_encoder() -> ModuleType:
    """The module that writes tiny embedding models."""
    return _helper("tiny_encoder")


@pytest.fixture(scope="session")
def encoder_model(tiny_encoder: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer BERT of random F32 weights that pools by the mean."""
    path: Path = tiny_encoder.write_tiny_encoder(tmp_path_factory.mktemp("models") / "encoder.gguf")
    return path


@pytest.fixture(scope="session")
def f16_model(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of random F16 weights with a byte-level vocabulary and a chat template."""
    path: Path = tiny.write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-f16.gguf")
    return path


@pytest.fixture(scope="session")
def q4_model(tiny: ModuleType, f16_model: Path) -> Path:
    """The same, quantised to Q4_K_M by llama.cpp."""
    path: Path = tiny.quantise(f16_model, f16_model.with_name("tiny-q4.gguf"))
    return path


@pytest.fixture(scope="session")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Notebook:
    """A notebook of this session only."""
    return Notebook(tmp_path_factory.mktemp("notebook") / "engine.json")


@pytest.fixture(scope="session")
def f32_model(tiny: ModuleType, f16_model: Path) -> Path:
    """The same in F32: here the number of rows in a step changes a logit by a millionth, not a text."""
    path: Path = tiny.write_tiny_model(f16_model.with_name("tiny-f32.gguf"), half=False)
    return path


@pytest.fixture(scope="session")
def vision() -> ModuleType:
    """The module that writes tiny image encoders and pictures."""
    return _helper("tiny_vision")


@pytest.fixture(scope="session")
def seeing_model(tiny: ModuleType, vision: ModuleType, f32_model: Path) -> Path:
    """The F32 model with the control tokens that a MiniCPM-V-style projector puts around slices."""
    path: Path = tiny.write_tiny_model(
        f32_model.with_name("tiny-seeing.gguf"), half=False, markers=vision.SLICE_MARKERS
    )
    return path


@pytest.fixture(scope="session")
def llava(vision: ModuleType, f32_model: Path) -> Path:
    """A LLaVA-style image encoder: every image has 16 positions."""
    path: Path = vision.write_llava(f32_model.with_name("mmproj-llava.gguf"))
    return path


@pytest.fixture(scope="session")
def minicpmv(vision: ModuleType, f32_model: Path) -> Path:
    """A MiniCPM-V-style image encoder: 12 positions for the whole and for each slice of a larger image."""
    path: Path = vision.write_minicpmv(f32_model.with_name("mmproj-minicpmv.gguf"))
    return path


@pytest.fixture(scope="session")
def gemma3(vision: ModuleType, f32_model: Path) -> Path:
    """A Gemma-3-style image encoder: 16 positions that must be decoded in one go."""
    path: Path = vision.write_gemma3(f32_model.with_name("mmproj-gemma3.gguf"))
    return path


Loader = Callable[..., Runtime]


@pytest.fixture
def load_tiny(f32_model: Path, notebook: Notebook) -> Iterator[Loader]:
    """Load the tiny model with settings of one's own; freed at the end."""
    loaded: list[Runtime] = []

    def load_one(**settings: Any) -> Runtime:
        given = {
            "model_name": "tiny",
            "model_path": str(f32_model),
            "n_ctx": 256,
            "n_slots": 4,
            "n_threads": 1,
            # flash attention sums in F16 below 64 rows and in F32 beyond, and a logit shows it
            "flash_attn": False,
        }
        runtime = load(EngineModel(**(given | settings)), notebook=notebook)
        loaded.append(runtime)
        return runtime

    yield load_one
    for runtime in loaded:
        runtime.close()


class Yard:
    """An engine driven by hand: submit, step until idle, look at what came out."""

    def __init__(self, runtime: Runtime, **settings: Any) -> None:
        self.engine = Engine(runtime, **settings)
        self.done: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, dict[str, Any]] = {}
        self.started: list[str] = []
        self.others: list[dict[str, Any]] = []
        self.pictures: dict[str, bytes] = {}
        self.asked: list[str] = []

    def submit(self, name: str, **request: Any) -> None:
        """Submit a request, greedy unless it says otherwise."""
        sampling = {"temperature": 0.0, "max_tokens": 16} | request.pop("sampling", {})
        self.engine.submit({"id": name, "sampling": sampling} | request)
        self._collect()

    def step(self, count: int = 1) -> None:
        """Some steps."""
        for _ in range(count):
            self.engine.step()
            self._collect()

    def cancel(self, name: str) -> None:
        """Cancel a request."""
        self.engine.cancel(name)
        self._collect()

    def run(self, limit: int = 5000) -> dict[str, dict[str, Any]]:
        """Step until idle; returns the completions by id."""
        while not self.engine.idle:
            limit -= 1
            assert limit > 0, "the engine does not become idle"
            self.step()
        return self.done

    def show(self, picture: bytes) -> dict[str, Any]:
        """A part of a message that is this picture; the engine gets its bytes when it asks for them."""
        sha256 = hashlib.sha256(picture).hexdigest()
        self.pictures[sha256] = picture
        return {"type": "image", "sha256": sha256}

    def _answer(self, sha256: str) -> None:
        if sha256 in self.pictures:
            self.engine.image(sha256, self.pictures[sha256])

    def _collect(self) -> None:
        for event in self.engine.events():
            if event["op"] == "done":
                self.done[event["id"]] = event["completion"]
            elif event["op"] == "failed":
                self.failed[event["id"]] = event["error"]
            elif event["op"] == "need_image":
                self.asked.append(event["sha256"])
                self._answer(event["sha256"])
            elif event["op"] == "started":
                self.started.append(event["id"])
            else:
                self.others.append(event)


@pytest.fixture
def yard(load_tiny: Loader) -> Yard:
    """An engine over the tiny model with four slots."""
    return Yard(load_tiny())


@pytest.fixture
def make_yard(load_tiny: Loader) -> Callable[..., Yard]:
    """An engine with settings of one's own."""

    def make(clock: Any = None, wall: Any = None, **settings: Any) -> Yard:
        times = {name: value for name, value in (("clock", clock), ("wall", wall)) if value is not None}
        return Yard(load_tiny(**settings), **times)

    return make


@pytest.fixture(params=["llava", "minicpmv", "gemma3"])
def projector(request: Any) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture
def make_seeing(make_yard: Callable[..., Yard], seeing_model: Path, projector: Path) -> Callable[..., Yard]:
    """A yard that sees, with each kind of projector."""

    def make(**settings: Any) -> Any:
        return make_yard(**({"model_path": str(seeing_model), "mmproj_path": str(projector)} | settings))

    return make


def user(text: str) -> list[dict[str, Any]]:
    """One user message."""
    return [{"role": "user", "content": text}]
