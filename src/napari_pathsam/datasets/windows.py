"""Large images as patches: which parts they are cut into, and how one part is read."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region


def cover(shape_yx: tuple[int, int], largest: int) -> list[Region]:
    """An image cut into the fewest parts of at most ``largest`` a side: all of it, nothing twice.

    Parts of one image are of nearly one size, so that none is a sliver.
    """
    rows, columns = (
        np.linspace(0, n, ceil(n / largest) + 1).round().astype(int).tolist() for n in shape_yx
    )
    return [
        Region(top, left, bottom - top, right - left)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]


@lru_cache(maxsize=1)
def _whole_rgb(path: Path, _changed: int) -> NDArray[np.uint8]:
    from napari_pathsam.io.images import read_rgb

    return read_rgb(path)[0]


@lru_cache(maxsize=1)
def _whole_labels(path: Path, _changed: int) -> NDArray[np.integer]:
    from napari_pathsam.io.images import read_labels

    return read_labels(path)


def whole_rgb(path: Path) -> NDArray[np.uint8]:
    """An image that parts are cut from; the last one is kept, because its parts follow."""
    return _whole_rgb(path, path.stat().st_mtime_ns)


def whole_labels(path: Path) -> NDArray[np.integer]:
    """A label image that parts are cut from; the last one is kept."""
    return _whole_labels(path, path.stat().st_mtime_ns)


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of an image file, from its header."""
    from PIL import Image

    from napari_pathsam.io._files import existing_file, reading

    existing_file(path, wanted="an image")
    with reading(path, "an image"), Image.open(path) as image:
        return image.height, image.width
