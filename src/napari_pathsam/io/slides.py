"""Slides: pyramids of RGB pixels read piece by piece, whatever file they come from."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from numpy.typing import ArrayLike

from napari_pathsam.core.errors import BadFileError, BadImageError, UnavailableError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._files import existing_file, looks_like_text, starts_as_tiff
from napari_pathsam.io._identity import identity_of_file, identity_of_pixels
from napari_pathsam.io._levels import RGB, Level
from napari_pathsam.io._origin import Origin
from napari_pathsam.io._pyramid import Extras, PyramidSlide
from napari_pathsam.io.images import as_rgb, read_plain
from napari_pathsam.io.pixel_sizes import any_kept, kept_mpp

if TYPE_CHECKING:
    import dask.array as da

OPENSLIDE_FIRST = {".mrxs", ".vms", ".vmu", ".bif", ".scn", ".ndpi", ".svslide", ".dcm", ".czi"}
TIFFFILE_TOO = {".scn", ".ndpi"}
INDEX_FILES = {".vms", ".vmu"}
"""Text that lists the slide's files."""


LARGEST_MPP = 1000.0
"""Microns; a whole slide would be a few dozen pixels."""


class Slide(Protocol):
    """A picture at several resolutions; level 0 is the finest. Safe to read from any thread."""

    name: str
    path: Path | None
    mpp: float | None
    """Microns per level-0 pixel, as the file says, or somebody once told of this slide."""
    stored_levels: int
    """How many of the levels the file has; coarser ones are averaged when they are read."""

    @property
    def identity(self) -> str:
        """A digest of the content: the same after a copy, move or rename, else another."""
        ...

    @property
    def bounds(self) -> Region: ...
    @property
    def associated(self) -> tuple[str, ...]: ...
    @property
    def icc_profile(self) -> bytes | None: ...
    @property
    def shape_yx(self) -> tuple[int, int]: ...
    @property
    def level_shapes(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def level_downsamples(self) -> tuple[float, ...]: ...
    def read(self, region: Region, *, level: int = 0) -> RGB: ...
    def read_resampled(self, region: Region, shape_yx: tuple[int, int]) -> RGB: ...
    def read_associated(self, name: str) -> RGB: ...
    def in_srgb(self) -> Slide: ...
    def pyramid(self) -> list[da.Array]: ...
    def close(self) -> None: ...


class ArraySlide(PyramidSlide):
    """A picture in memory as a slide of one level."""

    def __init__(
        self,
        array: ArrayLike,
        *,
        mpp: float | None = None,
        name: str = "image",
        path: Path | None = None,
        extras: Extras | None = None,
    ) -> None:
        rgb = as_rgb(array, where=name)
        if mpp is not None and not 0 < mpp < LARGEST_MPP:
            raise BadImageError(
                f"{mpp:g} µm is no pixel size of {name}; it is above 0 (0.25 at 40x, 0.5 at 20x), "
                "or None when it is unknown."
            )
        level = Level((rgb.shape[0], rgb.shape[1]), (1024, 1024), lambda ys, xs: rgb[ys, xs])
        known = partial(identity_of_file, path) if path else partial(identity_of_pixels, rgb)
        super().__init__(
            [level], name=name, origin=Origin(known), path=path, mpp=mpp, extras=extras
        )


def open_slide(path: str | os.PathLike[str], *, icc: bool = False) -> Slide:
    """Open a picture or slide of any size, told by its content more than by its name.

    TIFF, OME-TIFF and Aperio SVS (tifffile), the other scanners' formats (OpenSlide), OME-Zarr
    0.4 and 0.5, and whatever Pillow reads.

    Parameters
    ----------
    path
        A file, a folder of OME-Zarr or DICOM, or the address (``https://…``) of an OME-Zarr,
        the only thing that is ever read from elsewhere.
    icc
        Apply the slide's colour profile, if it has one.

    Raises
    ------
    BadFileError, BadImageError
        Missing, damaged or foreign; not grey or RGB.
    UnavailableError
        The format needs OpenSlide, or an address fsspec, and it is not installed.
    """
    slide = _open(path)
    if slide.mpp is None and any_kept():
        slide.mpp = kept_mpp(slide.identity)
    return slide.in_srgb() if icc else slide


def _open(path: str | os.PathLike[str]) -> Slide:
    from napari_pathsam.io._ngff import address_of, is_zarr, open_ngff

    if (address := address_of(path)) is not None:
        return open_ngff(address)
    path = Path(path)
    if path.is_dir():
        if is_zarr(path):
            return open_ngff(path)
        path = min(path.glob("*.dcm"), default=path)  # OpenSlide finds the rest of the series
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
    rgb, mpp, profile = read_plain(path)
    extras = Extras(icc_profile=profile)
    return ArraySlide(rgb, mpp=mpp, name=path.name, path=path, extras=extras)
