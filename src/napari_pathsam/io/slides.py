"""Slides: pyramids of RGB pixels read piece by piece, whatever file they come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_pathsam.core.errors import BadFileError, UnavailableError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._files import existing_file, looks_like_text, starts_as_tiff
from napari_pathsam.io._identity import identity_of_file, identity_of_levels, identity_of_pixels
from napari_pathsam.io.images import as_rgb, read_plain

if TYPE_CHECKING:
    import dask.array as da

RGB = NDArray[np.uint8]

OVERVIEW_PX = 4096
"""A pyramid whose coarsest level has a longer side than this is given coarser ones."""

OVERVIEW_STEP = 4

OPENSLIDE_FIRST = {".mrxs", ".vms", ".vmu", ".bif", ".scn", ".ndpi", ".svslide", ".dcm", ".czi"}
TIFFFILE_TOO = {".scn", ".ndpi"}
INDEX_FILES = {".vms", ".vmu"}
"""Text that lists the slide's files."""


class Slide(Protocol):
    """A picture at several resolutions; level 0 is the finest. Safe to read from any thread."""

    name: str
    path: Path | None
    mpp: float | None
    """Microns per level-0 pixel, when the file says so."""
    stored_levels: int
    """How many of the levels the file has; coarser ones are averaged when they are read."""

    @property
    def identity(self) -> str:
        """A digest of the content: the same after a copy, move or rename, else another."""
        ...

    @property
    def shape_yx(self) -> tuple[int, int]: ...
    @property
    def level_shapes(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def level_downsamples(self) -> tuple[float, ...]: ...
    def read(self, region: Region, *, level: int = 0) -> RGB: ...
    def read_resampled(self, region: Region, shape_yx: tuple[int, int]) -> RGB: ...
    def pyramid(self) -> list[da.Array]: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Level:
    """One level: RGB pixels ``(H, W, 3)`` fetched when asked; as much of an array as dask needs.

    ``fetch(rows, columns)`` is called with slices inside the level, from any thread.
    """

    shape_yx: tuple[int, int]
    tile_yx: tuple[int, int]
    fetch: Callable[[slice, slice], RGB]
    dtype: ClassVar = np.dtype(np.uint8)
    ndim: ClassVar = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.shape_yx, 3)

    def __getitem__(self, index: tuple[Any, ...]) -> RGB:
        rows, row_within = _bounds(index[0], self.shape_yx[0])
        columns, column_within = _bounds(index[1], self.shape_yx[1])
        empty = rows.start == rows.stop or columns.start == columns.stop
        size = (rows.stop - rows.start, columns.stop - columns.start, 3)
        piece = np.empty(size, np.uint8) if empty else self.fetch(rows, columns)
        picked: RGB = piece[(row_within, column_within, *index[2:])]
        return picked


def _bounds(index: slice | int, length: int) -> tuple[slice, slice | int]:
    """The plain slice that covers an index, and the index within it."""
    picked = range(length)[index]
    if isinstance(picked, int):
        return slice(picked, picked + 1), 0
    if not len(picked):
        return slice(0, 0), slice(None)
    low, high = min(picked[0], picked[-1]), max(picked[0], picked[-1])
    return slice(low, high + 1), slice(None, None, picked.step)


class PyramidSlide:
    """A :class:`Slide` made of levels; what every backend returns."""

    def __init__(
        self,
        levels: Sequence[Level],
        *,
        name: str,
        mpp: float | None = None,
        path: Path | None = None,
        identify: Callable[[], str] | None = None,
        closer: Callable[[], object] | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.mpp = mpp
        self.stored_levels = len(levels)
        self._levels = with_overviews(levels)
        self._identify = identify
        self._closer = closer
        self._closed = False

    @cached_property
    def identity(self) -> str:
        """A digest of the content; found when first asked for, in much less than a second."""
        if self._identify is not None:
            return self._identify()
        if self.path is not None and self.path.is_file():
            return identity_of_file(self.path)
        return identity_of_levels(self._levels[: self.stored_levels])

    @property
    def shape_yx(self) -> tuple[int, int]:
        return self._levels[0].shape_yx

    @property
    def level_shapes(self) -> tuple[tuple[int, int], ...]:
        return tuple(level.shape_yx for level in self._levels)

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        """Level-0 pixels per pixel of each level, the mean of both directions."""
        height, width = self.shape_yx
        return tuple((height / h + width / w) / 2 for h, w in self.level_shapes)

    def read(self, region: Region, *, level: int = 0) -> RGB:
        """The pixels of a region of level-0 pixels, at a level's own resolution.

        Begins at, and is as large as, the region divided by the downsample and rounded (at least
        one pixel each way). What lies outside the slide is white.
        """
        scales = self._scales(level)
        y, x = (round(at * s) for at, s in zip((region.y, region.x), scales, strict=True))
        height, width = (max(1, round(n * s)) for n, s in zip(region.shape_yx, scales, strict=True))
        return self._read_level(level, y, x, height, width)

    def read_resampled(self, region: Region, shape_yx: tuple[int, int]) -> RGB:
        """The pixels of a region brought to a shape, from the coarsest level fine enough."""
        from PIL import Image

        wanted = max(n / m for n, m in zip(region.shape_yx, shape_yx, strict=True))
        level = coarsest_fine_enough(self.level_downsamples, wanted)
        sy, sx = self._scales(level)
        top, left = region.y * sy, region.x * sx
        bottom, right = top + region.height * sy, left + region.width * sx
        y, x = int(np.floor(top)), int(np.floor(left))
        height = max(1, int(np.ceil(bottom - 1e-6)) - y)
        width = max(1, int(np.ceil(right - 1e-6)) - x)
        pixels = self._read_level(level, y, x, height, width)
        box = (left - x, top - y, min(right - x, width), min(bottom - y, height))
        if pixels.shape[:2] == tuple(shape_yx) and box == (0, 0, width, height):
            return pixels
        size = (shape_yx[1], shape_yx[0])
        resized = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, box=box)
        return np.asarray(resized)

    def pyramid(self) -> list[da.Array]:
        """Every level as a lazy dask array ``(H, W, 3)`` uint8, finest first."""
        import dask.array as da

        return [
            da.from_array(  # type: ignore[no-untyped-call]
                level,
                chunks=(*(_chunk(tile) for tile in level.tile_yx), 3),
                name=False,
                fancy=False,
                meta=np.empty((0, 0, 0), np.uint8),
            )
            for level in self._levels
        ]

    def close(self) -> None:
        """Close the file; reading afterwards is an error."""
        self._closed = True
        if self._closer is not None:
            self._closer()
            self._closer = None

    def __enter__(self) -> PyramidSlide:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _scales(self, level: int) -> tuple[float, float]:
        (height, width), (h, w) = self.shape_yx, self._levels[level].shape_yx
        return h / height, w / width

    def _read_level(self, index: int, y: int, x: int, height: int, width: int) -> RGB:
        if self._closed:
            raise BadFileError(f"{self.name} was closed; open it again to read from it.")
        level = self._levels[index]
        rows = slice(max(y, 0), min(y + height, level.shape_yx[0]))
        columns = slice(max(x, 0), min(x + width, level.shape_yx[1]))
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return np.full((height, width, 3), 255, np.uint8)
        inside = level.fetch(rows, columns)
        if inside.shape[:2] == (height, width):
            return inside
        out = np.full((height, width, 3), 255, np.uint8)
        out[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x] = inside
        return out


