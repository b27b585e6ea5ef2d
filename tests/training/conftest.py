"""Images that teach something in seconds: a dark disc on pale ground that is pink on one side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.strokes import scribbles
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.training.augment import AugmentConfig
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_data import TrainingImage
from napari_pathsam.training.finetune_config import FineTuneSettings, HoldOut
from napari_pathsam.training.finetune_run import FineTuneImage

COLORS = np.array([[232, 228, 233], [110, 50, 150], [225, 130, 175]])


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="module")
def painted(discs: Callable[..., list[TrainingImage]]) -> list[FineTuneImage]:
    """Two images with strokes in gland (1), stroma (2) and ground (3); not to be written to."""
    found = []
    for n, one in enumerate(discs(2)):
        truth = np.where(one.target == 0, 3, one.target).astype(np.uint8)
        labels = scribbles(truth, share=0.15, seed=n, width_px=5, length_px=30)
        slide = ArraySlide(one.image, mpp=0.5, name=f"discs {n}")
        found.append(FineTuneImage(slide, labels, 0.5, name=f"discs {n}", key=str(n)))
    return found


@pytest.fixture(scope="module")
def settings(
    tmp_path_factory: pytest.TempPathFactory, tiny_model
) -> Iterator[Callable[..., FineTuneSettings]]:
    """``settings(**fields)`` of two quick epochs on a tiny base; ``ground`` is background."""
    from napari_pathsam.models.checkpoints import import_checkpoint
    from napari_pathsam.models.model_file import save_model

    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_PATHSAM_CACHE", str(folder / "cache"))
        save_model(folder / "tiny.safetensors", tiny_model, {"licence": "none"})
        base = import_checkpoint(folder / "tiny.safetensors")

        def make(**fields) -> FineTuneSettings:
            made = FineTuneSettings(
                name="mine", base=base, classes=ClassTable.of("gland", "stroma", "ground"),
                background_id=3, hidden=(16,), device="cpu", threads=1,
                hold_out=fields.pop("hold_out", HoldOut(share=0.25)),
                zero=fields.pop("zero", "unlabelled"), start=fields.pop("start", None),
            )  # fmt: skip
            quick = {"epochs": 2, "steps": 2, "batch": 2, "crop_px": 64}
            return made.with_preset("fast", **(quick | fields))

        yield make
