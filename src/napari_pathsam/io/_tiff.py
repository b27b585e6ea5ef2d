"""TIFF, OME-TIFF and Aperio SVS by tifffile; the pixel size wherever the writers put it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.io._files import reading
from napari_pathsam.io._layout import Layout, layout_of
from napari_pathsam.io._levels import RGB, Level
from napari_pathsam.io._origin import Origin
from napari_pathsam.io._pyramid import Extras, PyramidSlide
from napari_pathsam.io._units import microns_in
from napari_pathsam.io.images import as_rgb, believable_mpp, full_scale_of

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB_COLORS, PALETTE, YCBCR = 0, 1, 2, 3, 6
JPEG = (6, 7, 33007, 34892)
APERIO_YCBCR = 33003
WORKERS = 4
"""More than one: tiles are decoded in the threads of a pool."""
WHOLE_PX = 4096**2
"""An image without tiles is decoded at once, and kept, up to this size."""


def open_tiff(path: Path) -> PyramidSlide:
    """Open a TIFF of any kind as a slide (see :func:`napari_pathsam.io.slides.open_slide`)."""
    import tifffile

    with reading(path, "a TIFF"):
        tif = tifffile.TiffFile(path)
        tif.filehandle.set_lock(True)  # read from any thread
        try:
            main = _main_series(tif)
            if main.keyframe.compression == APERIO_YCBCR or tif.is_bif:
                from napari_pathsam.io._openslide import open_openslide

                tif.close()  # only OpenSlide knows the colours of these, and how tiles overlap
                return open_openslide(path)
            stored = _stored_levels(tif, main)
            _check_complete(path, stored)
            extras = Extras(
                associated=_associated(path, tif, stored), icc_profile=main.keyframe.iccprofile
            )
            return PyramidSlide(
                [_level(path, level) for level in stored],
                name=path.name,
                origin=Origin.file(path, close=tif.close),
                path=path,
                mpp=mpp_of(tif, main),
                extras=extras,
            )
        except BaseException:
            tif.close()
            raise


def _main_series(tif: Any) -> Any:
    """The largest picture of the file: not the label, the macro image or the thumbnail."""
    series = [one for one in tif.series if "Y" in one.axes and "X" in one.axes and one.size]
    if not series:
        raise BadFileError(
            f"{tif.filename} begins as a TIFF but holds no picture: it was cut off, or holds "
            "something else. Copy it again, and compare the sizes."
        )
    return max(series, key=lambda one: int(np.prod(_size_yx(one))))


def _size_yx(series: Any) -> tuple[int, int]:
    axes = series.axes
    return int(series.shape[axes.index("Y")]), int(series.shape[axes.index("X")])


def _stored_levels(tif: Any, main: Any) -> list[Any]:
    """The main picture's levels: its sub-images, or smaller pictures of the same proportions."""
    levels = list(main.levels)
    if len(levels) == 1 and not tif.is_svs:
        levels += [
            one
            for one in tif.series
            if one.axes == main.axes
            and one.dtype == main.dtype
            and (one.keyframe.is_tiled or one.keyframe.is_reduced)
        ]
    chosen = levels[:1]
    for level in sorted(levels[1:], key=lambda one: -_size_yx(one)[0]):
        if _is_coarser(_size_yx(level), _size_yx(chosen[-1]), _size_yx(chosen[0])):
            chosen.append(level)
    return chosen


def _check_complete(path: Path, stored: Sequence[Any]) -> None:
    """Refuse a file that ends before its pixels do."""
    size = path.stat().st_size
    ends = [
        np.add(level.keyframe.dataoffsets, level.keyframe.databytecounts).max(initial=0)
        for level in stored
    ]
    if (wanted := int(max(ends))) > size:
        raise BadFileError(
            f"{path.name} was cut off: its pixels reach to byte {wanted:,}, and the file ends at "
            f"{size:,}. A copy or download was interrupted; copy it again, and compare the sizes."
        )


