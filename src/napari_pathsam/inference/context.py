"""A field of an image as a promptable model wants it: alone, or with what is round it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_pathsam.core.geometry import Region
from napari_pathsam.models.wsi_sam_fields import Read, read_surroundings

if TYPE_CHECKING:
    from napari_pathsam.models.embedding import ImageEmbedding
    from napari_pathsam.models.promptable import Promptable


def encode_field(
    model: Promptable,
    read: Read,
    image_yx: tuple[int, int],
    field: Region,
    shape_yx: tuple[int, int],
    *,
    mpp: float | None,
    context: bool = True,
) -> ImageEmbedding:
    """Read a field of an image, its surroundings where the model looks at them, and encode it.

    Parameters
    ----------
    read
        The image's pixels: of a slide ``read_resampled``, of an ``ImageSource`` ``read``.
    image_yx
        The image's level-0 shape: what lies beyond is not read.
    field, shape_yx
        Level-0 pixels, and the pixels they are encoded at.
    mpp
        Pixel size of the field as it is encoded.
    context
        False: the surroundings are not shown, whatever the model.
    """
    image = np.array(read(field, shape_yx))
    factor: float | None = getattr(model, "context_factor", None)
    if factor is None or not context:
        return model.encode(image, mpp=mpp)
    around = read_surroundings(read, image_yx, field, shape_yx, factor)
    return model.encode(image, mpp=mpp, surroundings=around)  # type: ignore[call-arg]
