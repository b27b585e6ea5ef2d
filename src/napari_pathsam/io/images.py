"""Plain images: any array as RGB, image files, label images.

How values become 8 bits: ``uint8`` stays; anything else is divided by its full scale, which is
the smallest usual one (1 for floats and booleans, then 8, 10, 12, 14, 16 bits) that holds the
largest value, because cameras store 12 bits in 16. Contrast is never stretched: white stays the
white of the scanner, and two fields of one slide stay comparable.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_pathsam.core.classes import PALETTE, ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.io._files import (
    existing_file,
    reading,
    replacing,
    starts_as_tiff,
)

LARGEST_SIDE_PX = 16_384
"""Images up to this side are read whole; larger ones are slides."""

FULL_SCALES = (255, 1023, 4095, 16383, 65535)
OVERSHOOT = 0.05
"""Resampling overshoots black and white by a little; more than this is another kind of data."""

RGB = NDArray[np.uint8]


def as_rgb(array: ArrayLike, *, where: str = "image", full_scale: float | None = None) -> RGB:
    """Any picture as RGB.

    Parameters
    ----------
    array
        ``(H, W)``, ``(H, W, 1 … 4)`` or channels first ``(3 or 4, H, W)``, of any real type.
        A second or fourth channel is alpha and is laid over white. NaN (no data) becomes white,
        as glass is; infinities are clipped.
    where
        How an error calls the picture.
    full_scale
        The value that is white, when it is known; the module's docstring says how it is found.

    Returns
    -------
    ``(H, W, 3)`` uint8; the array itself when it is that already.

    Raises
    ------
    BadImageError
        When it is empty, not a picture, all NaN, or has values below zero.
    """
    pixels = _channels_last(np.asarray(array), where)
    values = pixels if pixels.dtype == np.uint8 else _eight_bit(pixels, where, full_scale)
    channels = values.shape[2]
    if channels in (2, 4):
        opacity = values[..., -1:].astype(np.float32) / 255
        values = np.rint(values[..., :-1] * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return values if values.shape[2] == 3 else np.repeat(values, 3, axis=2)


def full_scale_of(values: NDArray) -> float:
    """The value that means white in data like these (see the module's docstring)."""
    if values.dtype == np.bool_:
        return 1.0
    if values.dtype == np.uint8:
        return 255.0
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    top = float(finite.max()) if finite.size else 1.0
    if values.dtype.kind == "f" and top <= 1 + OVERSHOOT:
        return 1.0
    return float(next((scale for scale in FULL_SCALES if top <= scale), top))


def _channels_last(array: NDArray, where: str) -> NDArray:
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.dtype.kind not in "buif":
        raise BadImageError(
            f"The {where} holds values of the type {array.dtype}; whole or real numbers are "
            "wanted, as in a grey or RGB picture."
        )
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
        raise BadImageError(
            f"The {where} has the shape {array.shape}; a grey (H, W) or an RGB (H, W, 3) picture "
            "is wanted. Of a stack choose one plane, of many channels up to three."
        )
    if 0 in array.shape:
        raise BadImageError(
            f"The {where} has the shape {array.shape[:2]} and so no pixels; it needs at least "
            "one each way."
        )
    return array


def _eight_bit(pixels: NDArray, where: str, full_scale: float | None) -> RGB:
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels)
        if not finite.any():
            raise BadImageError(f"The {where} holds no finite value, only NaN or infinity.")
        alpha = pixels.shape[2] in (2, 4)
        colors = pixels[..., :-1] if alpha else pixels
        scale = np.full(pixels.shape[2], full_scale or full_scale_of(colors), np.float32)
        if alpha:
            scale[-1] = full_scale_of(pixels[..., -1])
        low, top = float(pixels[finite].min()), float(pixels[finite].max())
    else:
        scale = np.full(1, full_scale or full_scale_of(pixels), np.float32)
        low, top = float(pixels.min()), float(pixels.max())
    if low < -OVERSHOOT * max(top, OVERSHOOT * float(scale[0])):
        raise BadImageError(
            f"The {where} has values down to {low:g}, and light is never below zero; it may have "
            "been normalised. Bring it to 0 … 1 or 0 … 255 first."
        )
    values = pixels.astype(np.float32) / np.maximum(scale, np.finfo(np.float32).tiny)
    values = np.nan_to_num(values, copy=False, nan=1.0, posinf=1.0, neginf=0.0)
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def believable_mpp(y: float, x: float | None = None) -> float | None:
    """The mean pixel size in µm, or None when no microscope makes such pixels (72 dpi …)."""
    mpp = (y + (y if x is None else x)) / 2
    return float(mpp) if 0.01 < mpp < 20 else None