class ArraySlide(PyramidSlide):
    """A picture in memory as a slide of one level."""

    def __init__(
        self,
        array: ArrayLike,
        *,
        mpp: float | None = None,
        name: str = "image",
        path: Path | None = None,
    ) -> None:
        rgb = as_rgb(array, where=name)
        level = Level((rgb.shape[0], rgb.shape[1]), (1024, 1024), lambda ys, xs: rgb[ys, xs])
        identify = None if path else partial(identity_of_pixels, rgb)
        super().__init__([level], name=name, mpp=mpp, path=path, identify=identify)


def coarsest_fine_enough(downsamples: Sequence[float], wanted: float) -> int:
    """The coarsest level that is still fine enough; levels are a few per cent off."""
    fine = [i for i, downsample in enumerate(downsamples) if downsample <= 1.05 * wanted]
    return fine[-1] if fine else 0


def with_overviews(levels: Sequence[Level]) -> tuple[Level, ...]:
    """The levels, and coarser ones down to :data:`OVERVIEW_PX`, averaged when they are read."""
    levels = list(levels)
    while max(levels[-1].shape_yx) > OVERVIEW_PX:
        levels.append(_coarser(levels[-1], OVERVIEW_STEP))
    return tuple(levels)


def _coarser(level: Level, step: int) -> Level:
    from PIL import Image

    height, width = level.shape_yx

    def fetch(rows: slice, columns: slice) -> RGB:
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start, 3), np.uint8)
        across = slice(columns.start * step, min(columns.stop * step, width))
        for top in range(rows.start, rows.stop, 256):  # in bands: the finer level may be huge
            bottom = min(top + 256, rows.stop)
            fine = level.fetch(slice(top * step, min(bottom * step, height)), across)
            out[top - rows.start : bottom - rows.start] = Image.fromarray(fine).reduce(step)
        return out

    tile_yx = (max(256, level.tile_yx[0] // step), max(256, level.tile_yx[1] // step))
    return Level((-(-height // step), -(-width // step)), tile_yx, fetch)


def _chunk(tile: int) -> int:
    """Whole tiles, about 1024 pixels: small enough to pan, large enough for dask."""
    return tile * max(1, round(1024 / tile)) if tile < 4096 else 4096


def open_slide(path: str | os.PathLike[str]) -> Slide:
    """Open a picture or slide of any size, told by its content more than by its name.

    TIFF, OME-TIFF and Aperio SVS (tifffile), the other scanners' formats (OpenSlide), OME-Zarr
    0.4 and 0.5, and whatever Pillow reads.

    Raises
    ------
    BadFileError, BadImageError
        Missing, damaged or foreign; not grey or RGB.
    UnavailableError
        The format needs OpenSlide, and it is not installed.
    """
    path = Path(path)
    if path.is_dir():
        from napari_pathsam.io._ngff import is_zarr, open_ngff

        if is_zarr(path):
            return open_ngff(path)
    path = existing_file(path, wanted="an image or slide")
    if path.suffix.lower() not in INDEX_FILES and looks_like_text(path):
        raise BadFileError(
            f"{path.name} holds text, not an image, whatever its name says. "
            "Look into it with an editor: a failed download often leaves a message there."
        )
    is_tiff = starts_as_tiff(path)
    if path.suffix.lower() in OPENSLIDE_FIRST:
        from napari_pathsam.io._openslide import open_openslide

        try:
            return open_openslide(path)
        except UnavailableError:
            if not (is_tiff and path.suffix.lower() in TIFFFILE_TOO):
                raise
    if is_tiff:
        from napari_pathsam.io._tiff import open_tiff

        return open_tiff(path)
    rgb, mpp = read_plain(path)
    return ArraySlide(rgb, mpp=mpp, name=path.name, path=path)