def _associated(path: Path, tif: Any, stored: Sequence[Any]) -> dict[str, Callable[[], RGB]]:
    """The small pictures beside the slide, by name: label, macro, thumbnail."""
    levels = {level.keyframe.offset for level in stored}
    found: dict[str, Callable[[], RGB]] = {}
    for index, series in enumerate(tif.series):
        if series.keyframe.offset in levels or {"Y", "X"} - set(series.axes):
            continue
        height, width = _size_yx(series)
        if 0 < height * width <= WHOLE_PX:
            name = str(series.name or "").strip().lower() or f"picture {index}"
            name = f"{name} {index}" if name in found else name
            found[name] = partial(_whole, path, series)
    return found


def _whole(path: Path, series: Any) -> RGB:
    level = _level(path, series)
    return level.fetch(slice(0, level.shape_yx[0]), slice(0, level.shape_yx[1]))


def _is_coarser(size: Sequence[int], than: Sequence[int], finest: Sequence[int]) -> bool:
    """Whether a size is the finest one, divided and rounded, and clearly below another."""
    if size[0] > 0.8 * than[0] and size[1] > 0.8 * than[1]:
        return False
    low = max(n / (m + 1) for n, m in zip(finest, size, strict=True))
    high = min(n / max(m - 1, 0.5) for n, m in zip(finest, size, strict=True))
    return low <= high * 1.02


def _level(path: Path, stored: Any) -> Level:
    keyframe = stored.keyframe
    layout = layout_of(stored.axes, stored.shape, where=path.name)
    array, tile_yx = _array(stored, layout)
    raw = _reader(
        path, array, layout, has_alpha=any(int(e) in (1, 2) for e in keyframe.extrasamples)
    )
    colors = _colors(path, keyframe)
    shape_yx = _size_yx(stored)
    eight_bit = colors is not None or stored.dtype == np.uint8
    scale = None if eight_bit else _scale(raw, shape_yx)

    def fetch(rows: slice, columns: slice) -> RGB:
        piece = raw(rows, columns)
        return as_rgb(piece if colors is None else colors(piece), where=path.name, full_scale=scale)

    return Level(shape_yx, tile_yx, fetch)


def _array(
    stored: Any, layout: Layout
) -> tuple[Callable[[tuple[Any, ...]], NDArray], tuple[int, int]]:
    """What to index, and its tile; an image in one piece is decoded once, when first asked for."""
    shape_yx = _size_yx(stored)
    if not stored.keyframe.is_tiled and shape_yx[0] * shape_yx[1] <= WHOLE_PX:
        from functools import cache

        whole = cache(stored.asarray)
        return (lambda index: whole()[index]), shape_yx
    import zarr

    fill = {"fillvalue": 255} if stored.dtype == np.uint8 else {}  # tiles never scanned are glass
    # One level at a time: the group of all levels has its keys unsorted. With one worker zarr's
    # only thread would decode every tile, whoever asks for it.
    store = stored.aszarr(level=0, maxworkers=WORKERS, **fill)
    array: Any = zarr.open(store, mode="r")
    tile_yx = (int(array.chunks[layout.y]), int(array.chunks[layout.x]))
    return array.__getitem__, tile_yx


def _reader(
    path: Path, array: Callable[..., NDArray], layout: Layout, *, has_alpha: bool
) -> Callable[[slice, slice], NDArray]:
    def raw(rows: slice, columns: slice) -> NDArray:
        with reading(path, "a TIFF"):
            piece = layout.channels_last(np.asarray(array(layout.index(rows, columns))))
        if piece.ndim == 3 and piece.shape[2] in (2, 4) and not has_alpha:
            piece = piece[..., :-1]
        return piece

    return raw