def read_rgb(path: str | os.PathLike[str]) -> tuple[RGB, float | None]:
    """Read a picture whole: PNG, JPEG, WebP, BMP …, TIFF, or a slide that is small enough.

    Returns
    -------
    ``(H, W, 3)`` uint8, and its pixel size in µm where the file says so believably.

    Raises
    ------
    BadFileError, BadImageError
        Missing, damaged or foreign; more than 16,384 pixels a side; not a picture.
    """
    from napari_pathsam.core.geometry import Region
    from napari_pathsam.io.slides import open_slide

    slide = open_slide(path)
    try:
        _check_side(Path(path).name, slide.shape_yx)
        return slide.read(Region.of(slide.shape_yx)), slide.mpp
    finally:
        slide.close()


def read_plain(path: Path) -> tuple[RGB, float | None, bytes | None]:
    """What Pillow reads, first frame: RGB, pixel size, colour profile.

    :func:`read_rgb` is for everybody else.
    """
    from PIL import Image

    try:
        with reading(path, "an image"), Image.open(path) as image:
            _check_side(path.name, (image.height, image.width))
            # A photograph's turn by EXIF is left undone: its label image is not turned either.
            dpi = image.info.get("dpi")
            rgb = as_rgb(_pixels(image), where=path.name)
            return rgb, _mpp_of_dpi(dpi), image.info.get("icc_profile")
    except BadFileError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise _too_large(path.name, "more than 178 million pixels") from error
        raise


def _pixels(image: Any) -> NDArray:
    if image.mode == "P" or (image.mode in ("L", "RGB") and "transparency" in image.info):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "PA", "La", "RGBa"):
        image = image.convert("RGBA" if image.mode in ("PA", "La", "RGBa") else "RGB")
    return np.asarray(image)


