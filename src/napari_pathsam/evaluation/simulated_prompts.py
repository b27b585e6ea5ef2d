"""Prompts as people give them: a box that is a little off, a line drawn through an object."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from napari_pathsam.core.prompts import Box, innermost_point, tight_box


def noisy_box(
    box: Box, shape_yx: tuple[int, ...], noise: float, seed: tuple[int, str, int]
) -> Box:  # fmt: skip
    """A box whose centre is off by up to ``noise`` of its half sides, and its sides by ``noise``.

    As WSI-SAM's training has it (0.2), uniformly; inside the image. The same for the same seed,
    image name and object id, whatever was asked before.
    """
    number, name, index = seed
    rng = np.random.default_rng([number, zlib.crc32(name.encode()), index])
    found = []
    for low, high, n in zip(box[:2], box[2:], shape_yx, strict=True):
        side = high - low
        middle = (low + high) / 2 + rng.uniform(-noise, noise) * side / 2
        side *= 1 + rng.uniform(-noise, noise)
        start = float(np.clip(middle - side / 2, 0, n - 1))
        found.append((start, float(np.clip(middle + side / 2, start + 1, n))))
    (y0, y1), (x0, x1) = found
    return (y0, x0, y1, x1)


def scribble_path(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The line ``(n, 2)`` somebody draws through an object: the longest way along its skeleton.

    Of an object in several pieces, the way through the one with the innermost point.
    """
    from skimage.morphology import skeletonize

    y0, x0, y1, x1 = (int(v) for v in tight_box(mask))
    inner = np.array(innermost_point(mask))
    pixels = np.argwhere(skeletonize(mask[y0:y1, x0:x1])) + np.array([y0, x0])
    if len(pixels) < 2:
        return inner[None].astype(float)
    tree = cKDTree(pixels)
    pairs = tree.query_pairs(1.5, output_type="ndarray")
    lengths = np.hypot(*(pixels[pairs[:, 0]] - pixels[pairs[:, 1]]).T)
    graph = csr_array((lengths, pairs.T), shape=(len(pixels), len(pixels)))
    start = int(tree.query(inner)[1])
    one_end = _farthest(dijkstra(graph, directed=False, indices=start))
    away, before = dijkstra(graph, directed=False, indices=one_end, return_predecessors=True)
    path = [_farthest(away)]
    while path[-1] != one_end:
        path.append(int(before[path[-1]]))
    return pixels[path].astype(float)


def _farthest(away: NDArray[np.float64]) -> int:
    return int(np.where(np.isfinite(away), away, -1).argmax())
