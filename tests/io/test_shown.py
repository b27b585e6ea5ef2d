"""What a viewer reads of a slide: right pixels, each chunk once, memory within its bound."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam.io._levels import Level
from napari_pathsam.io._shown import ShownChunks, read_in_chunks


def test_panning_reads_once_and_keeps_within_the_bound(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (700, 900, 3), np.uint8)
    read: list[tuple[int, int]] = []

    def fetch(rows: slice, columns: slice) -> np.ndarray:
        read.append((rows.start, columns.start))
        return pixels[rows, columns].copy()

    kept = ShownChunks(most_bytes=12 * 128 * 128 * 3)
    level = read_in_chunks(Level((700, 900), (128, 128), fetch), (128, 128), kept, 0)
    for y, x in [(0, 0), (30, 40), (100, 100), (0, 0)]:  # to and fro, over nine chunks
        view = (slice(y, y + 200), slice(x, x + 250))
        assert (level[(*view, slice(None))] == pixels[view]).all()
    assert len(read) == len(set(read))
    for _ in range(40):  # all over the slide
        y, x = rng.integers(0, (650, 850))
        view = (slice(y, y + 180), slice(x, x + 180))
        assert (level[(*view, slice(None))] == pixels[view]).all()
        assert kept.nbytes <= 12 * 128 * 128 * 3
    with pytest.raises(ValueError, match="read-only"):
        kept.get((0, 0, 0), lambda: pixels[:128, :128].copy())[0, 0] = 1
