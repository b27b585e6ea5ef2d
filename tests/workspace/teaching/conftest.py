"""A lesson on a very small image, with the packaged base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.catalogue import load_model
from napari_pathsam.workspace import ArraySource, InlineRunner
from napari_pathsam.workspace.segment_work import SourceTiles
from napari_pathsam.workspace.teaching import Teaching
from napari_pathsam.workspace.teaching_choices import Advanced
from napari_pathsam.workspace.teaching_look import TeachLook
from napari_pathsam.workspace.teaching_run import TeachRun
from napari_pathsam.workspace.teaching_store import LessonStore, Strokes
from napari_pathsam.workspace.teaching_work import FieldOfView

SIDE = 128
CLASSES = ClassTable.of("dark", "pale")


def field(seed: int = 0) -> np.ndarray:
    """Dark discs on a pale ground."""
    rng = np.random.default_rng(seed)
    yy, xx = np.indices((SIDE, SIDE))
    image = np.full((SIDE, SIDE, 3), 225, np.uint8)
    for cy, cx in ((32, 32), (32, 96), (96, 40), (90, 100)):
        image[np.hypot(yy - cy, xx - cx) < 18] = (110, 50, 120)
    noise = rng.integers(-12, 12, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def strokes() -> np.ndarray:
    """Two regions of each class."""
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for cy, cx in ((32, 32), (32, 96), (96, 40), (90, 100)):
        labels[cy - 6 : cy + 6, cx - 6 : cx + 6] = 1
    labels[60:68, 4:60] = 2
    labels[60:68, 80:124] = 2
    labels[4:10, 56:76] = 2
    return labels


@dataclass(frozen=True)
class ArrayPair:
    """An image and labels in memory."""

    source: ArraySource
    labels: np.ndarray
    mpp: float | None = 1.0
    path: Path | None = None

    @property
    def key(self):
        return self.source.key

    @property
    def name(self):
        return self.source.name

    @property
    def labels_name(self):
        return "strokes"

    def tiles(self):
        return SourceTiles(self.source)

    def painted(self, classes):
        return Strokes(self.labels)

    def held_out(self, classes):
        return None


@pytest.fixture(scope="module")
def nano():
    return load_model("pathsam-nano", device="cpu")


@pytest.fixture
def load(nano):
    """The packaged base, kept; model files as they are."""
    return lambda name, device: nano if name == "pathsam-nano" else load_model(name, device="cpu")


@pytest.fixture
def pair():
    return ArrayPair(ArraySource(field(), name="discs"), strokes())


@pytest.fixture
def teach(tmp_path, load, pair):
    """``(teaching, run, look, heard)`` on two classes and one image; ``pale`` is background."""
    cache = EmbeddingCache()
    teaching = Teaching(InlineRunner(), LessonStore(tmp_path / "lessons"))
    view = FieldOfView(pair.source, Region.of((SIDE, SIDE)), 1.0)
    run = TeachRun(teaching, InlineRunner(), lambda: cache, load, lambda: view)
    look = TeachLook(teaching, InlineRunner(), lambda: cache, load)
    heard: dict[str, list] = {k: [] for k in ("failed", "previewed", "told", "finished", "counts")}
    for signal, name in (
        (teaching.failed, "failed"), (run.failed, "failed"), (look.failed, "failed"),
        (run.previewed, "previewed"), (look.previewed, "previewed"), (run.told, "told"),
        (run.finished, "finished"), (teaching.counts_changed, "counts"),
    ):  # fmt: skip
        signal.connect(heard[name].append)
    teaching.choose(
        classes=CLASSES, background_id=2, device="cpu", trained="head",
        advanced=Advanced(epochs=2),
    )  # fmt: skip
    teaching.set_layers([pair])
    yield teaching, run, look, heard
    run.close()
    teaching.close()
