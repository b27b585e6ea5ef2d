"""Errors a user may see: one readable paragraph that says what came, what would do, what to try."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_pathsam.core.geometry import Region


SHORT_OF_MEMORY = re.compile(
    r"out of memory|(can't allocate|not enough) memory|bad_?alloc|alloc_failed"
    # oneDNN, on the CPU; of a "primitive descriptor" it says so where it has no such operation
    r"|could not (create|execute) a (primitive(?! descriptor)|memory)"
)

NO_MEMORY = (
    "There was not enough memory for that. Close other programs and images, zoom in to a smaller "
    "field, or take a smaller model or another device, and try again; nothing was changed."
)


class PathsamError(Exception):
    """Base of every error this package raises on purpose; its text is fit for a dialog."""


class BadImageError(PathsamError, ValueError):
    """Pixels that cannot be read as an image of tissue."""


class BadPromptError(PathsamError, ValueError):
    """A prompt that asks for nothing: outside the image, without area, empty."""


class BadFileError(PathsamError, ValueError):
    """A damaged, foreign or hostile file; nothing was changed."""


class BadWeightsError(PathsamError, ValueError):
    """Weights that are not what they should be: tampered, truncated, of another model."""


class UnavailableError(PathsamError, RuntimeError):
    """Something that must be fetched or installed first."""


class Cancelled(PathsamError):
    """Work that was stopped because the user asked for it; nothing half-done is left."""


class BadLabelsError(PathsamError, ValueError):
    """Labels that nothing can be learned from: empty, off the image, of one class only."""


class DamagedTileError(BadFileError):
    """Places of a slide that cannot be decoded; the rest of what was asked for is in it.

    Attributes
    ----------
    regions
        The damaged tiles, in level-0 pixels.
    pixels
        What was asked for, ``(H, W, 3)`` uint8, white where it is damaged.
    """

    regions: tuple[Region, ...] = ()
    pixels: NDArray[np.uint8] | None = None

    @classmethod
    def at(cls, regions: tuple[Region, ...], *, name: str, reason: str) -> DamagedTileError:
        """The error for a slide of this name."""
        first = regions[0]
        others = f", and in {len(regions) - 1} more" if len(regions) > 1 else ""
        error = cls(
            f"{name} is damaged: the tile at row {first.y}, column {first.x} "
            f"({first.height} × {first.width} pixels){others} could not be decoded ({reason}). "
            "The rest can be read. Copy or export the slide again if you need this place."
        )
        error.regions = regions
        return error


def out_of_memory(error: BaseException) -> bool:
    """Whether this is what NumPy, torch or a library under it raises when memory is short."""
    if isinstance(error, PathsamError):
        return False
    return isinstance(error, MemoryError) or bool(SHORT_OF_MEMORY.search(str(error).casefold()))


def readable(error: BaseException) -> str | None:
    """The paragraph of an error of ours, or of memory that was short; None: it was not foreseen."""
    if isinstance(error, PathsamError):
        return str(error)
    return NO_MEMORY if out_of_memory(error) else None


def what_is_wrong(error: Exception) -> str:
    """What does not fit, field by field; other errors as they are.

    Of a pydantic ``ValidationError``, whose own text is a dump with addresses.
    """
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    said = []
    for one in error.errors():
        where = ".".join(str(part) for part in one["loc"])
        what = str(one["msg"]).removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            what = "there is no such field"
        elif one["type"] == "missing":
            what = "it is missing"
        elif isinstance(given := one["input"], str | int | float):
            what = f"{what[0].lower()}{what[1:]}, not {given!r}"
        said.append(f"{where}: {what}" if where else what)
    return "; ".join(said)
