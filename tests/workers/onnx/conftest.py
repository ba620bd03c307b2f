"""A real int8 classifier, written once a session."""

from pathlib import Path

import pytest

from tests.workers.onnx.tiny_classifier import write_classifier


@pytest.fixture(scope="session")
def classifier_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("classifier"))
