"""Small copies of the data sets' official layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


class Folder:
    """Writes small images and labels under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(self, name: str, shape_yx: tuple[int, int] = (20, 30)) -> Path:
        rng = np.random.default_rng(len(name))
        return self._save(name, rng.integers(0, 256, (*shape_yx, 3)).astype(np.uint8))

    def labels(self, name: str, array: np.ndarray | None = None) -> Path:
        if array is None:
            array = np.zeros((20, 30), np.uint8)
            array[2:10, 3:12], array[12:18, 15:29] = 1, 2
        return self._save(name, array)

    def _save(self, name: str, array: np.ndarray) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path, lossless=True)
        return path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
