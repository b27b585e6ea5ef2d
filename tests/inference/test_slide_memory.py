"""Memory follows the block and the batch, not the slide."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.class_maps import SegmentSettings
from napari_pathsam.inference.slide import segment_slide
from napari_pathsam.inference.slide_objects import write_objects
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.store_tables import Counted, count_store
from napari_pathsam.models.pathsam import PathSam


class Islands:
    """A slide that takes no memory: glass with four islands of tissue, 120 pixels wide."""

    name = identity = "islands"
    mpp = 0.5

    def __init__(self, side: int) -> None:
        self.shape_yx = (side, side)

    def read_resampled(self, region: Region, shape_yx: tuple[int, int]) -> np.ndarray:
        spans = ((region.y, region.height), (region.x, region.width))
        near, phase = [], []
        for (start, length), n in zip(spans, shape_yx, strict=True):
            at = start + (np.arange(n) + 0.5) * length / n
            near.append(np.abs(at % (self.shape_yx[0] / 2) - self.shape_yx[0] / 4) < 60)
            phase.append((at // 9).astype(int))
        inside = near[0][:, None] & near[1][None]
        shade = (phase[0][:, None] * 7 + phase[1][None] * 11) % 60
        tissue = np.stack([150 + shade, 80 + shade, 140 + shade], -1)
        return np.where(inside[..., None], tissue, 243).astype(np.uint8)


def peak_mb(model: PathSam, side: int, path: Path) -> tuple[float, int]:
    """What NumPy takes in a run with objects and areas; and the tiles it had."""
    tracemalloc.start(1)
    try:
        tiles = sum(1 for _ in segment_slide(
            model, Islands(side), store=path, chunk_px=128,
            settings=SegmentSettings(),
        ))  # fmt: skip
        classes = LabelStore.open(path)
        for _ in write_objects(classes):
            pass
        *_, counted = count_store(classes, LabelStore.open(path, "objects"))
        assert isinstance(counted, Counted)
        assert counted.px.sum() == side * side
        return tracemalloc.get_traced_memory()[1] / 2**20, tiles
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_slide(
    tiny_pathsam: PathSam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a large slide is to the run's own measures: overview, tiles that are counted, longest area.
    monkeypatch.setattr("napari_pathsam.inference.tissue.LONGEST_PX", 384)
    monkeypatch.setattr("napari_pathsam.io.store_tables.TILE_PX", 512)
    monkeypatch.setattr("napari_pathsam.inference.slide_objects.LONGEST_PX", 512)
    from skimage import measure, morphology, segmentation  # noqa: F401  imports are not counted

    side = 4_500  # the peak is 11-14 MB at any side, by how far threads read ahead
    peak, tiles = peak_mb(tiny_pathsam, side, tmp_path / "o.zarr")
    assert tiles > 4
    assert peak < side * side / 2**20  # less than a class map of it all, or a quarter of its ids
