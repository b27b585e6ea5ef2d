"""A pyramid of 100,000 × 80,000 pixels, most of it never scanned, that takes a second to write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

SHAPE_YX = (80_000, 100_000)
TILE_PX = 512
STEP = 4
TISSUE = 0.06
"""Radius of the tissue in the middle, as a part of the slide."""


def write(path: Path, shape_yx: tuple[int, int] = SHAPE_YX) -> Path:
    """JPEG tiles at 0.25 µm; coarser levels by fours, down to a few thousand pixels."""
    rng = np.random.default_rng(0)
    cells = rng.integers(120, 250, (TILE_PX // 16, TILE_PX // 16, 3), dtype=np.uint8)
    tissue = cells.repeat(16, 0).repeat(16, 1)
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for level in range(4):
            size = tuple(-(-n // STEP**level) for n in shape_yx)
            tif.write(
                _tiles(tissue, size), shape=(*size, 3), dtype=np.uint8, tile=tissue.shape[:2],
                photometric="rgb", compression="jpeg", subfiletype=int(level > 0), metadata=None,
                resolution=(40_000 / STEP**level,) * 2, resolutionunit="CENTIMETER",
            )  # fmt: skip
    return path


def _tiles(tissue: np.ndarray, size_yx: tuple[int, ...]) -> Iterator[np.ndarray | None]:
    """Tissue in the middle and in the first tile; None is a tile that was never scanned."""
    rows, columns = (-(-n // TILE_PX) for n in size_yx)
    for y in range(rows):
        for x in range(columns):
            near = np.hypot((y + 0.5) / rows - 0.5, (x + 0.5) / columns - 0.5) < TISSUE
            yield tissue if near or x == y == 0 else None
