"""A field of an image as a promptable model wants it: alone, or with what is round it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region
from napari_pathsam.models.wsi_sam_fields import Read, read_surroundings

if TYPE_CHECKING:
    from napari_pathsam.models.embedding import ImageEmbedding
    from napari_pathsam.models.promptable import Promptable


def surroundings_for(
    model: Any, read: Read, image_yx: tuple[int, int], field: Region, shape_yx: tuple[int, int]
) -> NDArray[np.uint8] | None:
    """What is round a field, for a model that looks at it (:class:`WsiSam`); None for others.

    Parameters
    ----------
    read
        The image's pixels: of a slide ``read_resampled``, of an ``ImageSource`` ``read``.
    image_yx
        The image's level-0 shape: what lies beyond is not read.
    field, shape_yx
        Level-0 pixels, and the pixels they are encoded at.
    """
    factor: float | None = getattr(model, "context_factor", None)
    if factor is None:
        return None
    return read_surroundings(read, image_yx, field, shape_yx, factor)


def encode_field(
    model: Promptable,
    read: Read,
    image_yx: tuple[int, int],
    field: Region,
    shape_yx: tuple[int, int],
    *,
    mpp: float | None,
) -> ImageEmbedding:
    """Read a field of an image, its surroundings where the model looks at them, and encode it.

    Arguments as those of :func:`surroundings_for`; ``mpp`` is the pixel size kept with it.
    """
    around = surroundings_for(model, read, image_yx, field, shape_yx)
    more: dict[str, Any] = {} if around is None else {"surroundings": around}
    return model.encode(np.array(read(field, shape_yx)), mpp=mpp, **more)
