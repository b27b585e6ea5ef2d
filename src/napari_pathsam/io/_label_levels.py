"""The arrays of a label pyramid on the disk: read, written and made coarser, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region
from napari_pathsam.core.label_map import halved
from napari_pathsam.io._files import reading
from napari_pathsam.io._ngff_container import writing

if TYPE_CHECKING:
    import dask.array as da


class LabelLevels:
    """Level 0 and coarser ones, each half as fine; of the container ``path``, called ``name``."""

    def __init__(self, path: Path, name: str, levels: list[Any]) -> None:
        self.path, self.name, self._levels = path, name, levels

    @property
    def shape_yx(self) -> tuple[int, int]:
        return self.level_shapes[0]

    @property
    def level_shapes(self) -> tuple[tuple[int, int], ...]:
        return tuple((int(a.shape[0]), int(a.shape[1])) for a in self._levels)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self._levels[0].dtype)

    @property
    def chunk_px(self) -> int:
        """Side of a chunk; labels smaller than that are one chunk."""
        return int(max(self._levels[0].chunks))

    def read(self, region: Region, level: int = 0) -> NDArray[np.integer]:
        """The labels over level-0 pixels, at a level's resolution (as ``Slide.read``).

        What lies outside is 0.
        """
        (height, width), (h, w) = self.shape_yx, self.level_shapes[level]
        scales = (h / height, w / width)
        y, x = (round(at * s) for at, s in zip((region.y, region.x), scales, strict=True))
        size = [max(1, round(n * s)) for n, s in zip(region.shape_yx, scales, strict=True)]
        wanted = Region(y, x, *size)
        inside = wanted.intersection(Region(0, 0, h, w))
        if inside == wanted:
            return self.read_level(level, wanted)
        out = np.zeros(wanted.shape_yx, self.dtype)
        if inside is not None:
            at = Region(inside.y - y, inside.x - x, *inside.shape_yx)
            out[at.slices] = self.read_level(level, inside)
        return out

    def holds(self, region: Region) -> bool:
        """Whether anything may be written over level-0 pixels; else all is 0 there, unread."""
        if not self._files_are_chunks:
            return True
        array = self._levels[0]
        ch, cw = array.chunks
        folder = self.path / "labels" / self.name / array.basename / "c"
        return any(
            (folder / str(y) / str(x)).exists()
            for y in range(region.y // ch, -(-(region.y + region.height) // ch))
            for x in range(region.x // cw, -(-(region.x + region.width) // cw))
        )

    def pieces(self) -> Iterator[Region]:
        """The level-0 rectangles outside of which all is 0, row by row; no pixel is read."""
        ch, cw = (int(n) for n in self._levels[0].chunks)
        height, width = self.shape_yx
        there: Iterable[tuple[int, int]] = product(range(-(-height // ch)), range(-(-width // cw)))
        if self._files_are_chunks:
            there = sorted(self._stored(0))
        for y, x in there:
            yield Region(y * ch, x * cw, min(ch, height - y * ch), min(cw, width - x * cw))

    @property
    def _files_are_chunks(self) -> bool:
        """Else they are another program's: files have other names, or none means not 0."""
        array = self._levels[0]
        key = array.metadata.chunk_key_encoding
        told = (array.shards, key.name, key.separator, array.fill_value)
        return bool(told == (None, "default", "/", 0))

    def pyramid(self) -> list[da.Array]:
        """Every level as a lazy dask array, finest first; they show what is on the disk now."""
        import dask.array as da

        return [
            da.from_array(a, chunks=a.chunks, name=False)  # type: ignore[no-untyped-call]
            for a in self._levels
        ]

    def read_level(self, level: int, at: Region) -> NDArray[np.integer]:
        """A region of a level, in its own pixels."""
        with reading(self.path, "labels of an OME-Zarr 0.5"):
            found: NDArray[np.integer] = np.asarray(self._levels[level][at.slices])
            return found

    def write_level(self, level: int, at: Region, array: NDArray[np.integer]) -> None:
        """Set a region of a level, in its own pixels; other levels stay as they are."""
        with writing(self.path):
            self._levels[level][at.slices] = array.astype(self.dtype, copy=False)

    def _halve(self, level: int, at: Region) -> None:
        """Make a region of a level's pixels anew, from the finer level."""
        finer = self.read_level(level - 1, Region(*(2 * v for v in (at.y, at.x, *at.shape_yx))))
        self.write_level(level, at, halved(finer))

    def _chunks_over(self, level: int, region: Region | None) -> Iterator[Region]:
        """The chunks of a coarser level that have or had something in them."""
        height, width = self.level_shapes[level]
        ch, cw = (int(c) for c in self._levels[level].chunks)
        fine_ch, fine_cw = (int(c) for c in self._levels[level - 1].chunks)
        there = self._stored(level) | {
            (min(y * fine_ch // 2, height - 1) // ch, min(x * fine_cw // 2, width - 1) // cw)
            for y, x in self._stored(level - 1)
        }
        step = 2**level
        for y, x in sorted(there):
            at = Region(y * ch, x * cw, min(ch, height - y * ch), min(cw, width - x * cw))
            over = Region(at.y * step, at.x * step, at.height * step, at.width * step)
            if region is None or over.intersection(region) is not None:
                yield at

    def _stored(self, level: int) -> set[tuple[int, int]]:
        """The chunks of a level that are files."""
        folder = self.path / "labels" / self.name / self._levels[level].basename / "c"
        return {(int(p.parent.name), int(p.name)) for p in folder.glob("*/*") if not p.suffix}
