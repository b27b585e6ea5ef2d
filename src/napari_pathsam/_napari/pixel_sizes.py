"""Pixel sizes typed into a dock, kept for the file behind the layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from napari_pathsam.core.errors import BadFileError, PathsamError
from napari_pathsam.io.pixel_sizes import any_kept, keep_mpp, kept_mpp

if TYPE_CHECKING:
    from napari.layers import Image


def keep_typed_mpp(image: Image | None, mpp: float | None, *, say: Callable[[str], None]) -> None:
    """Remember what somebody typed for an image whose file does not say it; ``say`` tells why not.

    An image without a file of its own, or from one that cannot be read, is not remembered.
    """
    identity = _identity_of(image) if image is not None else None
    if image is None or identity is None:
        return
    says_itself = all(unit.is_compatible_with("meter") for unit in image.units[-2:])
    if says_itself and kept_mpp(identity) is None:
        return
    try:
        keep_mpp(identity, mpp)
    except BadFileError as error:
        say(str(error))


def kept_mpp_of(image: Image) -> float | None:
    """What somebody once typed for the file behind a layer."""
    identity = _identity_of(image) if any_kept() else None
    return kept_mpp(identity) if identity else None


def _identity_of(image: Image) -> str | None:
    path = Path(str(image.metadata.get("path") or image.source.path or ""))
    if str(path) == "." or not path.exists():
        return None
    return _identity(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _identity(path: Path, _changed: int) -> str | None:
    from napari_pathsam.io.slides import open_slide

    try:
        slide = open_slide(path)
        try:
            return slide.identity
        finally:
            slide.close()
    except PathsamError:
        return None
