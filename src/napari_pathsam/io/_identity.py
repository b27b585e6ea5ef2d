"""What tells one slide from every other, whatever it is called and wherever it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.io._files import reading
from napari_pathsam.io._levels import Level

WHOLE_BYTES = 32 * 2**20
"""Files up to this size are digested whole; of larger ones the size and samples."""

SAMPLES, SAMPLE_BYTES = 64, 2**15
WINDOWS, WINDOW_PX = 4, 512


def identity_of_file(path: Path) -> str:
    """A digest of a file's size and bytes; 2 MiB spread over the file when it is large.

    Raises
    ------
    BadFileError
        The file is gone, or may not be read.
    """
    with reading(path, "a slide"), path.open("rb") as file:
        size = path.stat().st_size
        told = hashlib.blake2b(f"file {size} ".encode(), digest_size=16)
        if size <= WHOLE_BYTES:
            while piece := file.read(2**20):
                told.update(piece)
        else:
            for start in np.linspace(0, size - SAMPLE_BYTES, SAMPLES).astype(np.int64):
                file.seek(int(start))
                told.update(file.read(SAMPLE_BYTES))
    return told.hexdigest()


def identity_of_pixels(pixels: NDArray) -> str:
    """A digest of an array: shape, type and every value."""
    told = hashlib.blake2b(f"pixels {pixels.shape} {pixels.dtype} ".encode(), digest_size=16)
    for row in range(0, len(pixels), 256):
        told.update(np.ascontiguousarray(pixels[row : row + 256]).data)
    return told.hexdigest()


def identity_of_levels(levels: Sequence[Level]) -> str:
    """A digest of the shapes of all levels, and of windows on the finest and the coarsest one.

    For slides that are many files, where neither one file nor the list of them is enough.
    """
    shapes = [level.shape_yx for level in levels]
    told = hashlib.blake2b(f"levels {shapes} ".encode(), digest_size=16)
    for level in (levels[-1], levels[0]):
        axes = zip(level.shape_yx, level.tile_yx, strict=True)
        rows, columns = (_windows(length, tile) for length, tile in axes)
        for y in rows:
            for x in columns:
                told.update(np.ascontiguousarray(level.fetch(y, x)).data)
    return told.hexdigest()


def _windows(length: int, tile: int) -> list[slice]:
    """A few pieces of an axis, each beginning with a tile, so that little is decoded for it."""
    count = min(WINDOWS, -(-length // WINDOW_PX))
    last = max(0, length - WINDOW_PX)
    starts = sorted({int(at) // tile * tile for at in np.linspace(0, last, count)})
    return [slice(start, min(start + WINDOW_PX, length)) for start in starts]
