"""Pixel sizes that a person told us because the file does not say them; kept for the next time."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_data_dir

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.io._files import replacing
from napari_pathsam.io.images import believable_mpp


def keep_mpp(identity: str, mpp: float | None) -> None:
    """Remember microns per pixel of a slide (:attr:`Slide.identity`); None forgets them.

    Raises
    ------
    BadFileError
        No microscope makes such pixels, or the user's data folder cannot be written.
    """
    path = _path(identity)
    if mpp is None:
        path.unlink(missing_ok=True)
        return
    if believable_mpp(mpp) is None:
        raise BadFileError(
            f"{mpp:g} µm is no pixel size of a slide and is not kept; they lie between 0.01 and "
            "20 µm (0.25 at 40x, 0.5 at 20x)."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(f"{mpp!r}\n")


def kept_mpp(identity: str) -> float | None:
    """Microns per pixel that somebody once told of this slide."""
    try:
        return believable_mpp(float(_path(identity).read_text()))
    except (OSError, ValueError):
        return None


def any_kept() -> bool:
    """Whether anything was ever kept; to look a slide up takes its identity, which takes time."""
    folder = _folder()
    return folder.is_dir() and any(folder.iterdir())


def _folder() -> Path:
    return Path(user_data_dir("napari-pathsam")) / "pixel_sizes"


def _path(identity: str) -> Path:
    return _folder() / identity
