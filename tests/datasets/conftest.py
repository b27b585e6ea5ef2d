"""Small copies of the data sets' official layouts."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest


def load_layouts() -> ModuleType:
    """``layouts.py``, which no test module can import by name."""
    path = Path(__file__).parents[1] / "datasets" / "layouts.py"
    spec = spec_from_file_location("dataset_layouts", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def layouts() -> ModuleType:
    return load_layouts()


@pytest.fixture
def folder(tmp_path: Path, layouts: ModuleType):
    return layouts.Folder(tmp_path)
