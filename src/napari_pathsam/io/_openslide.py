"""Scanner formats that only OpenSlide reads: MIRAX, Ventana, Hamamatsu, Leica, DICOM and others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.io._files import reading
from napari_pathsam.io._identity import identity_of_levels
from napari_pathsam.io.images import as_rgb, believable_mpp
from napari_pathsam.io.slides import RGB, Level, PyramidSlide

MANY_FILES = {".mrxs", ".vms", ".vmu", ".dcm"}


def open_openslide(path: Path) -> PyramidSlide:
    """Open a slide with OpenSlide; UnavailableError says what to install."""
    try:
        import openslide
    except (ImportError, OSError) as error:
        raise UnavailableError(
            f"{path.name} needs OpenSlide, which is not installed here ({error}). Install it with "
            "pip install openslide-python openslide-bin (or napari-pathsam[slides]), "
            "or convert the slide to a pyramidal OME-TIFF."
        ) from error
    with reading(path, "a slide"):
        slide = openslide.OpenSlide(path)
        levels = [_level(path, slide, index) for index in range(slide.level_count)]
        mpp = _mpp(slide.properties)
    # Of the formats that are one file the file tells more, and the same whoever reads it.
    many_files = path.suffix.lower() in MANY_FILES
    return PyramidSlide(
        levels,
        name=path.name,
        mpp=mpp,
        path=path,
        identify=partial(identity_of_levels, levels) if many_files else None,
        closer=slide.close,
    )


def _level(path: Path, slide: Any, index: int) -> Level:
    width, height = slide.level_dimensions[index]
    downsample = slide.level_downsamples[index]

    def tile(axis: str) -> int:
        return int(slide.properties.get(f"openslide.level[{index}].tile-{axis}", 512))

    def fetch(rows: slice, columns: slice) -> RGB:
        location = (round(columns.start * downsample), round(rows.start * downsample))
        size = (columns.stop - columns.start, rows.stop - rows.start)
        with reading(path, "a slide"):
            return as_rgb(np.asarray(slide.read_region(location, index, size)), where=path.name)

    return Level((height, width), (tile("height"), tile("width")), fetch)


def _mpp(properties: Any) -> float | None:
    try:
        return believable_mpp(*(float(properties[f"openslide.mpp-{axis}"]) for axis in "yx"))
    except (KeyError, ValueError):
        return None
