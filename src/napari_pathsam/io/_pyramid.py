"""A slide made of levels: what every backend returns."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from napari_pathsam.core.errors import BadFileError, BadPromptError, DamagedTileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._colors import to_srgb
from napari_pathsam.io._levels import (
    RGB,
    Level,
    coarsest_fine_enough,
    fetch_around_damage,
    with_overviews,
)
from napari_pathsam.io._origin import Origin
from napari_pathsam.io._shown import ShownChunks, read_in_chunks
from napari_pathsam.io.images import LARGEST_SIDE_PX

if TYPE_CHECKING:
    import dask.array as da

LARGEST_READ_PX = LARGEST_SIDE_PX**2
"""What may be read at once; more is a mistake in the numbers, and would fill the memory."""

DAMAGED_GREY = 128

_SHOWN: WeakValueDictionary[str, PyramidSlide] = WeakValueDictionary()
"""The slide of each dask array that :meth:`PyramidSlide.pyramid` made, by its name."""


def slide_behind(array: Any) -> PyramidSlide | None:
    """The slide whose finest level an array of its :meth:`~PyramidSlide.pyramid` is."""
    return _SHOWN.get(str(getattr(array, "name", "")))


@dataclass(frozen=True)
class Extras:
    """What a slide file holds beside its levels."""

    bounds: Region | None = None
    associated: Mapping[str, Callable[[], RGB]] = field(default_factory=dict)
    icc_profile: bytes | None = None


class PyramidSlide:
    """A :class:`Slide` made of levels; what every backend returns."""

    def __init__(
        self,
        levels: Sequence[Level],
        *,
        name: str,
        origin: Origin,
        path: Path | None = None,
        mpp: float | None = None,
        extras: Extras | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.mpp = mpp
        self.stored_levels = len(levels)
        self._levels = with_overviews(levels)
        self._origin = origin
        self._extras = extras or Extras()
        self._closed = False
        self._told_damage = False

    @cached_property
    def identity(self) -> str:
        """A digest of the content; found when first asked for, in much less than a second."""
        return self._origin.identify()

    @property
    def bounds(self) -> Region:
        """The scanned part of the slide, in level-0 pixels; all of it unless the file says."""
        return self._extras.bounds or Region.of(self.shape_yx)

    @property
    def associated(self) -> tuple[str, ...]:
        """Names of the pictures beside the slide: label, macro, thumbnail."""
        return tuple(self._extras.associated)

    def read_associated(self, name: str) -> RGB:
        """One of the :attr:`associated` pictures, ``(H, W, 3)`` uint8."""
        if name not in self._extras.associated:
            names = ", ".join(self.associated) or "none"
            raise BadFileError(f"{self.name} has no picture “{name}” beside it; it has: {names}.")
        self._check_open()
        return self._extras.associated[name]()

    @property
    def icc_profile(self) -> bytes | None:
        """The scanner's colour profile, when the file has one; not applied unless asked for."""
        return self._extras.icc_profile

    def in_srgb(self) -> PyramidSlide:
        """The same slide with its colour profile applied; itself when it has none.

        Another :attr:`identity`, for its pixels are others: the slide's own and ``-srgb``.
        """
        if self.icc_profile is None:
            return self
        convert = to_srgb(self.icc_profile, where=self.name)
        twin = copy.copy(self)
        twin.__dict__.pop("identity", None)
        twin._origin = replace(self._origin, identify=lambda: f"{self.identity}-srgb")
        twin._extras = replace(self._extras, icc_profile=None)
        stored = self._levels[: self.stored_levels]
        twin._levels = with_overviews([level.converted(convert) for level in stored])
        return twin

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

        Raises
        ------
        DamagedTileError
            Tiles of it cannot be decoded; what can be read is in the error.
        BadFileError
            The slide is closed, gone, or damaged as a whole.
        BadPromptError
            More than 16,384 × 16,384 pixels, or a level that is not there.
        """
        if not 0 <= level < len(self._levels):
            raise BadPromptError(
                f"{self.name} has the levels 0 to {len(self._levels) - 1}; {level} is none of them."
            )
        scales = self._scales(level)
        y, x = (round(at * s) for at, s in zip((region.y, region.x), scales, strict=True))
        height, width = (max(1, round(n * s)) for n, s in zip(region.shape_yx, scales, strict=True))
        pixels, damage = self._read_level(level, y, x, height, width)
        return _sound(pixels, damage)

    def read_resampled(self, region: Region, shape_yx: tuple[int, int]) -> RGB:
        """The pixels of a region brought to a shape, from the coarsest level fine enough.

        Raises
        ------
        DamagedTileError, BadFileError, BadPromptError
            As :meth:`read`.
        """
        from PIL import Image

        self._check_size(*shape_yx)
        wanted = max(n / m for n, m in zip(region.shape_yx, shape_yx, strict=True))
        level = coarsest_fine_enough(self.level_downsamples, wanted)
        sy, sx = self._scales(level)
        top, left = region.y * sy, region.x * sx
        bottom, right = top + region.height * sy, left + region.width * sx
        y, x = int(np.floor(top)), int(np.floor(left))
        height = max(1, int(np.ceil(bottom - 1e-6)) - y)
        width = max(1, int(np.ceil(right - 1e-6)) - x)
        pixels, damage = self._read_level(level, y, x, height, width)
        box = (left - x, top - y, min(right - x, width), min(bottom - y, height))
        if pixels.shape[:2] == tuple(shape_yx) and box == (0, 0, width, height):
            return _sound(pixels, damage)
        size = (shape_yx[1], shape_yx[0])
        resized = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, box=box)
        return _sound(np.asarray(resized), damage)

    def pyramid(self) -> list[da.Array]:
        """Every level as a lazy dask array ``(H, W, 3)`` uint8, finest first.

        For looking at: a damaged tile is grey, and a warning names the first one. What was read
        is kept (:data:`~napari_pathsam.io._shown.SHOWN_BYTES`): a viewer needs no cache of its own.
        """
        import dask.array as da

        kept, arrays = ShownChunks(), []
        for index, level in enumerate(self._levels):
            rows, columns = (_chunk(tile) for tile in level.tile_yx)
            shown = replace(level, fetch=partial(self._shown, index))
            arrays.append(
                da.from_array(  # type: ignore[no-untyped-call]
                    read_in_chunks(shown, (rows, columns), kept, index),
                    chunks=(rows, columns, 3), name=False, fancy=False,
                    meta=np.empty((0, 0, 0), np.uint8),
                )
            )  # fmt: skip
        _SHOWN[arrays[0].name] = self
        return arrays

    def _shown(self, index: int, rows: slice, columns: slice) -> RGB:
        pixels, damage = self._fetch(index, rows, columns, fill=DAMAGED_GREY)
        if damage is not None and not self._told_damage:
            self._told_damage = True
            warnings.warn(f"{damage} Such places are shown grey.", stacklevel=2)
        return pixels

    def close(self) -> None:
        """Close the file; reading afterwards is an error."""
        if not self._closed:
            self._closed = True
            self._origin.close()

    def __enter__(self) -> PyramidSlide:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _scales(self, level: int) -> tuple[float, float]:
        (height, width), (h, w) = self.shape_yx, self._levels[level].shape_yx
        return h / height, w / width

    def _read_level(
        self, index: int, y: int, x: int, height: int, width: int
    ) -> tuple[RGB, DamagedTileError | None]:
        self._check_size(height, width)
        level = self._levels[index]
        rows = slice(max(y, 0), min(y + height, level.shape_yx[0]))
        columns = slice(max(x, 0), min(x + width, level.shape_yx[1]))
        if rows.stop <= rows.start or columns.stop <= columns.start:
            self._check_open()
            return np.full((height, width, 3), 255, np.uint8), None
        inside, damage = self._fetch(index, rows, columns)
        if inside.shape[:2] == (height, width):
            return inside, damage
        out = np.full((height, width, 3), 255, np.uint8)
        out[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x] = inside
        return out, damage

    def _fetch(
        self, index: int, rows: slice, columns: slice, *, fill: int = 255
    ) -> tuple[RGB, DamagedTileError | None]:
        """Pixels inside a level, and the error of those that cannot be decoded."""
        self._check_open()
        level = self._levels[index]
        try:
            return level.fetch(rows, columns), None
        except BadFileError:
            one_piece = all(t >= n for t, n in zip(level.tile_yx, level.shape_yx, strict=True))
            if one_piece and self._origin.still_there():
                raise  # there is no rest
        # Not in the handler: what a decoder raised need not survive the way home from a worker.
        self._check_there()
        pixels, tiles, reason = fetch_around_damage(level, rows, columns, fill)
        if not tiles:
            return pixels, None  # it can be read after all
        self._check_there()
        regions = tuple(self._level_0(index, *tile) for tile in tiles)
        return pixels, DamagedTileError.at(regions, name=self.name, reason=reason)

    def _level_0(self, index: int, rows: slice, columns: slice) -> Region:
        """A tile of a level in level-0 pixels."""
        sy, sx = self._scales(index)
        y0, y1 = (round(at / sy) for at in (rows.start, rows.stop))
        x0, x1 = (round(at / sx) for at in (columns.start, columns.stop))
        return Region(y0, x0, y1 - y0, x1 - x0)

    def _check_open(self) -> None:
        if self._closed:
            raise BadFileError(f"{self.name} was closed; open it again to read from it.")

    def _check_there(self) -> None:
        if not self._origin.still_there():
            raise BadFileError(
                f"{self.name} is gone, or another file lies in its place, since it was opened "
                f"({self.path or self.name}). Check that the drive or the network is connected, "
                "and go on from there."
            )

    def _check_size(self, height: int, width: int) -> None:
        if height * width > LARGEST_READ_PX:
            raise BadPromptError(
                f"{height:,} × {width:,} pixels of {self.name} are asked for at once, and at most "
                f"{LARGEST_SIDE_PX:,} × {LARGEST_SIDE_PX:,} are read. Choose a smaller region, or "
                "a coarser level or resolution."
            )


def _sound(pixels: RGB, damage: DamagedTileError | None) -> RGB:
    """The pixels, or the error with the pixels in it."""
    if damage is None:
        return pixels
    damage.pixels = pixels
    raise damage


def _chunk(tile: int) -> int:
    """Whole tiles, about 1024 pixels: small enough to pan, large enough for dask."""
    return tile * max(1, round(1024 / tile)) if tile < 4096 else 4096
