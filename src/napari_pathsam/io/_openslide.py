"""Scanner formats that only OpenSlide reads: MIRAX, Ventana, Hamamatsu, Leica, DICOM and others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._files import reading
from napari_pathsam.io._identity import identity_of_levels
from napari_pathsam.io._levels import RGB, Level
from napari_pathsam.io._origin import Origin
from napari_pathsam.io._pyramid import Extras, PyramidSlide
from napari_pathsam.io.images import as_rgb, believable_mpp

MANY_FILES = {".mrxs", ".vms", ".vmu", ".dcm"}


class _Handle:
    """An open slide, opened anew after an error: OpenSlide answers nothing more after one."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        self.now = _opened(path)

    def pixels(self, location_xy: tuple[int, int], level: int, size_xy: tuple[int, int]) -> RGB:
        """A region of a level, which begins at level-0 pixels."""
        used = self.now
        with reading(self._path, "a slide"):
            try:
                found = np.asarray(used.read_region(location_xy, level, size_xy))
            except Exception:
                self._renew(used)
                raise
        return as_rgb(found, where=self._path.name)

    def associated(self, name: str) -> RGB:
        """A picture beside the slide."""
        with reading(self._path, "a slide"):
            return as_rgb(np.asarray(self.now.associated_images[name]), where=self._path.name)

    def close(self) -> None:
        self.now.close()

    def _renew(self, broken: Any) -> None:
        with self._lock:
            if self.now is broken:  # and no other thread was faster
                self.now = _opened(self._path)  # the old one is closed when nobody reads from it


def _opened(path: Path) -> Any:
    try:
        import openslide
    except (ImportError, OSError) as error:
        raise UnavailableError(
            f"{path.name} needs OpenSlide, which is not installed here ({error}). Install it with "
            "pip install openslide-python openslide-bin (or napari-pathsam[slides]), "
            "or convert the slide to a pyramidal OME-TIFF."
        ) from error
    return openslide.OpenSlide(path)


def open_openslide(path: Path) -> PyramidSlide:
    """Open a slide with OpenSlide; UnavailableError says what to install."""
    with reading(path, "a slide"):
        handle = _Handle(path)
        slide = handle.now
        levels = [_level(handle, slide, index) for index in range(slide.level_count)]
        profile = slide.color_profile
        extras = Extras(
            bounds=_bounds(slide.properties),
            associated={n: partial(handle.associated, n) for n in slide.associated_images},
            icc_profile=profile.tobytes() if profile is not None else None,
        )
        # Of the formats that are one file the file tells more, and the same whoever reads it.
        many_files = path.suffix.lower() in MANY_FILES
        known = partial(identity_of_levels, levels) if many_files else None
        return PyramidSlide(
            levels,
            name=path.name,
            origin=Origin.file(path, identify=known, close=handle.close),
            path=path,
            mpp=_mpp(slide.properties),
            extras=extras,
        )


def _level(handle: _Handle, slide: Any, index: int) -> Level:
    width, height = slide.level_dimensions[index]
    downsample = slide.level_downsamples[index]

    def tile(axis: str) -> int:
        return int(slide.properties.get(f"openslide.level[{index}].tile-{axis}", 512))

    def fetch(rows: slice, columns: slice) -> RGB:
        location = (round(columns.start * downsample), round(rows.start * downsample))
        size = (columns.stop - columns.start, rows.stop - rows.start)
        return handle.pixels(location, index, size)

    return Level((height, width), (tile("height"), tile("width")), fetch)


def _mpp(properties: Any) -> float | None:
    try:
        return believable_mpp(*(float(properties[f"openslide.mpp-{axis}"]) for axis in "yx"))
    except (KeyError, ValueError):
        return None


def _bounds(properties: Any) -> Region | None:
    try:
        return Region(
            *(int(properties[f"openslide.bounds-{n}"]) for n in ("y", "x", "height", "width"))
        )
    except (KeyError, ValueError):
        return None
