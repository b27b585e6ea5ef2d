"""Fixtures for every test: nothing of the user's is touched, and pixels come from a seed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_pathsam.core.classes import ClassTable


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a display Qt aborts the whole process; say so before it does."""
    wanted = [item for item in items if item.get_closest_marker("gui")]
    if not wanted or not sys.platform.startswith("linux"):
        return
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    xvfb = shutil.which("Xvfb") and config.pluginmanager.hasplugin("xvfb")
    if not (display or xvfb):
        pytest.exit(
            f"{len(wanted)} GUI tests need a display: install xvfb (Debian: apt-get install xvfb) "
            "and pytest-xvfb, or leave them out with: pytest -m 'not gui'",
            returncode=4,
        )


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals, caches and settings of a test stay in its own folder."""
    home = tmp_path_factory.mktemp("home")
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.setenv("NAPARI_CONFIG", str(home / "napari.yaml"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def class_table() -> ClassTable:
    return ClassTable.of("gland", "stroma")


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The source tree these tests belong to."""
    return Path(__file__).resolve().parents[1]