def _mpp_of_dpi(dpi: Any) -> float | None:
    try:
        x, y = (25_400 / float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return believable_mpp(y, x)


def _check_side(name: str, shape_yx: tuple[int, int]) -> None:
    if max(shape_yx) > LARGEST_SIDE_PX:
        raise _too_large(name, f"{shape_yx[0]} × {shape_yx[1]} pixels")


def _too_large(name: str, how_large: str) -> BadImageError:
    return BadImageError(
        f"{name} has {how_large}, too many to read whole (at most {LARGEST_SIDE_PX} a side). "
        "Give a region of it, or convert it to a pyramidal TIFF or OME-Zarr and open that."
    )


def read_labels(path: str | os.PathLike[str]) -> NDArray[np.integer]:
    """Read a label image ``(H, W)``: grey or palette PNG, BMP, TIFF …; ids as they are stored.

    Raises
    ------
    BadFileError, BadImageError
        Colours where ids are wanted, fractions, negative ids, several planes.
    """
    path = existing_file(path, wanted="a label image")
    with reading(path, "a label image"):
        labels = _stored_values(path)
    labels = np.squeeze(labels) if labels.ndim > 3 else labels
    if labels.ndim == 3 and labels.shape[2] in (3, 4):
        if (labels[..., :3] != labels[..., :1]).any():
            raise BadImageError(
                f"{path.name} is a colour picture; a label image has one number a pixel. "
                "Export ids or classes as a grey or palette image (PNG or TIFF)."
            )
        labels = labels[..., 0]
    labels = labels.squeeze(2) if labels.ndim == 3 and labels.shape[2] == 1 else labels
    if labels.ndim != 2 or labels.size == 0:
        raise BadImageError(
            f"{path.name} has the shape {labels.shape}; a label image (H, W) is wanted."
        )
    return _whole_numbers(labels, path.name)


def _stored_values(path: Path) -> NDArray:
    if starts_as_tiff(path):
        import tifffile

        with tifffile.TiffFile(path) as tif:
            _check_side(path.name, (tif.pages.first.imagelength, tif.pages.first.imagewidth))
            return np.asarray(tif.asarray())
    from PIL import Image

    with Image.open(path) as image:
        _check_side(path.name, (image.height, image.width))
        return np.asarray(image)


def _whole_numbers(labels: NDArray, name: str) -> NDArray[np.integer]:
    if labels.dtype.kind == "b":
        return labels.astype(np.uint8)
    if labels.dtype.kind == "f":
        whole = np.isfinite(labels).all() and (labels == np.rint(labels)).all()
        if not whole or np.abs(labels).max() > 2**31 - 1:
            raise BadImageError(
                f"{name} holds fractions; labels are whole numbers. It may be a probability map."
            )
        labels = labels.astype(np.int32)
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise BadImageError(f"{name} holds {labels.dtype} values below 0; ids begin with 0.")
    return labels


def write_labels(
    path: str | os.PathLike[str], labels: NDArray, classes: ClassTable | None = None
) -> None:
    """Write a label map ``(H, W)`` as ``.png`` or ``.tif``, in the smallest type that holds it.

    With ``classes`` the file is given their colours (a palette; ids stay what they are), and a
    TIFF their names too.
    """
    path = Path(path)
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "biu":
        raise BadImageError(
            f"Labels of the shape {labels.shape} and type {labels.dtype} cannot be written; "
            "whole numbers (H, W) can."
        )
    labels = _smallest_type(labels)
    palette = _palette(classes) if classes is not None and labels.dtype == np.uint8 else None
    if path.suffix.lower() == ".png":
        _write_png(path, labels, palette)
    elif path.suffix.lower() in (".tif", ".tiff"):
        _write_tiff(path, labels, palette, classes)
    else:
        raise BadFileError(
            f"{path.name} ends in {path.suffix or 'nothing'}; label images are written as "
            ".png or .tif, outlines as .geojson."
        )


def _smallest_type(labels: NDArray) -> NDArray[np.unsignedinteger]:
    low, top = int(labels.min()), int(labels.max())
    if low < 0 or top > 2**32 - 1:
        raise BadImageError(f"Ids from {low} to {top} cannot be written; they begin with 0.")
    return labels.astype(np.uint8 if top < 256 else np.uint16 if top < 65536 else np.uint32)


def _palette(classes: ClassTable) -> NDArray[np.uint8]:
    palette = np.zeros((256, 3), np.uint8)
    for index in range(1, 256):
        palette[index] = list(bytes.fromhex(PALETTE[(index - 1) % len(PALETTE)][1:]))
    for info in classes:
        palette[info.id] = list(bytes.fromhex(info.color[1:]))
    return palette


def _write_png(path: Path, labels: NDArray, palette: NDArray[np.uint8] | None) -> None:
    from PIL import Image

    if labels.dtype == np.uint32:
        raise BadFileError(
            f"{path.name}: a PNG holds ids up to 65,535, and there are some up to {labels.max()}. "
            "Write a .tif."
        )
    image = Image.fromarray(labels)
    if palette is not None:
        image.putpalette(palette.tobytes())
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")


def _write_tiff(
    path: Path, labels: NDArray, palette: NDArray[np.uint8] | None, classes: ClassTable | None
) -> None:
    import tifffile

    options: dict[str, Any] = {"photometric": "minisblack"}
    if palette is not None:
        options = {"photometric": "palette", "colormap": palette.T.astype(np.uint16) * 257}
    metadata = {"axes": "YX"}
    if classes is not None:
        metadata["classes"] = classes.to_csv()
    with replacing(path) as temporary:
        tifffile.imwrite(temporary, labels, compression="zlib", metadata=metadata, **options)