def _colors(path: Path, keyframe: Any) -> Callable[[NDArray], NDArray] | None:
    """What turns stored values into colours, when they are not grey or RGB already."""
    photometric = int(keyframe.photometric)
    if photometric == PALETTE and keyframe.colormap is not None:
        table = (np.asarray(keyframe.colormap) // 257).astype(np.uint8).T
        return lambda piece: table[piece]
    if photometric == WHITE_IS_ZERO and np.dtype(keyframe.dtype).kind == "u":
        top = 2**keyframe.bitspersample - 1
        full = 255 / top
        return lambda piece: np.rint((top - piece) * full).astype(np.uint8)
    jpeg = int(keyframe.compression) in JPEG
    if photometric in (BLACK_IS_ZERO, RGB_COLORS) or jpeg or keyframe.samplesperpixel == 1:
        return None
    raise BadImageError(
        f"{path.name} stores its colours as {keyframe.photometric.name}; RGB is wanted. "
        "Convert it to an RGB TIFF or PNG."
    )


def _scale(raw: Callable[[slice, slice], NDArray], shape_yx: tuple[int, int]) -> float:
    """One full scale for the whole slide, from its middle, so that every field is alike."""
    rows, columns = (slice(max(0, n // 2 - 1024), min(n, n // 2 + 1024)) for n in shape_yx)
    return full_scale_of(raw(rows, columns))


# --- pixel size ----------------------------------------------------------------------------------


def mpp_of(tif: Any, series: Any) -> float | None:
    """The pixel size in µm: OME-XML, a scanner's description, ImageJ, then the resolution tags."""
    description = str(tif.pages.first.description or "")
    return (
        _ome_mpp(tif, _size_yx(series))
        or _described_mpp(description)
        or _imagej_mpp(tif)
        or _resolution_mpp(series.keyframe)
    )


def _ome_mpp(tif: Any, shape_yx: tuple[int, int]) -> float | None:
    if not tif.is_ome:
        return None
    try:
        root = ElementTree.fromstring(tif.ome_metadata)
    except (ElementTree.ParseError, TypeError, ValueError):
        return None
    every = [element for element in root.iter() if element.tag.endswith("Pixels")]
    fitting = [e for e in every if (e.get("SizeY"), e.get("SizeX")) == tuple(map(str, shape_yx))]
    for pixels in fitting or every[:1]:
        sizes = [_microns(pixels, axis) for axis in "YX"]
        if None not in sizes:
            return believable_mpp(*sizes)  # type: ignore[arg-type]
    return None


def _microns(pixels: ElementTree.Element, axis: str) -> float | None:
    unit = microns_in(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    value = _number(pixels.get(f"PhysicalSize{axis}"))
    return value * unit if value is not None and unit is not None else None


def _described_mpp(description: str) -> float | None:
    """Aperio's ``MPP = 0.499``, libvips' copy of OpenSlide's property, Philips' spacing in mm."""
    for pattern, factor in (
        (r"\bMPP\s*=\s*([0-9.eE+-]+)", 1.0),
        (r"openslide\.mpp-x</name>\s*<value[^>]*>([0-9.eE+-]+)", 1.0),
        (r'DICOM_PIXEL_SPACING"[^>]*>\s*(?:"|&quot;)?([0-9.eE+-]+)', 1e3),
    ):
        if (found := re.search(pattern, description)) and (value := _number(found[1])) is not None:
            return believable_mpp(value * factor)
    return None


def _imagej_mpp(tif: Any) -> float | None:
    named = str((tif.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ")
    unit, pixels = microns_in(named), _resolution(tif.pages.first)
    return believable_mpp(*(unit / n for n in pixels)) if pixels and unit else None


def _resolution_mpp(keyframe: Any) -> float | None:
    """The resolution tags; the meaningless 72 or 96 dpi are not believable."""
    unit = keyframe.tags.get("ResolutionUnit")
    microns = {2: 25_400.0, 3: 10_000.0}.get(int(unit.value) if unit else 2)
    pixels = _resolution(keyframe)
    return believable_mpp(*(microns / n for n in pixels)) if pixels and microns else None


def _resolution(page: Any) -> tuple[float, float] | None:
    try:
        (a, b), (c, d) = (page.tags[f"{axis}Resolution"].value for axis in "YX")
        pixels = (a / b, c / d)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return pixels if min(pixels) > 0 else None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def is_rgb_with_pixel_size(path: Path) -> bool:
    """Whether a TIFF is Aperio's, or an RGB OME-TIFF that names its pixel size."""
    import tifffile

    with reading(path, "a TIFF"), tifffile.TiffFile(path) as tif:
        if tif.is_svs:
            return True
        main = _main_series(tif)
        colors = main.keyframe.samplesperpixel >= 3
        return bool(tif.is_ome and colors and _ome_mpp(tif, _size_yx(main)))
