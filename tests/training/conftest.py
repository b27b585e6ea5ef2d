"""Images that teach something in seconds: a dark disc on pale ground that is pink on one side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_pathsam.training.augment import AugmentConfig
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_data import TrainingImage

COLORS = np.array([[232, 228, 233], [110, 50, 150], [225, 130, 175]])


@pytest.fixture
def discs() -> Callable[..., list[TrainingImage]]:
    """``discs(n, seed)``: 96-pixel images with gland (1), stroma (2) and background (0)."""

    def make(n: int, seed: int = 0) -> list[TrainingImage]:
        rng = np.random.default_rng(seed)
        yy, xx = np.mgrid[:96, :96]
        found = []
        for i in range(n):
            target = np.zeros((96, 96), np.int16)
            target[:, int(rng.integers(30, 66)) :] = 2
            for y, x in rng.integers(28, 68, (1, 2)):
                target[(yy - y) ** 2 + (xx - x) ** 2 < rng.integers(20, 27) ** 2] = 1
            image = COLORS[target] + rng.integers(-6, 7, (96, 96, 1))
            found.append(TrainingImage(image.astype(np.uint8), target, f"{seed}-{i}", str(i)))
        return found

    return make


@pytest.fixture
def quick() -> TrainConfig:
    """Two epochs of two steps."""
    return TrainConfig(
        parts=("head", "alignment"),
        epochs=2,
        batch=2,
        patch_px=64,
        variants=2,
        stride=4,
        warmup=1,
        lr=2e-3,
        augment=AugmentConfig(stain=0.05, brightness=0.02, sharpness=0.2, noise=1.0),
    )
